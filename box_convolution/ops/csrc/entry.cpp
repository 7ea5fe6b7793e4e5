// The exported functions, and the choice of the instruction set at run time.
#include <string.h>

#include "activation.h"
#include "box_conv2d.h"
#include "fallback_threads.h"
#include "pool_add.h"
#include "pool_beside.h"
#include "pointwise.h"
#include "prelu.h"
#include "transposed_conv.h"
#include "unpool.h"
#if defined(BOX_X86)
#include "machine.h"
#endif

namespace box {

#define BOX_DECLARE(isa)                           \
  namespace isa {                                  \
  int32_t forward(const BoxForward&);              \
  int32_t backward(const BoxBackward&);            \
  int32_t activation(const BoxActivation&);        \
  int32_t pool_add(const BoxPoolAdd&);             \
  int32_t pool_beside(const BoxPoolBeside&);       \
  int32_t pointwise(const BoxPointwise&);          \
  int32_t prelu(const BoxPrelu&);                  \
  int32_t transposed_conv(const BoxTransposedConv&); \
  int32_t unpool(const BoxUnpool&);                \
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
  int32_t (*activation)(const BoxActivation&);
  int32_t (*pool_add)(const BoxPoolAdd&);
  int32_t (*pool_beside)(const BoxPoolBeside&);
  int32_t (*pointwise)(const BoxPointwise&);
  int32_t (*prelu)(const BoxPrelu&);
  int32_t (*transposed_conv)(const BoxTransposedConv&);
  int32_t (*unpool)(const BoxUnpool&);
};

#define BOX_KERNELS(isa) \
  isa::forward, isa::backward, isa::activation, isa::pool_add, isa::pool_beside, isa::pointwise, isa::prelu, \
      isa::transposed_conv, isa::unpool

#if defined(__aarch64__) || defined(_M_ARM64)
const Kernels BASELINE = {"neon", BOX_KERNELS(baseline)};
#else
const Kernels BASELINE = {"baseline", BOX_KERNELS(baseline)};
#endif
#if defined(BOX_X86)
const Kernels AVX2 = {"avx2", BOX_KERNELS(avx2)};
const Kernels AVX512 = {"avx512", BOX_KERNELS(avx512)};
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

BoxProblem& threads_of(BoxForward& call) { return call.problem; }
BoxProblem& threads_of(BoxBackward& call) { return call.problem; }

template <typename Call>
Call& threads_of(Call& call) {
  return call;
}

template <typename Call>
int32_t run(int32_t (*kernel)(const Call&), Call call) {
  auto& with = threads_of(call);
  if (!with.parallel_for && with.threads > 1) {
    with.parallel_for = fan_out;
    fan_out_threads = with.threads;
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

int32_t box_activation(const BoxActivation* arguments) { return box::run(box::active->activation, *arguments); }

int32_t box_pool_add(const BoxPoolAdd* arguments) { return box::run(box::active->pool_add, *arguments); }

int32_t box_pool_beside(const BoxPoolBeside* arguments) { return box::run(box::active->pool_beside, *arguments); }

int32_t box_pointwise(const BoxPointwise* arguments) { return box::run(box::active->pointwise, *arguments); }

int32_t box_prelu(const BoxPrelu* arguments) { return box::run(box::active->prelu, *arguments); }

int32_t box_transposed_conv(const BoxTransposedConv* arguments) {
  return box::run(box::active->transposed_conv, *arguments);
}

int32_t box_unpool(const BoxUnpool* arguments) { return box::run(box::active->unpool, *arguments); }

const char* box_isa(void) { return box::active->name; }

int32_t box_use_isa(const char* name) {
  const box::Kernels* found = box::find(name);
  if (!found) return 1;
  box::active = found;
  return 0;
}
