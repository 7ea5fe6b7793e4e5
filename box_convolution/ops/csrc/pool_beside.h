// The C interface of max pooling beside a convolution, in NHWC (channels_last), in inference: how ENet and ERFNet begin.
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

// With K = pooled, of the last K channels:
//   image[b][i][j][channels - K + k] = scale[k] * (largest of input[b][2 * i + (0, 1)][2 * j + (0, 1)][k]) + shift[k].
// The other channels are there, or are copied from ``filtered``, which has only these. Then, of all channels, image =
// max(image, 0); with slopes, a negative value becomes value * slopes[c]. All contiguous.
typedef struct {
  int64_t batch, h, w, channels, pooled;  // h, w: of the image; the input has twice as many rows and columns
  float* image;
  const float* filtered;  // or NULL
  const float* input;
  const float* scale;
  const float* shift;
  const float* slopes;  // or NULL
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxPoolBeside;

// Returns a BoxStatus.
BOX_API int32_t box_pool_beside(const BoxPoolBeside* arguments);

#ifdef __cplusplus
}
#endif
