// Max-unpooling and ReLU: see layers.h. Included by kernels.inl.
//
// If every index lies in the window of 2x2 pixels that belongs to its value, as after pooling such windows, an image is read
// and written once, in order. Else values are scattered: each thread gets whole cache lines of channels, so that no two threads
// write to one place, whatever the indices.

struct Unpool {
  static constexpr int64_t LINE = 16;

  const BoxUnpool& call;
  const int64_t width;  // of the image, if windows have 2x2 pixels

  explicit Unpool(const BoxUnpool& call) : call(call), width(2 * call.w) {}

  int64_t rows() const { return call.batch * call.h; }
  // Of pixel j in a row of windows: the first pixel of its window, in its plane.
  int64_t first(int64_t row, int64_t j) const { return row % call.h * 2 * width + 2 * j; }

  // Calls vector(c, lower, upper) for whole vectors of channels, and number(c, index) for the others.
  template <typename Vector, typename Number>
  inline void channels(int64_t row, int64_t j, const Vector& vector, const Number& number) const {
    const int64_t* const indices = call.indices + (row * call.w + j) * call.channels;
    int64_t c = 0;
    for (; c + WIDE <= call.channels; c += WIDE) {
      Words lower, upper;
      load_halves(indices + c, lower, upper);
      vector(c, lower, upper);
    }
    for (; c < call.channels; ++c) number(c, indices[c]);
  }

  // Whether the indices of a row of windows lie in their windows.
  bool in_windows(int64_t row) const {
    Words bad = {0};  // not 0 in a lane with an index elsewhere
    bool others = false;
    for (int64_t j = 0; j < call.w; ++j) {
      const int64_t first = this->first(row, j);
      channels(
          row, j,
          [&](int64_t, Words lower, Words upper) {
            const Words where = lower - uint32_t(first), column = where >= uint32_t(width) ? where - uint32_t(width) : where;
            bad |= upper | (column & ~1u);
          },
          [&](int64_t, int64_t index) {
            const uint64_t where = uint64_t(index) - uint64_t(first), size = uint64_t(width);
            others |= where != 0 && where != 1 && where != size && where != size + 1;
          });
    }
    for (int64_t lane = 0; lane < WIDE; ++lane) others |= bad[lane] != 0;
    return !others;
  }

  template <bool RELU>
  void add(int64_t row) const {
    for (int64_t j = 0; j < call.w; ++j) {
      const float* const values = call.values + (row * call.w + j) * call.channels;
      const int64_t first = this->first(row, j);
      float* const image = call.image + (row / call.h * call.image_pixels + first) * call.channels;
      const int64_t line = width * call.channels;
      float* const pixels[4] = {image, image + call.channels, image + line, image + line + call.channels};
      channels(
          row, j,
          [&](int64_t c, Words lower, Words) {
            const Floats value = load_floats(values + c);
            for (int64_t k = 0; k < 4; ++k) {
              const Floats before = load_floats(pixels[k] + c);
              const Floats sum = lower == uint32_t(first + k % 2 + k / 2 * width) ? before + value : before;
              store_floats(pixels[k] + c, RELU ? Activated::of<false>(sum, Floats{}) : sum);
            }
          },
          [&](int64_t c, int64_t index) {
            for (int64_t k = 0; k < 4; ++k) {
              float& sum = pixels[k][c];
              if (index == first + k % 2 + k / 2 * width) sum += values[c];
              if (RELU) sum = Activated::of<false>(sum, 0.f);
            }
          });
    }
  }

  void scatter(int64_t begin, int64_t end) const {
    for (int64_t b = 0; b < call.batch; ++b) {
      float* const image = call.image + b * call.image_pixels * call.channels;
      for (int64_t p = b * call.h * call.w; p < (b + 1) * call.h * call.w; ++p)
        for (int64_t c = begin * LINE; c < min(end * LINE, call.channels); ++c) {
          const int64_t index = call.indices[p * call.channels + c];
          if (uint64_t(index) < uint64_t(call.image_pixels))
            image[index * call.channels + c] += call.values[p * call.channels + c];
        }
    }
  }

  void run() const {
    const int64_t numbers = max<int64_t>(1, call.w * call.channels);  // of values in a row
    Failure elsewhere;  // an index in another window
    const bool fits = call.image_pixels == 4 * call.h * call.w && call.image_pixels <= INT32_MAX;
    if (fits)
      parallel_rows(call, rows(), numbers, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end && !elsewhere.happened; ++row)
          if (!in_windows(row)) elsewhere.happened = 1;
      });
    if (fits && !elsewhere.happened) {
      const auto add = call.relu ? &Unpool::add<true> : &Unpool::add<false>;
      return parallel_rows(call, rows(), numbers, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) (this->*add)(row);
      });
    }
    parallel(call, (call.channels + LINE - 1) / LINE, [&](int64_t begin, int64_t end) { scatter(begin, end); });
    if (!call.relu) return;
    const BoxActivation after{call.batch * call.image_pixels, call.channels, call.image, nullptr, nullptr, call.threads,
                              call.parallel_for};
    Activated(after, nullptr).run();
  }
};

int32_t unpool(const BoxUnpool& call) {
  Unpool(call).run();
  return BOX_DONE;
}
