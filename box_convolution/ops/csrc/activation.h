// The C interface of what follows a convolution in inference: an addition and an activation, in one pass and in place.
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

// image[p][c] = activation(image[p][c] [+ residual[p][c]]), contiguous: max(value, 0), or value * slopes[c] where it is
// negative. With planes in place of pixels, image[p][i] = max(image[p][i] + bias[p % biases], 0).
typedef struct {
  int64_t pixels, channels;
  int64_t biases;
  float* image;
  const float* bias;      // or NULL; then there are no residual and no slopes
  const float* residual;  // or NULL
  const float* slopes;    // or NULL
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxActivation;

BOX_API void box_activation(const BoxActivation* arguments);

#ifdef __cplusplus
}
#endif
