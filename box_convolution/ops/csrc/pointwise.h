// The C interface of a 1x1 convolution from NHWC (channels_last) to NCHW (contiguous) in inference, with a ReLU after it: in
// NCHW, a box convolution reads its input fastest.
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

// planes[b][k][p] = [relu](bias[k] + sum over c of weight[k][c] * image[b][p][c]), all contiguous. Each sum is made in the
// order of its channels, so that results depend neither on threads nor on the number of pixels.
typedef struct {
  int64_t batch, pixels, channels, outputs;
  const float* image;
  const float* weight;
  const float* bias;
  float* planes;
  BoxMagnitude* magnitudes;  // of the planes, (batch, outputs), or NULL
  int32_t relu;
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxPointwise;

// Returns a BoxStatus. Only AVX2 and AVX-512 have a kernel.
BOX_API int32_t box_pointwise(const BoxPointwise* arguments);

#ifdef __cplusplus
}
#endif
