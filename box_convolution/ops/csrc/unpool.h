// The C interface of max-unpooling in NHWC (channels_last), in inference: values are added where they were pooled from, and
// nothing else is touched; ReLU may follow.
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

// image[b][indices[b][p][c]][c] += values[b][p][c] for p < h * w, contiguous. An index outside the image is ignored. With relu,
// image = max(image, 0) then.
typedef struct {
  int64_t batch, h, w, channels;  // of values and indices
  int64_t image_pixels;           // of one image
  float* image;
  const float* values;
  const int64_t* indices;
  int32_t relu;
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxUnpool;

// Returns BOX_DONE.
BOX_API int32_t box_unpool(const BoxUnpool* arguments);

#ifdef __cplusplus
}
#endif
