// The C interface of max-unpooling in inference: values are added where they were pooled from, and nothing else is touched.
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

// image[b][indices[b][p][c]][c] += values[b][p][c], contiguous. An index outside the image is ignored.
typedef struct {
  int64_t batch, pixels, channels;  // of values and indices
  int64_t image_pixels;             // of one image
  float* image;
  const float* values;
  const int64_t* indices;
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxUnpool;

BOX_API void box_unpool(const BoxUnpool* arguments);

#ifdef __cplusplus
}
#endif
