// The C interface of max pooling that is added to a convolution, in NHWC (channels_last), in inference: how ENet halves images.
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

// With K = pooled, of the first K channels:
//   image[b][i][j][k] += the largest of input[b][2 * i + (0, 1)][2 * j + (0, 1)][k], whose place in its plane goes to
//   indices[b][i][j][k]: the first of equal ones, and a NaN, if there is one; the last of several NaNs.
// Then, of all channels, image = max(image, 0); with slopes, a negative value becomes value * slopes[c]. All contiguous.
typedef struct {
  int64_t batch, h, w, channels, pooled;  // h, w: of the image; the input has twice as many rows and columns
  float* image;
  const float* input;
  int64_t* indices;
  const float* slopes;  // or NULL
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxPoolAdd;

// Returns a BoxStatus.
BOX_API int32_t box_pool_add(const BoxPoolAdd* arguments);

#ifdef __cplusplus
}
#endif
