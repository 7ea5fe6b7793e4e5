// A 1x1 convolution from NHWC to NCHW: see layers.h. Included by kernels.inl.
//
// The sums of WIDE pixels and WIDE outputs stay in registers, lanes being outputs, and are transposed there before they are
// written. So the transposition costs two instructions a vector instead of a pass over memory.

#if defined(__AVX2__)
struct Pointwise {
  static constexpr int64_t TILES = 16;  // in a chunk, which one thread computes

  const BoxPointwise& call;
  const PixelProducts products;
  const int64_t chunks;   // in an image
  double* const squares;  // (batch, chunks, pitch): sums, whose rounding does not depend on threads
  int32_t* const largest;  // (batch, chunks, pitch): bits of a number without its sign, which order as numbers do, NaN last

  Pointwise(const BoxPointwise& call, double* memory)
      : call(call), products(call.channels, call.outputs, memory), chunks(chunks_of(call)),
        squares(memory + PixelProducts::size(call.channels, call.outputs)),
        largest(reinterpret_cast<int32_t*>(squares + call.batch * chunks * products.pitch)) {
    constexpr int64_t LINE = 16;  // numbers in a cache line: so many are read, and their places kept in cache, at a time
    for (int64_t first = 0; first < call.channels; first += LINE)
      for (int64_t k = 0; k < call.outputs; ++k)
        for (int64_t c = first; c < min(first + LINE, call.channels); ++c)
          products.weight[c * products.pitch + k] = call.weight[k * call.channels + c];
    for (int64_t k = 0; k < call.outputs; ++k) products.bias[k] = call.bias[k];
  }
  static int64_t chunks_of(const BoxPointwise& call) { return (call.pixels + TILES * WIDE - 1) / (TILES * WIDE); }
  static int64_t memory_size(const BoxPointwise& call) {
    const int64_t numbers = call.batch * chunks_of(call) * PixelProducts::pitch_of(call.outputs);
    return PixelProducts::size(call.channels, call.outputs) + (call.magnitudes ? numbers + numbers / 2 : 0);
  }

  Floats activated(Floats value) const {
    if (call.relu) value = value < 0 ? Floats{} : value;
    return value;
  }

  // Of WIDE outputs, in the lanes: sums of squares and largest |value|, as bits.
  struct Seen {
    Floats squares = {0};
    Ints largest = {0};

    inline void add(Floats value) {
      const Ints bits = reinterpret_cast<Ints>(value) & reinterpret_cast<Ints>(all_of(0x7fffffffu));
      squares += value * value;
      largest = bits > largest ? bits : largest;
    }
  };

  void run(int64_t chunk) const {
    const int64_t image = chunk / chunks * call.pixels, first = chunk % chunks * (TILES * WIDE);
    double* const squares = this->squares + chunk * products.pitch;
    int32_t* const largest = this->largest + chunk * products.pitch;
    if (call.magnitudes) {
      fill(squares, squares + products.pitch, 0.0);
      fill(largest, largest + products.pitch, 0);
    }
    for (int64_t begin = first; begin < min(first + TILES * WIDE, call.pixels); begin += WIDE)
      for (int64_t k = 0; k < call.outputs; k += WIDE) {
        Seen seen;
        tile(image, begin, k, seen);
        if (!call.magnitudes) continue;
        for (int64_t lane = 0; lane < WIDE; ++lane) {
          squares[k + lane] += seen.squares[lane];
          largest[k + lane] = max<int32_t>(largest[k + lane], seen.largest[lane]);
        }
      }
  }

  void tile(int64_t image, int64_t begin, int64_t k, Seen& seen) const {
    const float* const from = call.image + (image + begin) * call.channels;
    float* const to = call.planes + image * call.outputs + k * call.pixels + begin;
    const int64_t outputs = min(WIDE, call.outputs - k);
    if (begin + WIDE <= call.pixels) {
      Floats sum[WIDE];
      products.start(k, sum);
      products.add(from, call.channels, call.channels, k, sum);
      for (int64_t p = 0; p < WIDE; ++p) seen.add(sum[p] = activated(sum[p]));
      transpose(sum);
      for (int64_t j = 0; j < outputs; ++j) store_floats(to + j * call.pixels, sum[j]);
      return;
    }
    for (int64_t p = 0; p < call.pixels - begin; ++p) {
      const Floats sum = activated(products.pixel(from + p * call.channels, k));
      seen.add(sum);
      for (int64_t j = 0; j < outputs; ++j) to[j * call.pixels + p] = sum[j];
    }
  }

  BoxMagnitude magnitude(int64_t image, int64_t output) const {
    double sum = 0;
    int32_t most = 0;
    for (int64_t chunk = image * chunks; chunk < (image + 1) * chunks; ++chunk) {
      sum += squares[chunk * products.pitch + output];
      most = max(most, largest[chunk * products.pitch + output]);
    }
    return {bits_to_float(uint32_t(most)), sqrt(sum / double(call.pixels))};
  }
};

int32_t pointwise(const BoxPointwise& call) {
  double* memory = shared_scratch().get(Pointwise::memory_size(call));
  if (!memory) return BOX_NO_MEMORY;
  const Pointwise kernel(call, memory);
  parallel(call, call.batch * kernel.chunks, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) kernel.run(chunk);
  });
  if (call.magnitudes)
    for (int64_t b = 0; b < call.batch; ++b)
      for (int64_t k = 0; k < call.outputs; ++k) call.magnitudes[b * call.outputs + k] = kernel.magnitude(b, k);
  shared_scratch().trim();
  return BOX_DONE;
}
#else
int32_t pointwise(const BoxPointwise&) { return BOX_NOT_SERVED; }
#endif
