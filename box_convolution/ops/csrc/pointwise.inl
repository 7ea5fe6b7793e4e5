// A 1x1 convolution from NHWC to NCHW: see pointwise.h. Included by kernels.inl.
//
// The sums of WIDE pixels and WIDE outputs stay in registers, lanes being outputs, and are transposed there before they are
// written. So the transposition costs two instructions a vector instead of a pass over memory.

#if defined(__AVX2__)
struct Pointwise {
  const BoxPointwise& call;
  const int64_t pitch, tiles;  // outputs in whole vectors; tiles of WIDE pixels in an image
  float* const weight;         // (channels, pitch), zero where there is no output
  float* const bias;           // (pitch)

  Pointwise(const BoxPointwise& call, double* memory)
      : call(call), pitch(pitch_of(call)), tiles((call.pixels + WIDE - 1) / WIDE), weight(reinterpret_cast<float*>(memory)),
        bias(weight + pitch * call.channels) {
    memset(memory, 0, sizeof(double) * size_t(size(call)));
    constexpr int64_t LINE = 16;  // numbers in a cache line: so many are read, and their places kept in cache, at a time
    for (int64_t first = 0; first < call.channels; first += LINE)
      for (int64_t k = 0; k < call.outputs; ++k)
        for (int64_t c = first; c < min(first + LINE, call.channels); ++c)
          weight[c * pitch + k] = call.weight[k * call.channels + c];
    for (int64_t k = 0; k < call.outputs; ++k) bias[k] = call.bias[k];
  }
  static int64_t pitch_of(const BoxPointwise& call) { return (call.outputs + WIDE - 1) / WIDE * WIDE; }
  static int64_t size(const BoxPointwise& call) { return pitch_of(call) / 2 * (call.channels + 1); }

  // Outputs k..k+WIDE-1 of WIDE pixels.
  void tile(const float* from, int64_t k, float* to) const {
    Floats sum[WIDE];
    for (int64_t i = 0; i < WIDE; ++i) sum[i] = load_floats(bias + k);
    const float* pixel[WIDE / 4];
    for (int64_t i = 0; i < WIDE / 4; ++i) pixel[i] = from + 4 * i * call.channels;
    const float *factors = weight + k, *next = from + WIDE * call.channels;
    int64_t one = call.channels, two = 2 * one, three = 3 * one;
    for (int64_t c = 0; c < call.channels; ++c) {
      const Floats factor = load_floats(factors);
      factors += pitch;
      // Each line of the next tile once. An address beyond the end does no harm.
      if (k == 0) __builtin_prefetch(next + c * WIDE);
      // Hidden from the compiler, which else keeps a pointer for each pixel, more than there are registers.
      asm("" : "+r"(one), "+r"(two), "+r"(three));
      for (int64_t i = 0; i < WIDE / 4; ++i) {
        sum[4 * i] += pixel[i][0] * factor;
        sum[4 * i + 1] += pixel[i][one] * factor;
        sum[4 * i + 2] += pixel[i][two] * factor;
        sum[4 * i + 3] += pixel[i][three] * factor;
        ++pixel[i];
      }
    }
    transpose(sum);
    for (int64_t j = 0; j < min(WIDE, call.outputs - k); ++j) store_floats(to + j * call.pixels, activated(sum[j]));
  }

  // Outputs k..k+WIDE-1 of one pixel.
  void pixel(const float* from, int64_t k, float* to) const {
    Floats sum = load_floats(bias + k);
    for (int64_t c = 0; c < call.channels; ++c) sum += from[c] * load_floats(weight + c * pitch + k);
    sum = activated(sum);
    for (int64_t j = 0; j < min(WIDE, call.outputs - k); ++j) to[j * call.pixels] = sum[j];
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
      if (begin + WIDE <= call.pixels)
        tile(from, k, to);
      else
        for (int64_t p = 0; p < call.pixels - begin; ++p) pixel(from + p * call.channels, k, to + p);
    }
  }
};

int32_t pointwise(const BoxPointwise& call) {
  double* memory = shared_scratch().get(Pointwise::size(call));
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
