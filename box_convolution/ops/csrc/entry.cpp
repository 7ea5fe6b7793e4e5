// The exported functions, and the choice of the instruction set at run time.
#include <string.h>

#include "box_conv2d.h"
#include "fallback_threads.h"
#include "layers.h"
#if defined(BOX_X86)
#include "machine.h"
#endif

namespace box {

// The kernels, each with the structure of its arguments. kernels.inl defines them for every instruction set.
#define BOX_EACH_KERNEL(DO)              \
  DO(forward, BoxForward)                \
  DO(backward, BoxBackward)              \
  DO(activation, BoxActivation)          \
  DO(pool_add, BoxPoolAdd)               \
  DO(pool_beside, BoxPoolBeside)         \
  DO(pointwise, BoxPointwise)            \
  DO(prelu, BoxPrelu)                    \
  DO(transposed_conv, BoxTransposedConv) \
  DO(unpool, BoxUnpool)

#define BOX_POINTER(kernel, Call) int32_t (*kernel)(const Call&);
struct Kernels {
  const char* isa;
  BOX_EACH_KERNEL(BOX_POINTER)
};

#define BOX_DECLARE(kernel, Call) int32_t kernel(const Call&);
#define BOX_ADDRESS(kernel, Call) , kernel
#define BOX_KERNELS(isa, name)                                      \
  namespace isa {                                                   \
  BOX_EACH_KERNEL(BOX_DECLARE)                                      \
  const Kernels KERNELS = {name BOX_EACH_KERNEL(BOX_ADDRESS)};      \
  }

#if defined(__aarch64__) || defined(_M_ARM64)
BOX_KERNELS(baseline, "neon")
#else
BOX_KERNELS(baseline, "baseline")
#endif
#if defined(BOX_X86)
BOX_KERNELS(avx2, "avx2")
BOX_KERNELS(avx512, "avx512")
#endif

// The kernels called ``name``; for NULL, the fastest that this machine runs. NULL if there are none of that name.
const Kernels* find(const char* name) {
#if defined(BOX_X86)
  const Machine machine;
  if (machine.avx512 && (!name || !strcmp(name, avx512::KERNELS.isa))) return &avx512::KERNELS;
  if (machine.avx2 && (!name || !strcmp(name, avx2::KERNELS.isa))) return &avx2::KERNELS;
#endif
  return !name || !strcmp(name, baseline::KERNELS.isa) ? &baseline::KERNELS : nullptr;
}

const Kernels* active = find(nullptr);

BoxProblem& threads_of(BoxForward& call) { return call.problem; }
BoxProblem& threads_of(BoxBackward& call) { return call.problem; }

template <typename Call>
Call& threads_of(Call& call) {
  return call;
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

template <typename Call>
void plant_fault(const Call&) {}
#endif

template <typename Call>
int32_t run(int32_t (*kernel)(const Call&), Call call) {
#if BOX_PLANT_FAULT
  plant_fault(call);
#endif
  auto& with = threads_of(call);
  if (!with.parallel_for && with.threads > 1) {
    with.parallel_for = fan_out;
    fan_out_threads = with.threads;
  }
  return kernel(call);
}

}  // namespace box

int32_t box_abi_version(void) { return BOX_ABI_VERSION; }

#define BOX_EXPORT(kernel, Call) \
  int32_t box_##kernel(const Call* arguments) { return box::run(box::active->kernel, *arguments); }
BOX_EACH_KERNEL(BOX_EXPORT)

const char* box_isa(void) { return box::active->isa; }

int32_t box_use_isa(const char* name) {
  const box::Kernels* found = box::find(name);
  if (!found) return 1;
  box::active = found;
  return 0;
}
