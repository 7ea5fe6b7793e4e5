// Each thread gets whole cache lines of channels, so that no two threads write to one place, whatever the indices.
#include "unpool.h"

#include "fallback_threads.h"

namespace box {
namespace {

constexpr int64_t LINE = 16;

void unpool(const BoxUnpool& call, int64_t begin, int64_t end) {
  const int64_t channels = call.channels, stop = end * LINE < channels ? end * LINE : channels;
  for (int64_t b = 0; b < call.batch; ++b) {
    float* const image = call.image + b * call.image_pixels * channels;
    for (int64_t p = b * call.pixels; p < (b + 1) * call.pixels; ++p) {
      const float* const values = call.values + p * channels;
      const int64_t* const indices = call.indices + p * channels;
      for (int64_t c = begin * LINE; c < stop; ++c)
        if (uint64_t(indices[c]) < uint64_t(call.image_pixels)) image[indices[c] * channels + c] += values[c];
    }
  }
}

}  // namespace
}  // namespace box

void box_unpool(const BoxUnpool* arguments) {
  const int64_t lines = (arguments->channels + box::LINE - 1) / box::LINE;
  if (arguments->threads <= 1 || lines <= 1) return box::unpool(*arguments, 0, lines);
  box::fan_out_threads = arguments->threads;
  (arguments->parallel_for ? arguments->parallel_for : box::fan_out)(
      0, lines, 1,
      [](int64_t begin, int64_t end, void* context) { box::unpool(*static_cast<const BoxUnpool*>(context), begin, end); },
      const_cast<BoxUnpool*>(arguments));
}
