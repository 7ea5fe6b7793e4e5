// The C interface of the layers around a box convolution: images in NHWC (channels_last), everything contiguous. All but
// PReLU are for inference. An activation is max(value, 0); with slopes, a negative value becomes value * slopes[c].
#pragma once
#include <stdint.h>

#include "box_conv2d.h"

#ifdef __cplusplus
extern "C" {
#endif

// The addition and activation that follow a convolution, in one pass and in place:
//   image[p][c] = activation(image[p][c] [+ residual[p][c]]).
typedef struct {
  int64_t pixels, channels;
  float* image;
  const float* residual;  // or NULL
  const float* slopes;    // or NULL
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxActivation;

// Max pooling that is added to a convolution: how ENet halves images. With K = pooled, of the first K channels:
//   image[b][i][j][k] += the largest of input[b][2 * i + (0, 1)][2 * j + (0, 1)][k], whose place in its plane goes to
//   indices[b][i][j][k]: the first of equal ones, and a NaN, if there is one; the last of several NaNs.
// Then the activation of all channels.
typedef struct {
  int64_t batch, h, w, channels, pooled;  // h, w: of the image; the input has twice as many rows and columns
  float* image;
  const float* input;
  int64_t* indices;
  const float* slopes;  // or NULL
  int32_t threads;
  BoxParallelFor parallel_for;  // NULL: threads of our own
} BoxPoolAdd;

// Max pooling beside a convolution: how ENet and ERFNet begin. With K = pooled, of the last K channels:
//   image[b][i][j][channels - K + k] = scale[k] * (largest of input[b][2 * i + (0, 1)][2 * j + (0, 1)][k]) + shift[k].
// The other channels are there, or are copied from ``filtered``, which has only these. Then the activation of all channels.
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

// A 1x1 convolution from NHWC to NCHW, where a box convolution reads its input fastest:
//   planes[b][k][p] = [relu](bias[k] + sum over c of weight[k][c] * image[b][p][c]).
// Each sum is made in the order of its channels, so that results depend neither on threads nor on the number of pixels. Only
// AVX2 and AVX-512 have a kernel.
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

// PReLU in training. Without grad_output: result = input > 0 ? input : slopes[c] * input. With it, the derivative:
//   result = input > 0 ? grad_output : slopes[c] * grad_output
//   grad_slopes[c] = sum of (input > 0 ? 0 : input * grad_output) over all pixels
// grad_slopes does not depend on the number of threads.
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

// A transposed convolution with stride 2, the last layer of many segmentation networks. It doubles the resolution.
// With size 2, output[b][2 * i + y][2 * j + x][k] = bias[k] + sum over c of weight[c][k][y][x] * image[b][i][j][c].
// With size 3, output[b][i'][j'][k] = bias[k] + sum over c, y and x of weight[c][k][y][x] * image[b][i][j][c] where
// i' = 2 * i - 1 + y and j' = 2 * j - 1 + x, and the output has twice as many rows and columns as the image.
// The order of a sum depends on the sizes alone. A pixel that is not finite may also make the outputs to the left of those
// that see it NaN, and a weight that is not finite those of the last column. Only AVX2 and AVX-512 have a kernel.
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

// Max-unpooling: values are added where they were pooled from, and nothing else is touched:
//   image[b][indices[b][p][c]][c] += values[b][p][c] for p < h * w. An index outside the image is ignored.
// With relu, image = max(image, 0) then.
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

// The transposition between NCHW and NHWC: output[b][j][i] = [relu](input[b][i][j] [+ residual[b][j][i]]).
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

// Each returns a BoxStatus.
BOX_API int32_t box_activation(const BoxActivation* arguments);
BOX_API int32_t box_pool_add(const BoxPoolAdd* arguments);
BOX_API int32_t box_pool_beside(const BoxPoolBeside* arguments);
BOX_API int32_t box_pointwise(const BoxPointwise* arguments);
BOX_API int32_t box_prelu(const BoxPrelu* arguments);
BOX_API int32_t box_transposed_conv(const BoxTransposedConv* arguments);
BOX_API int32_t box_unpool(const BoxUnpool* arguments);
BOX_API void box_transpose(const BoxTranspose* arguments);

#ifdef __cplusplus
}
#endif
