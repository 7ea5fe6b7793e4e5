// Products of pixels in NHWC with a matrix, for the convolutions of pointwise.inl and transposed_conv.inl. Included by
// kernels.inl.

#if defined(__AVX2__)
struct PixelProducts {
  const int64_t channels, outputs, pitch;  // pitch: outputs in whole vectors
  float* const weight;                     // (channels, pitch), zero where there is no output
  float* const bias;                       // (pitch)

  PixelProducts(int64_t channels, int64_t outputs, double* memory)
      : channels(channels), outputs(outputs), pitch(pitch_of(outputs)), weight(reinterpret_cast<float*>(memory)),
        bias(weight + pitch * channels) {
    memset(memory, 0, sizeof(double) * size_t(size(channels, outputs)));
  }
  static int64_t pitch_of(int64_t outputs) { return (outputs + WIDE - 1) / WIDE * WIDE; }
  static int64_t size(int64_t channels, int64_t outputs) { return pitch_of(outputs) / 2 * (channels + 1); }

  // Outputs k..k+WIDE-1 of WIDE pixels, which are ``stride`` numbers apart: bias[k + j] of each, to begin with.
  inline void start(int64_t k, Floats (&sum)[WIDE]) const {
    for (int64_t i = 0; i < WIDE; ++i) sum[i] = load_floats(bias + k);
  }

  // sum[i][j] += sum over c < count of weight[c][k + j] * from[i * stride + c].
  inline void add(const float* from, int64_t stride, int64_t count, int64_t k, Floats (&sum)[WIDE]) const {
    const float* pixel[WIDE / 4];
    for (int64_t i = 0; i < WIDE / 4; ++i) pixel[i] = from + 4 * i * stride;
    const float *factors = weight + k, *next = from + WIDE * stride;
    int64_t one = stride, two = 2 * one, three = 3 * one;
    for (int64_t c = 0; c < count; ++c) {
      const Floats factor = load_floats(factors);
      factors += pitch;
      // Each line of the next tile once. An address beyond the end does no harm.
      if (k == 0 && c < stride) __builtin_prefetch(next + c * WIDE);
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
  }

  // All of that for one pixel.
  inline Floats pixel(const float* from, int64_t k) const {
    Floats sum = load_floats(bias + k);
    for (int64_t c = 0; c < channels; ++c) sum += from[c] * load_floats(weight + c * pitch + k);
    return sum;
  }
};
#endif
