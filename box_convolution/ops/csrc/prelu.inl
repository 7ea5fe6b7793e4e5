// PReLU in training, and its derivative: see layers.h. Included by kernels.inl.

template <typename T>
struct Prelu {
  static constexpr int64_t PART = 1 << 16;  // numbers that one thread adds up, about

  const BoxPrelu& call;
  const int64_t period;  // see slopes_period
  const float* slopes;   // period numbers
  double* grad_slopes;   // of each part

  static int64_t period_of(const BoxPrelu& call) { return slopes_period(call.channels); }
  static int64_t part(const BoxPrelu& call) {
    const int64_t period = period_of(call);
    return (PART + period - 1) / period * period;
  }
  static int64_t parts(const BoxPrelu& call) {
    return (call.pixels * call.channels + part(call) - 1) / part(call);
  }

  // Numbers begin..end-1; ``begin`` is a multiple of the period. Adds to sums (period numbers), if there is a grad_output.
  template <bool BACKWARD>
  void range(int64_t begin, int64_t end, float* sums) const {
    const T* const all = static_cast<const T*>(call.input);
    const T* const grads = static_cast<const T*>(call.grad_output);
    for (int64_t start = begin; start < end; start += period) {
      const T* const input = all + start;
      const T* const grad = BACKWARD ? grads + start : nullptr;
      T* const result = static_cast<T*>(call.result) + start;
      const int64_t count = min(period, end - start);
      int64_t c = 0;
      for (; c + WIDE <= count; c += WIDE) {
        const Floats value = read_floats(input + c), slope = load_floats(slopes + c);
        if (BACKWARD) {
          const Floats by = read_floats(grad + c);
          write_floats(result + c, value > 0 ? by : slope * by);
          store_floats(sums + c, load_floats(sums + c) + (value > 0 ? Floats{} : value * by));
        } else {
          write_floats(result + c, value > 0 ? value : slope * value);
        }
      }
      for (; c < count; ++c) {
        const float value = float(to_double(input[c])), by = BACKWARD ? float(to_double(grad[c])) : value;
        result[c] = from_double<T>(value > 0 ? by : slopes[c] * by);
        if (BACKWARD) sums[c] += value > 0 ? 0.f : value * by;
      }
    }
  }

  void run(Failure& failure) const {
    const int64_t numbers = call.pixels * call.channels, part = Prelu::part(call);
    parallel(call, parts(call), [&](int64_t first, int64_t last) {
      if (!call.grad_output) return range<false>(first * part, min(last * part, numbers), nullptr);
      float* const sums = reinterpret_cast<float*>(thread_scratch().get(in_doubles(period)));
      if (!sums) {
        failure.happened = 1;
        return;
      }
      for (int64_t k = first; k < last; ++k) {
        fill(sums, sums + period, 0.f);
        range<true>(k * part, min((k + 1) * part, numbers), sums);
        double* const totals = grad_slopes + k * call.channels;
        fill(totals, totals + call.channels, 0.);
        for (int64_t start = 0; start < period; start += call.channels)
          for (int64_t c = 0; c < call.channels; ++c) totals[c] += sums[start + c];
      }
      thread_scratch().trim();
    });
  }

  static int32_t done(const BoxPrelu& call) {
    const int64_t period = period_of(call), parts = call.grad_output ? Prelu::parts(call) : 0;
    double* const memory = shared_scratch().get(in_doubles(period) + parts * call.channels);
    if (!memory) return BOX_NO_MEMORY;
    float* const slopes = reinterpret_cast<float*>(memory);
    repeat_slopes(call.slopes, call.channels, slopes, period);
    Failure failure;
    Prelu{call, period, slopes, memory + in_doubles(period)}.run(failure);
    for (int64_t c = 0; call.grad_output && c < call.channels; ++c) {
      double total = 0;
      for (int64_t k = 0; k < parts; ++k) total += memory[in_doubles(period) + k * call.channels + c];
      call.grad_slopes[c] = float(total);
    }
    shared_scratch().trim();
    return failure.happened ? BOX_NO_MEMORY : BOX_DONE;
  }
};

int32_t prelu(const BoxPrelu& call) {
  if (call.channels <= 0) return BOX_DONE;
  if (call.dtype == BOX_FLOAT32) return Prelu<float>::done(call);
  return call.dtype == BOX_BFLOAT16 ? Prelu<BFloat16>::done(call) : BOX_NOT_SERVED;
}
