// The C interface of the transposition between NCHW (contiguous) and NHWC (channels_last), with a residual and ReLU after it.
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

// output[b][j][i] = [relu](input[b][i][j] [+ residual[b][j][i]]), all contiguous.
typedef struct {
  int64_t batch, rows, columns;  // of input; residual and output are (batch, columns, rows)
  const void* input;
  const void* residual;  // or NULL; may be the output's memory
  void* output;
  int32_t size;  // of an element in bytes: 4 (float32), 8 (float64), or 2 (anything, without residual and relu)
  int32_t relu;
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxTranspose;

BOX_API void box_transpose(const BoxTranspose* arguments);

#ifdef __cplusplus
}
#endif
