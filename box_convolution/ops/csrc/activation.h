// The C interface of what ends a block in inference: an addition and an activation, in one pass and in place.
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

// image[p][c] = activation(image[p][c] [+ residual[p][c]]), contiguous: max(value, 0), or value * slopes[c] where it is
// negative.
typedef struct {
  int64_t pixels, channels;
  float* image;
  const float* residual;  // or NULL
  const float* slopes;    // or NULL
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxActivation;

BOX_API void box_activation(const BoxActivation* arguments);

#ifdef __cplusplus
}
#endif
