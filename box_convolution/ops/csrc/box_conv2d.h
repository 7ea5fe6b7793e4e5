// The C interface of the CPU kernels. It knows nothing of torch or Python: pointers, sizes and a dtype code.
//
// Conventions are those of docs/math.md. All sizes and strides are in elements. box_forward and box_backward return a
// BoxStatus.
//
// In C and C++ projects: cmake --install this library, then find_package(box_conv2d REQUIRED) and link box_conv2d::box_conv2d;
// examples/c is a program. Set structures to zero before use, BoxForward call = {0}: zero leaves a part out, or is a default.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32) && defined(box_conv2d_EXPORTS)  // CMake defines it while it builds the library
#define BOX_API __declspec(dllexport)
#elif defined(_WIN32)
#define BOX_API __declspec(dllimport)
#else
#define BOX_API __attribute__((visibility("default")))
#endif

// Raise it with every change of the types and functions of the headers: ops/cpu_library.py refuses a library of another version.
#define BOX_ABI_VERSION 12
BOX_API int32_t box_abi_version(void);

enum BoxStatus { BOX_DONE = 0, BOX_NO_MEMORY = 1, BOX_NOT_SERVED = 2 };
enum BoxDtype { BOX_FLOAT32 = 0, BOX_FLOAT64 = 1, BOX_BFLOAT16 = 2, BOX_FLOAT16 = 3 };

// Calls body(begin, end, context) on disjoint ranges that cover [begin, end), on any threads; returns when all are done.
// The signature is that of torch_parallel_for in torch/csrc/stable/c/shim.h, which can be passed directly.
typedef void (*BoxBody)(int64_t begin, int64_t end, void* context);
typedef int32_t (*BoxParallelFor)(int64_t begin, int64_t end, int64_t grain, BoxBody body, void* context);

// Of a plane: its largest |value|, infinity or NaN if it has one, and its root mean square, which may be off by a thousandth.
typedef struct {
  float largest;
  double rms;
} BoxMagnitude;

typedef struct {
  int64_t batch, channels, per_channel, h, w, stride;
  int32_t dtype;       // of input, output, residual and their gradients
  int32_t normalize;   // 1: averages, 0: sums
  int32_t exact;       // 1: sums in float64 for every dtype; 0: an average may be off by 8e-6 of its plane's root mean square
  const double* boxes; // (channels, per_channel, 4): top, bottom, left, right
  const void* input;   // (batch, channels, h, w), any strides
  int64_t input_strides[4];
  BoxParallelFor parallel_for;  // NULL: threads of our own
  int32_t threads;              // how many may be used; results do not depend on it
} BoxProblem;

// h_out = ceil(h / stride), w_out = ceil(w / stride): output pixel i is centred on input pixel i * stride.
// output (batch, channels * per_channel, h_out, w_out), contiguous = [relu]([residual +] [scale *] average [+ shift]).
// scale, shift: one number for each output channel; residual: like output, and with ``pixels`` it may be the same memory. NULL
// leaves a part out.
typedef struct {
  BoxProblem problem;
  void* output;
  const float* scale;
  const float* shift;
  const void* residual;
  int32_t relu;
  // 1: output and residual are NHWC (channels last); BOX_NOT_SERVED where no kernel does that with work for all threads
  int32_t pixels;
  const BoxMagnitude* magnitudes;  // of the planes of the input, (batch, channels), or NULL if they are not known
} BoxForward;

// grad_output: like the output, any strides. grad_input (batch, channels, h, w), contiguous, or NULL.
// grad_boxes (channels, per_channel, 4), or NULL.
typedef struct {
  BoxProblem problem;
  const void* grad_output;
  int64_t grad_output_strides[4];
  void* grad_input;
  double* grad_boxes;
} BoxBackward;

BOX_API int32_t box_forward(const BoxForward* arguments);
BOX_API int32_t box_backward(const BoxBackward* arguments);

// Name of the instruction set in use ("avx512", "avx2", "baseline", "neon"). box_use_isa forces one; it returns 1 if this
// build or this machine does not have it, else 0.
BOX_API const char* box_isa(void);
BOX_API int32_t box_use_isa(const char* name);

#ifdef __cplusplus
}
#endif
