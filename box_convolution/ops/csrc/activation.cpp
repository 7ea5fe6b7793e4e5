// Compiled once, for every machine: memory limits the speed.
#include "activation.h"

#include "fallback_threads.h"

namespace box {
namespace {

typedef float Four __attribute__((vector_size(16)));
typedef float FourInMemory __attribute__((vector_size(16), aligned(4), may_alias));

inline Four load(const float* from) { return *reinterpret_cast<const FourInMemory*>(from); }
inline void store(float* to, Four value) { *reinterpret_cast<FourInMemory*>(to) = value; }

// A NaN stays a NaN. ReLU is not computed as a slope of 0, which would turn an infinity into a NaN.
template <bool PRELU, typename V>
inline V activated(V value, V slope) {
  return value < 0 ? (PRELU ? slope * value : V{}) : value;
}

template <bool RESIDUAL, bool PRELU>
void run(const BoxActivation& call, int64_t begin, int64_t end) {
  const int64_t row = PRELU ? call.channels : (end - begin) * call.channels;
  for (int64_t start = begin * call.channels; start < end * call.channels; start += row) {
    float* const image = call.image + start;
    const float* const residual = RESIDUAL ? call.residual + start : nullptr;
    int64_t c = 0;
    for (; c + 4 <= row; c += 4) {
      const Four value = RESIDUAL ? load(image + c) + load(residual + c) : load(image + c);
      store(image + c, activated<PRELU>(value, PRELU ? load(call.slopes + c) : Four{}));
    }
    for (; c < row; ++c) {
      const float value = RESIDUAL ? image[c] + residual[c] : image[c];
      image[c] = activated<PRELU>(value, PRELU ? call.slopes[c] : 0.f);
    }
  }
}

void run(const BoxActivation& call, int64_t begin, int64_t end) {
  if (call.residual)
    call.slopes ? run<true, true>(call, begin, end) : run<true, false>(call, begin, end);
  else
    call.slopes ? run<false, true>(call, begin, end) : run<false, false>(call, begin, end);
}

}  // namespace
}  // namespace box

void box_activation(const BoxActivation* arguments) {
  constexpr int64_t LEAST = 1 << 15;  // fewer numbers are not worth another thread
  const int64_t grain = arguments->channels < LEAST ? LEAST / (arguments->channels ? arguments->channels : 1) : 1;
  if (arguments->threads <= 1 || arguments->pixels <= grain) return box::run(*arguments, 0, arguments->pixels);
  box::fan_out_threads = arguments->threads;
  (arguments->parallel_for ? arguments->parallel_for : box::fan_out)(
      0, arguments->pixels, grain,
      [](int64_t begin, int64_t end, void* context) {
        box::run(*static_cast<const BoxActivation*>(context), begin, end);
      },
      const_cast<BoxActivation*>(arguments));
}
