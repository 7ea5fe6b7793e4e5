// Outputs in NCHW (contiguous), shared out among threads as work_sharing.inl says. Included by kernels.inl.

template <typename T>
struct Forward {
  static constexpr bool STREAMABLE = sizeof(T) == sizeof(float) && WIDE == 16;  // and AVX-512

  const BoxForward& call;
  const BoxProblem& p;
  const int64_t h_out, w_out, plane_out;
  const bool streams;

  explicit Forward(const BoxForward& call)
      : call(call), p(call.problem), h_out((p.h + p.stride - 1) / p.stride), w_out((p.w + p.stride - 1) / p.stride),
        plane_out(h_out * w_out),
        streams(STREAMABLE && p.stride == 1 && w_out % LANES == 0 && reinterpret_cast<uintptr_t>(call.output) % 64 == 0 &&
                p.batch * p.channels * p.per_channel * plane_out >= STREAMED) {}

  const T* input(int64_t plane) const {
    const int64_t b = plane / p.channels, c = plane % p.channels;
    return static_cast<const T*>(p.input) + b * p.input_strides[0] + c * p.input_strides[1];
  }

  // Calls body(box, out, residual, epilogue) for box ``m`` of a plane; ``out`` and ``residual`` point to the first element of
  // its output channel.
  template <typename Body>
  void channel(int64_t plane, int64_t m, const Body& body) const {
    const int64_t channel = plane % p.channels * p.per_channel + m;
    const int64_t offset = (plane * p.per_channel + m) * plane_out;
    const Epilogue epilogue{call.scale ? call.scale[channel] : 1.0, call.shift ? call.shift[channel] : 0.0, call.relu != 0};
    body(Box(p.boxes + 4 * channel, p.h, p.w, p.normalize), static_cast<T*>(call.output) + offset,
         call.residual ? static_cast<const T*>(call.residual) + offset : nullptr, epilogue);
  }

  // Whether no box reads this plane, because all its scales are 0.
  bool idle(int64_t plane) const {
    if (!call.scale) return false;
    const float* scale = call.scale + plane % p.channels * p.per_channel;
    for (int64_t m = 0; m < p.per_channel; ++m)
      if (scale[m] != 0) return false;
    return true;
  }

  void constants(int64_t plane) const {
    for (int64_t m = 0; m < p.per_channel; ++m)
      channel(plane, m, [&](const Box&, T* out, const T* residual, const Epilogue& epilogue) {
        constant_part(0.0, {0, h_out, 0, w_out}, out, w_out, residual, epilogue);
      });
  }

  bool plain() const { return !call.scale && !call.shift && !call.relu && !call.residual; }

  void rows(const IntegralImage& integral, const PaddedRows& padded, int64_t plane, int64_t m, int64_t begin,
            int64_t end) const {
    channel(plane, m, [&](const Box& box, T* out, const T* residual, const Epilogue& epilogue) {
      if (simple_part(box, input(plane), p, {begin, end, 0, w_out}, out, w_out, residual, epilogue)) return;
      const auto plain_box = streams ? forward_box<T, true, STREAMABLE> : forward_box<T, true, false>;
      const auto other_box = streams ? forward_box<T, false, STREAMABLE> : forward_box<T, false, false>;
      (plain() ? plain_box : other_box)(integral, box, padded, out, residual, w_out, p.stride, begin, end, epilogue);
    });
  }

  // Computes a plane in fixed point, in this thread or in all. Returns false, and has written nothing, if the plane is unfit
  // for it: see fixed_point_forward.inl.
  bool fixed_plane(int64_t plane, bool all_threads, Failure& failure) const;

  int32_t by_planes() const {
    Failure failure;
    parallel(p, p.batch * p.channels, [&](int64_t begin, int64_t end) {
      for (int64_t plane = begin; plane < end; ++plane) {
        if (idle(plane)) {
          constants(plane);
          continue;
        }
        if (fixed_plane(plane, false, failure)) continue;
        double* memory = thread_scratch().get(IntegralImage::size(p.h, p.w) + PaddedRows::size(p.w));
        if (!memory) return void(failure.happened = 1);
        const IntegralImage integral(memory, p.h, p.w);
        const PaddedRows padded(memory + IntegralImage::size(p.h, p.w), p.w);
        build_integral_image(integral, input(plane), p.input_strides[2], p.input_strides[3]);
        for (int64_t m = 0; m < p.per_channel; ++m) rows(integral, padded, plane, m, 0, h_out);
      }
      if (streams) finish_streams();
      thread_scratch().trim();
    });
    return failure.happened;
  }

  int32_t by_rows() const {
    const int64_t band = 32, bands = (h_out + band - 1) / band, strips = (p.h + ROWS - 1) / ROWS;
    const int64_t block = 256, blocks = (p.w + block - 1) / block;
    Failure failure;
    for (int64_t plane = 0; plane < p.batch * p.channels && !failure.happened; ++plane) {
      if (idle(plane)) {
        constants(plane);
        continue;
      }
      if (fixed_plane(plane, true, failure)) continue;
      double* memory = shared_scratch().get(IntegralImage::size(p.h, p.w));
      if (!memory) return 1;
      const IntegralImage integral(memory, p.h, p.w);
      memset(integral.row(0), 0, sizeof(double) * size_t(integral.pitch));
      parallel(p, strips, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin * ROWS; r < min(end * ROWS, p.h); r += ROWS)
          scan_strip(integral, input(plane), p.input_strides[2], p.input_strides[3], r, min<int64_t>(ROWS, p.h - r), false);
      });
      parallel(p, blocks, [&](int64_t begin, int64_t end) {
        for (int64_t r = 1; r < p.h; ++r)
          add_row(integral.row(r + 1), integral.row(r), begin * block, min(end * block, p.w));
      });
      parallel(p, bands * p.per_channel, [&](int64_t begin, int64_t end) {
        double* row = thread_scratch().get(PaddedRows::size(p.w));
        if (!row) return void(failure.happened = 1);
        for (int64_t task = begin; task < end; ++task) {
          const PaddedRows padded(row, p.w);
          rows(integral, padded, plane, task / bands, task % bands * band, min(h_out, (task % bands + 1) * band));
        }
        if (streams) finish_streams();
      });
    }
    shared_scratch().trim();
    return failure.happened;
  }

  int32_t run() const { return p.batch * p.channels >= ENOUGH_PLANES ? by_planes() : by_rows(); }
};

int32_t forward(const BoxForward& call) {
  if (call.pixels) return NhwcForward::serves(call) ? NhwcForward(call).run() : BOX_NOT_SERVED;
  switch (call.problem.dtype) {
    case BOX_FLOAT32: return Forward<float>(call).run();
    case BOX_FLOAT64: return Forward<double>(call).run();
    case BOX_BFLOAT16: return Forward<BFloat16>(call).run();
    default: return Forward<Float16>(call).run();
  }
}

int32_t backward(const BoxBackward& call) {
  switch (call.problem.dtype) {
    case BOX_FLOAT32: return Backward<float>(call).run();
    case BOX_FLOAT64: return Backward<double>(call).run();
    case BOX_BFLOAT16: return Backward<BFloat16>(call).run();
    default: return Backward<Float16>(call).run();
  }
}
