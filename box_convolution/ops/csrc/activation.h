// The C interface of the addition and activation that follow a convolution in inference, in one pass and in place.
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

// NHWC: image[p][c] = activation(image[p][c] [+ residual[p][c]]), contiguous. The activation is max(value, 0); with slopes,
// a negative value becomes value * slopes[c].
// NCHW, where there is a bias: image[p][i] = max(image[p][i] + bias[p % biases], 0). Then ``pixels`` is the number of planes p
// and ``channels`` the number of pixels i in a plane.
typedef struct {
  int64_t pixels, channels;
  int64_t biases;
  float* image;
  const float* bias;      // or NULL; with a bias there are no residual and no slopes
  const float* residual;  // or NULL
  const float* slopes;    // or NULL
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxActivation;

BOX_API void box_activation(const BoxActivation* arguments);

#ifdef __cplusplus
}
#endif
