// A 1x1 convolution from NHWC to NCHW: see pointwise.h. Included by kernels.inl.
//
// The sums of WIDE pixels and WIDE outputs stay in registers, lanes being outputs, and are transposed there before they are
// written. So the transposition costs two instructions a vector instead of a pass over memory.

#if defined(__AVX2__)
struct Pointwise {
  const BoxPointwise& call;
  const PixelProducts products;
  const int64_t tiles;  // of WIDE pixels in an image

  Pointwise(const BoxPointwise& call, double* memory)
      : call(call), products(call.channels, call.outputs, memory), tiles((call.pixels + WIDE - 1) / WIDE) {
    constexpr int64_t LINE = 16;  // numbers in a cache line: so many are read, and their places kept in cache, at a time
    for (int64_t first = 0; first < call.channels; first += LINE)
      for (int64_t k = 0; k < call.outputs; ++k)
        for (int64_t c = first; c < min(first + LINE, call.channels); ++c)
          products.weight[c * products.pitch + k] = call.weight[k * call.channels + c];
    for (int64_t k = 0; k < call.outputs; ++k) products.bias[k] = call.bias[k];
  }

  Floats activated(Floats value) const {
    if (call.relu) value = value < 0 ? Floats{} : value;
    return value;
  }

  void run(int64_t number) const {
    const int64_t image = number / tiles * call.pixels, begin = number % tiles * WIDE;
    const float* const from = call.image + (image + begin) * call.channels;
    for (int64_t k = 0; k < call.outputs; k += WIDE) {
      float* const to = call.planes + image * call.outputs + k * call.pixels + begin;
      const int64_t outputs = min(WIDE, call.outputs - k);
      if (begin + WIDE <= call.pixels) {
        Floats sum[WIDE];
        products.start(k, sum);
        products.add(from, call.channels, call.channels, k, sum);
        transpose(sum);
        for (int64_t j = 0; j < outputs; ++j) store_floats(to + j * call.pixels, activated(sum[j]));
        continue;
      }
      for (int64_t p = 0; p < call.pixels - begin; ++p) {
        const Floats sum = activated(products.pixel(from + p * call.channels, k));
        for (int64_t j = 0; j < outputs; ++j) to[j * call.pixels + p] = sum[j];
      }
    }
  }
};

int32_t pointwise(const BoxPointwise& call) {
  double* memory = shared_scratch().get(PixelProducts::size(call.channels, call.outputs));
  if (!memory) return BOX_NO_MEMORY;
  const Pointwise kernel(call, memory);
  parallel(call, call.batch * kernel.tiles, [&](int64_t begin, int64_t end) {
    for (int64_t number = begin; number < end; ++number) kernel.run(number);
  });
  shared_scratch().trim();
  return BOX_DONE;
}
#else
int32_t pointwise(const BoxPointwise&) { return BOX_NOT_SERVED; }
#endif
