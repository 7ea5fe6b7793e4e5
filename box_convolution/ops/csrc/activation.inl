// An addition and an activation in place: see layers.h. Included by kernels.inl.

// Numbers after which the slopes of so many channels repeat; many, to spare starts of loops.
inline int64_t slopes_period(int64_t channels) {
  const int64_t whole = channels % WIDE && channels < 256 ? channels * WIDE : channels;
  return (255 + whole) / whole * whole;
}

inline void repeat_slopes(const float* slopes, int64_t channels, float* repeated, int64_t period) {
  for (int64_t start = 0; start < period; start += channels)
    for (int64_t c = 0; c < channels; ++c) repeated[start + c] = slopes[c];
}

struct Activated {
  static constexpr int64_t LEAST = 1 << 15;  // numbers that are worth another thread

  const BoxActivation& call;
  const int64_t period;
  const float* slopes;   // period numbers

  Activated(const BoxActivation& call, void* memory) : call(call), period(period_of(call)), slopes(call.slopes) {
    if (!slopes || period == call.channels) return;
    float* const repeated = static_cast<float*>(memory);
    repeat_slopes(call.slopes, call.channels, repeated, period);
    slopes = repeated;
  }
  static int64_t period_of(const BoxActivation& call) {
    return call.slopes ? slopes_period(call.channels) : LEAST;
  }

  // A NaN stays a NaN. ReLU is not computed as a slope of 0, which would turn an infinity into a NaN.
  template <bool PRELU, typename V>
  static inline V of(V value, V slope) {
    return value < 0 ? (PRELU ? slope * value : V{}) : value;
  }

  // Numbers begin..end-1 of the image; ``begin`` is a multiple of the channels.
  template <bool RESIDUAL, bool PRELU>
  void range(int64_t begin, int64_t end) const {
    for (int64_t start = begin; start < end; start += period) {
      float* const image = call.image + start;
      const float* const residual = RESIDUAL ? call.residual + start : nullptr;
      const int64_t count = min(period, end - start);
      int64_t c = 0;
      for (; c + WIDE <= count; c += WIDE) {
        const Floats value = RESIDUAL ? load_floats(image + c) + load_floats(residual + c) : load_floats(image + c);
        store_floats(image + c, of<PRELU>(value, PRELU ? load_floats(slopes + c) : Floats{}));
      }
      for (; c < count; ++c) {
        const float value = RESIDUAL ? image[c] + residual[c] : image[c];
        image[c] = of<PRELU>(value, PRELU ? slopes[c] : 0.f);
      }
    }
  }

  void run() const {
    const int64_t numbers = call.pixels * call.channels, share = (LEAST + period - 1) / period * period;
    const auto range = call.residual ? (slopes ? &Activated::range<true, true> : &Activated::range<true, false>)
                                     : (slopes ? &Activated::range<false, true> : &Activated::range<false, false>);
    parallel(call, (numbers + share - 1) / share,
             [&](int64_t begin, int64_t end) { (this->*range)(begin * share, min(end * share, numbers)); });
  }
};

// Calls body(activated) with memory for the slopes of ``call``.
template <typename Body>
int32_t with_activation(const BoxActivation& call, const Body& body) {
  void* memory = call.slopes ? shared_scratch().get(in_doubles(Activated::period_of(call))) : nullptr;
  if (call.slopes && !memory) return BOX_NO_MEMORY;
  body(Activated(call, memory));
  shared_scratch().trim();
  return BOX_DONE;
}

// Calls body(begin, end) for parts of ``rows`` rows of so many numbers, enough of them to be worth a thread.
template <typename Call, typename Body>
void parallel_rows(const Call& call, int64_t rows, int64_t numbers, const Body& body) {
  const int64_t share = (Activated::LEAST + numbers - 1) / numbers;
  parallel(call, (rows + share - 1) / share,
           [&](int64_t begin, int64_t end) { body(begin * share, min(end * share, rows)); });
}

int32_t activation(const BoxActivation& call) {
  if (call.pixels <= 0 || call.channels <= 0) return BOX_DONE;
  return with_activation(call, [](const Activated& act) { act.run(); });
}
