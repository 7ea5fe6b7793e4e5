// The C interface of a transposed convolution with 2x2 pixels and stride 2, in NHWC (channels_last), in inference: the last
// layer of many segmentation networks.
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

// output[b][2 * i + dy][2 * j + dx][k] = bias[k] + sum over c of weight[c][k][dy][dx] * image[b][i][j][c], all contiguous.
// Each sum is made in the order of its channels.
typedef struct {
  int64_t batch, h, w, channels, outputs;
  const float* image;
  const float* weight;
  const float* bias;
  float* output;
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxTransposed2x2;

// Returns a BoxStatus. Only AVX2 and AVX-512 have a kernel.
BOX_API int32_t box_transposed_2x2(const BoxTransposed2x2* arguments);

#ifdef __cplusplus
}
#endif
