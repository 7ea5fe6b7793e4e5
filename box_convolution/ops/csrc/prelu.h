// The C interface of PReLU and its derivative in training, in NHWC (channels_last).
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

// Without grad_output: result = input > 0 ? input : slopes[c] * input. With it, the derivative:
//   result = input > 0 ? grad_output : slopes[c] * grad_output
//   grad_slopes[c] = sum of (input > 0 ? 0 : input * grad_output) over all pixels
// All contiguous. grad_slopes does not depend on the number of threads.
typedef struct {
  int64_t pixels, channels;
  const void* input;
  const void* grad_output;  // or NULL
  void* result;
  const float* slopes;
  float* grad_slopes;  // NULL without grad_output
  int32_t dtype;       // of input, grad_output and result: BOX_FLOAT32 or BOX_BFLOAT16
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxPrelu;

// Returns a BoxStatus.
BOX_API int32_t box_prelu(const BoxPrelu* arguments);

#ifdef __cplusplus
}
#endif
