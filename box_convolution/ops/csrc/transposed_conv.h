// The C interface of a transposed convolution with stride 2, in NHWC (channels_last), in inference: the last layer of many
// segmentation networks. It doubles the resolution.
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

// With size 2, output[b][2 * i + y][2 * j + x][k] = bias[k] + sum over c of weight[c][k][y][x] * image[b][i][j][c].
// With size 3, output[b][i'][j'][k] = bias[k] + sum over c, y and x of weight[c][k][y][x] * image[b][i][j][c] where
// i' = 2 * i - 1 + y and j' = 2 * j - 1 + x, and the output has twice as many rows and columns as the image.
// All contiguous. The order of a sum depends on the sizes alone. A pixel that is not finite may also make the outputs to the
// left of those that see it NaN, and a weight that is not finite those of the last column.
typedef struct {
  int64_t batch, h, w, channels, outputs;
  const float* image;
  const float* weight;  // (channels, outputs, size, size)
  const float* bias;
  float* output;
  int32_t size;  // 2 or 3
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxTransposedConv;

// Returns a BoxStatus. Only AVX2 and AVX-512 have a kernel.
BOX_API int32_t box_transposed_conv(const BoxTransposedConv* arguments);

#ifdef __cplusplus
}
#endif
