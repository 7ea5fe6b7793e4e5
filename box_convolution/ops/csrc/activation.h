// The C interface of the addition and activation that follow a convolution in inference, in one pass and in place.
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

// image[p][c] = activation(image[p][c] [+ residual[p][c]]), contiguous. The activation is max(value, 0); with slopes, a
// negative value becomes value * slopes[c].
typedef struct {
  int64_t pixels, channels;
  float* image;
  const float* residual;  // or NULL
  const float* slopes;    // or NULL
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxActivation;

// Returns a BoxStatus.
BOX_API int32_t box_activation(const BoxActivation* arguments);

#ifdef __cplusplus
}
#endif
