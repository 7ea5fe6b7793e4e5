// Max pooling that is added to a convolution, and the activation of the sum: see layers.h. Included by kernels.inl.

struct PoolAdd {
  const BoxPoolAdd& call;
  const Activated act;

  // Takes ``next`` where it is larger, or a NaN; V and I are numbers, or vectors of them.
  template <typename V, typename I>
  static inline void larger(V& most, I& place, V next, I next_place) {
    const auto takes = (next > most) | (next != next);
    most = takes ? next : most;
    place = takes ? next_place : place;
  }

  // Rows begin..end-1 of all images.
  template <bool PRELU>
  void rows(int64_t begin, int64_t end) const {
    const int64_t pooled = call.pooled, channels = call.channels, width = 2 * call.w;
    for (int64_t row = begin; row < end; ++row) {
      float* const image = call.image + row * call.w * channels;
      int64_t* const indices = call.indices + row * call.w * pooled;
      for (int64_t j = 0; j < call.w; ++j) {
        const float* const from = call.input + (2 * row * width + 2 * j) * pooled;
        const float* const places[4] = {from, from + pooled, from + width * pooled, from + (width + 1) * pooled};
        const int64_t first = row % call.h * 2 * width + 2 * j;  // of the window, in its plane
        int64_t c = 0;
        for (; c + WIDE <= pooled; c += WIDE) {
          Floats most = load_floats(places[0] + c);
          Ints place = {0};
          for (int32_t k = 1; k < 4; ++k)
            larger(most, place, load_floats(places[k] + c), Ints{} + (k % 2 + k / 2 * int32_t(width)));
          store_floats(image + j * channels + c, load_floats(image + j * channels + c) + most);
          store_lower_halves(indices + j * pooled + c, reinterpret_cast<Words>(place) + uint32_t(first));
        }
        for (; c < pooled; ++c) {
          float most = places[0][c];
          int64_t place = 0;
          for (int64_t k = 1; k < 4; ++k) larger(most, place, places[k][c], k % 2 + k / 2 * width);
          image[j * channels + c] += most;
          indices[j * pooled + c] = first + place;
        }
      }
      act.template range<false, PRELU>(row * call.w * channels, (row + 1) * call.w * channels);
    }
  }

  void run() const {
    const auto rows = call.slopes ? &PoolAdd::rows<true> : &PoolAdd::rows<false>;
    parallel_rows(call, call.batch * call.h, call.w * call.channels,
                  [&](int64_t begin, int64_t end) { (this->*rows)(begin, end); });
  }
};

int32_t pool_add(const BoxPoolAdd& call) {
  if (call.h > 0 && call.w > INT32_MAX / 4 / call.h) return BOX_NOT_SERVED;  // indices of more than 31 bits
  if (call.batch <= 0 || call.h <= 0 || call.w <= 0 || call.channels <= 0) return BOX_DONE;
  const BoxActivation after{call.batch * call.h * call.w, call.channels, call.image, nullptr, call.slopes, 1, nullptr};
  return with_activation(after, [&](const Activated& act) { PoolAdd{call, act}.run(); });
}
