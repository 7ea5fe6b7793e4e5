// Max pooling beside a convolution, and the activation of both: see layers.h. Included by kernels.inl.

struct PooledBeside {
  static constexpr int64_t MOST = 2048;  // numbers of a piece of a row, the larger of two rows, which stays in the first cache

  const BoxPoolBeside& call;
  const Activated act;

  // A NaN among the two is the result.
  template <typename V>
  static inline V larger(V a, V b) {
    return ((a < b) | (b != b)) ? b : a;
  }

  // Writes the larger of a[k] and b[k] to to[k]; ``to`` may be a, and b a place after it.
  static inline void larger_of(const float* a, const float* b, float* to, int64_t count) {
    int64_t k = 0;
    for (; k + WIDE <= count; k += WIDE) store_floats(to + k, larger(load_floats(a + k), load_floats(b + k)));
    for (; k < count; ++k) to[k] = larger(a[k], b[k]);
  }

  // Rows begin..end-1 of all images. POOLED is the number of pooled channels, or 0.
  template <int POOLED, bool PRELU>
  void rows(int64_t begin, int64_t end) const {
    const int64_t pooled = POOLED ? POOLED : call.pooled, channels = call.channels, step = MOST / (2 * pooled);
    float found[MOST];
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t start = 0; start < call.w; start += step) {
        const int64_t pixels = min(step, call.w - start), count = 2 * pixels * pooled;
        const float* const top = call.input + (4 * row * call.w + 2 * start) * pooled;
        larger_of(top, top + 2 * call.w * pooled, found, count);
        larger_of(found, found + pooled, found, count - pooled);
        const int64_t first = row * call.w + start, others = channels - pooled;
        float* const image = call.image + first * channels;
        if (call.filtered) copy(call.filtered + first * others, pixels, others, image);
        for (int64_t j = 0; j < pixels; ++j)
          for (int64_t k = 0; k < pooled; ++k)
            image[j * channels + others + k] = call.scale[k] * found[2 * j * pooled + k] + call.shift[k];
        act.template range<false, PRELU>(first * channels, (first + pixels) * channels);
      }
    }
  }

  void copy(const float* from, int64_t pixels, int64_t others, float* to) const {
    for (int64_t j = 0; j < pixels; ++j, from += others, to += call.channels) {
      int64_t c = 0;
      for (; c + WIDE <= others; c += WIDE) store_floats(to + c, load_floats(from + c));
      for (; c < others; ++c) to[c] = from[c];
    }
  }

  void run() const {
    const auto rows = call.slopes ? (call.pooled == 3 ? &PooledBeside::rows<3, true> : &PooledBeside::rows<0, true>)
                                  : (call.pooled == 3 ? &PooledBeside::rows<3, false> : &PooledBeside::rows<0, false>);
    parallel_rows(call, call.batch * call.h, call.w * call.channels,
                  [&](int64_t begin, int64_t end) { (this->*rows)(begin, end); });
  }
};

int32_t pool_beside(const BoxPoolBeside& call) {
  if (call.pooled <= 0 || 2 * call.pooled > PooledBeside::MOST) return BOX_NOT_SERVED;
  if (call.batch <= 0 || call.h <= 0 || call.w <= 0) return BOX_DONE;
  const BoxActivation after{call.batch * call.h * call.w, call.channels, call.image, nullptr, call.slopes, 1, nullptr};
  return with_activation(after, [&](const Activated& act) { PooledBeside{call, act}.run(); });
}
