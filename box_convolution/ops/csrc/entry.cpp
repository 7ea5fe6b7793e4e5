// The exported functions, and the choice of the instruction set at run time.
#include <string.h>

#include "box_conv2d.h"
#include "fallback_threads.h"
#include "pointwise.h"
#if defined(BOX_X86)
#include "machine.h"
#endif

namespace box {

#define BOX_DECLARE(isa)                  \
  namespace isa {                         \
  int32_t forward(const BoxForward&);     \
  int32_t backward(const BoxBackward&);   \
  int32_t pointwise(const BoxPointwise&); \
  }
BOX_DECLARE(baseline)
#if defined(BOX_X86)
BOX_DECLARE(avx2)
BOX_DECLARE(avx512)
#endif

struct Kernels {
  const char* name;
  int32_t (*forward)(const BoxForward&);
  int32_t (*backward)(const BoxBackward&);
  int32_t (*pointwise)(const BoxPointwise&);
};

#if defined(__aarch64__) || defined(_M_ARM64)
const Kernels BASELINE = {"neon", baseline::forward, baseline::backward, baseline::pointwise};
#else
const Kernels BASELINE = {"baseline", baseline::forward, baseline::backward, baseline::pointwise};
#endif
#if defined(BOX_X86)
const Kernels AVX2 = {"avx2", avx2::forward, avx2::backward, avx2::pointwise};
const Kernels AVX512 = {"avx512", avx512::forward, avx512::backward, avx512::pointwise};
#endif

// The kernels called ``name``; for NULL, the fastest that this machine runs. NULL if there are none of that name.
const Kernels* find(const char* name) {
#if defined(BOX_X86)
  const Machine machine;
  if (machine.avx512 && (!name || !strcmp(name, AVX512.name))) return &AVX512;
  if (machine.avx2 && (!name || !strcmp(name, AVX2.name))) return &AVX2;
#endif
  return !name || !strcmp(name, BASELINE.name) ? &BASELINE : nullptr;
}

const Kernels* active = find(nullptr);

template <typename Call>
BoxProblem& problem_of(Call& call) {
  return call.problem;
}

BoxPointwise& problem_of(BoxPointwise& call) { return call; }

template <typename Call>
int32_t run(int32_t (*kernel)(const Call&), Call call) {
  auto& problem = problem_of(call);
  if (!problem.parallel_for && problem.threads > 1) {
    problem.parallel_for = fan_out;
    fan_out_threads = problem.threads;
  }
  return kernel(call);
}

#if BOX_PLANT_FAULT
// A deliberate fault, which proves that `make sanitize` finds such faults. 1: write one element after the output; 2: read
// one element before the input; 3: overflow an integer.
void plant_fault(const BoxForward& call) {
  const BoxProblem& p = call.problem;
  const int64_t size = p.dtype == BOX_FLOAT64 ? 8 : p.dtype == BOX_FLOAT32 ? 4 : 2;
  const int64_t h_out = (p.h + p.stride - 1) / p.stride, w_out = (p.w + p.stride - 1) / p.stride;
  volatile char* end = static_cast<char*>(call.output) + p.batch * p.channels * p.per_channel * h_out * w_out * size;
  const volatile char* input = static_cast<const char*>(p.input);
  volatile int32_t largest = INT32_MAX;
  if (BOX_PLANT_FAULT == 3) largest = largest + 1;
  for (int64_t k = 0; k < size; ++k) {
    if (BOX_PLANT_FAULT == 1) end[k] = 1;
    if (BOX_PLANT_FAULT == 2) (void)input[k - size];
  }
}
#endif

}  // namespace box

int32_t box_abi_version(void) { return BOX_ABI_VERSION; }

int32_t box_forward(const BoxForward* arguments) {
#if BOX_PLANT_FAULT
  box::plant_fault(*arguments);
#endif
  return box::run(box::active->forward, *arguments);
}

int32_t box_backward(const BoxBackward* arguments) { return box::run(box::active->backward, *arguments); }

int32_t box_pointwise(const BoxPointwise* arguments) { return box::run(box::active->pointwise, *arguments); }

const char* box_isa(void) { return box::active->name; }

int32_t box_use_isa(const char* name) {
  const box::Kernels* found = box::find(name);
  if (!found) return 1;
  box::active = found;
  return 0;
}
