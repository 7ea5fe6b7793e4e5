// The gradients of all planes, shared out among threads as in nchw_forward.inl. Included by kernels.inl.

// Moves ``channels`` of ``pixels``, which are ``apart`` numbers apart, to as many planes of ``size`` numbers.
inline void planes_of_pixels(
    const float* from, int64_t apart, int64_t pixels, int64_t channels, float* to, int64_t size) {
  int64_t j = 0;
  for (; j + WIDE <= pixels; j += WIDE) {
    for (int64_t start = 0; start < channels && channels >= WIDE; start += WIDE) {
      const int64_t c = min(start, channels - WIDE);  // the last ones again, if they fill no vector
      Floats tile[WIDE];
      for (int64_t k = 0; k < WIDE; ++k) tile[k] = load_floats(from + (j + k) * apart + c);
      transpose(tile);
      for (int64_t k = 0; k < WIDE; ++k) store_floats(to + (c + k) * size + j, tile[k]);
    }
    for (int64_t c = 0; c < channels && channels < WIDE; ++c)
      for (int64_t k = j; k < j + WIDE; ++k) to[c * size + k] = from[k * apart + c];
  }
  for (; j < pixels; ++j)
    for (int64_t c = 0; c < channels; ++c) to[c * size + j] = from[j * apart + c];
}

template <typename T>
struct Backward {
  const BoxBackward& call;
  const BoxProblem& p;
  const int64_t h_out, w_out, planes;

  explicit Backward(const BoxBackward& call)
      : call(call), p(call.problem), h_out((p.h + p.stride - 1) / p.stride), w_out((p.w + p.stride - 1) / p.stride),
        planes(p.batch * p.channels) {}

  const T* input(int64_t plane) const {
    const int64_t b = plane / p.channels, c = plane % p.channels;
    return static_cast<const T*>(p.input) + b * p.input_strides[0] + c * p.input_strides[1];
  }

  // Writes the gradients by the four ``edges`` of one box over one plane, and adds its taps to ``adjoint``. Returns false for a
  // box with a NaN.
  bool box(const IntegralImage& integral, const IntegralImage& adjoint, const PaddedRows& padded, double* taps,
           int64_t plane, int64_t m,
           double* edges) const {
    const Box box = box_of(plane, m);
    if (box.nan) {
      fill(edges, edges + 4, double(NAN));
      return false;
    }
    const EdgeSums sums = backward_box(integral, adjoint, box, padded, taps, grad_output(plane, m),
                                       call.grad_output_strides[2], call.grad_output_strides[3], h_out, w_out, p.stride);
    edge_gradients(sums, box, p.normalize, edges);
    return true;
  }

  const T* grad_output(int64_t plane, int64_t m) const {
    const int64_t* strides = call.grad_output_strides;
    return static_cast<const T*>(call.grad_output) + plane / p.channels * strides[0] +
           (plane % p.channels * p.per_channel + m) * strides[1];
  }

  Box box_of(int64_t plane, int64_t m) const {
    return Box(p.boxes + 4 * (plane % p.channels * p.per_channel + m), p.h, p.w, p.normalize);
  }

  T* grad_input(int64_t plane) const { return static_cast<T*>(call.grad_input) + plane * p.h * p.w; }

  enum Done { NOTHING, GRAD_INPUT, EVERYTHING };

  // Computes a plane in fixed point, in this thread or in all. Returns which gradients were fit for it: see
  // fixed_point_forward.inl.
  Done fixed_plane(int64_t plane, bool all_threads, double* edges, Failure& failure) const;

  void write(const IntegralImage& adjoint, int64_t plane, Done done, bool finite) const {
    if (!call.grad_input || done == GRAD_INPUT) return;
    if (finite)
      integrate(adjoint, grad_input(plane));
    else
      fill(grad_input(plane), grad_input(plane) + p.h * p.w, from_double<T>(NAN));
  }

  static void clear(const IntegralImage& adjoint) {
    memset(adjoint.data, 0, sizeof(double) * IntegralImage::size(adjoint.h, adjoint.w));
  }

  int64_t working_size() const {
    return 2 * IntegralImage::size(p.h, p.w) + PaddedRows::size(p.w) + 3 * IntegralImage::pitch_of(p.w);
  }

  // Whether one_pass_backward.inl serves this call: it reads rows of grad_output in place, as vectors.
  bool in_one_pass() const {
    return sizeof(T) >= 4 && p.stride == 1 && p.w >= WIDE_ENOUGH && (p.w == 1 || call.grad_output_strides[3] == 1);
  }

  GradRows<T> grad_rows(int64_t plane, int64_t m, const BackwardRows& rows) const {
    return {grad_output(plane, m), call.grad_output_strides[2], p.h, reinterpret_cast<const T*>(rows.zeros)};
  }

  // Rows begin..end-1 of the gradient by the input, and their share of those by the ``edges``.
  void band(int64_t plane, int64_t begin, int64_t end, Done done, double* edges, Failure& failure) const {
    const int64_t boxes_size = (p.per_channel * int64_t(sizeof(Box)) + 63) / 64 * 8;
    double* memory = thread_scratch().get(boxes_size + BackwardRows::size(p.w, p.per_channel));
    if (!memory) return void(failure.happened = 1);
    Box* const boxes = reinterpret_cast<Box*>(memory);
    const BackwardRows rows(memory + boxes_size, p.w, p.per_channel);
    bool finite = true;
    int64_t beyond = 0;
    for (int64_t m = 0; m < p.per_channel; ++m) {
      boxes[m] = box_of(plane, m);
      finite &= !boxes[m].nan;
      if (boxes[m].nan) continue;
      rows.start_box(m, boxes[m], grad_rows(plane, m, rows), begin);
      beyond = max(beyond, max(boxes[m].columns.low, boxes[m].columns.high));
    }
    T* const to = call.grad_input && done != GRAD_INPUT ? grad_input(plane) : nullptr;
    int64_t r = begin;
    for (; r + BackwardRows::R <= end; r += BackwardRows::R)
      some_rows<BackwardRows::R>(rows, boxes, plane, r, beyond, finite ? to : nullptr);
    for (; r < end; ++r) some_rows<1>(rows, boxes, plane, r, beyond, finite ? to : nullptr);
    for (int64_t m = 0; m < p.per_channel; ++m)
      if (boxes[m].nan)
        fill(edges + 4 * m, edges + 4 * m + 4, double(NAN));
      else
        edge_gradients(BoxSums(rows.sums(m)).edges(), boxes[m], p.normalize, edges + 4 * m);
    if (to && !finite) fill(to + begin * p.w, to + end * p.w, from_double<T>(NAN));
  }

  // A plane by all threads. The number of bands does not depend on theirs.
  void bands(int64_t plane, Done done, double* edges, Failure& failure) const {
    constexpr int64_t R = BackwardRows::R;
    const int64_t count = 4 * p.per_channel, band_rows = (p.h + ENOUGH_PLANES * R - 1) / (ENOUGH_PLANES * R) * R;
    double* const parts = shared_scratch().get(ENOUGH_PLANES * count);
    if (!parts) return void(failure.happened = 1);
    parallel(p, ENOUGH_PLANES, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k)
        band(plane, min(k * band_rows, p.h), min((k + 1) * band_rows, p.h), done, parts + k * count, failure);
      thread_scratch().trim();
    });
    fill(edges, edges + count, 0.0);
    for (int64_t k = 0; k < ENOUGH_PLANES; ++k)
      for (int64_t e = 0; e < count; ++e) edges[e] += parts[k * count + e];
  }

  // N rows of a plane. ``to`` may be NULL.
  template <int N>
  void some_rows(const BackwardRows& rows, const Box* boxes, int64_t plane, int64_t begin, int64_t beyond, T* to) const {
    const T* from = input(plane) + begin * p.input_strides[2];
    rows.template read_input<T, N>(from, p.input_strides[2], p.input_strides[3], beyond);
    Vec before[N] = {};
    for (int64_t m = 0; m < p.per_channel; ++m) {
      if (boxes[m].nan) continue;
      rows.template sum_rows<T, N>(m, boxes[m], grad_rows(plane, m, rows), begin);
      if (to) rows.template add_steps<N>(m, boxes[m], before);
    }
    if (to) rows.template write<T, N>(before, to + begin * p.w);
  }

  int32_t run() const {
    Scratch partial;
    double* edges = partial.get(max<int64_t>(planes * p.per_channel * 4, 1));
    if (!edges) return 1;
    const int32_t failed = planes >= ENOUGH_PLANES ? by_planes(edges) : by_boxes(edges);
    if (failed) return failed;
    if (call.grad_boxes) {
      const int64_t count = p.channels * p.per_channel * 4;
      fill(call.grad_boxes, call.grad_boxes + count, 0.0);
      for (int64_t b = 0; b < p.batch; ++b)
        for (int64_t k = 0; k < count; ++k) call.grad_boxes[k] += edges[b * count + k];
    }
    return 0;
  }

  int32_t by_planes(double* edges) const {
    Failure failure;
    parallel(p, planes, [&](int64_t begin, int64_t end) {
      Scratch scratch;
      for (int64_t plane = begin; plane < end && !failure.happened;) {
        BoxBackward with = call;
        const int64_t count = gathered() ? gather(plane, end, scratch, with) : 1;
        if (!count) return void(failure.happened = 1);
        for (const int64_t next = plane + count; plane < next; ++plane) Backward(with).whole_plane(plane, edges, failure);
      }
      thread_scratch().trim();
    });
    return failure.happened;
  }

  // A plane by this thread alone.
  void whole_plane(int64_t plane, double* edges, Failure& failure) const {
    const Done done = fixed_plane(plane, false, edges + plane * p.per_channel * 4, failure);
    if (done == EVERYTHING) return;
    if (in_one_pass()) return band(plane, 0, p.h, done, edges + plane * p.per_channel * 4, failure);
    double* memory = thread_scratch().get(working_size());
    if (!memory) return void(failure.happened = 1);
    const IntegralImage integral(memory, p.h, p.w), adjoint(memory + IntegralImage::size(p.h, p.w), p.h, p.w);
    const PaddedRows padded(memory + 2 * IntegralImage::size(p.h, p.w), p.w);
    double* taps = memory + 2 * IntegralImage::size(p.h, p.w) + PaddedRows::size(p.w);
    build_integral_image(integral, input(plane), p.input_strides[2], p.input_strides[3]);
    clear(adjoint);
    bool finite = true;
    for (int64_t m = 0; m < p.per_channel; ++m)
      finite &= box(integral, adjoint, padded, taps, plane, m, edges + (plane * p.per_channel + m) * 4);
    write(adjoint, plane, done, finite);
  }

  // Whether planes of grad_output are gathered from pixels in NHWC before they are read.
  bool gathered() const { return sizeof(T) == 4 && call.grad_output_strides[1] == 1 && call.grad_output_strides[3] != 1; }

  // Gathers grad_output for ``plane`` and as many planes after it, before ``end``, as fill a cache line with it. Returns how
  // many these are, and sets ``with`` to a call that reads them; 0: out of memory.
  int64_t gather(int64_t plane, int64_t end, Scratch& scratch, BoxBackward& with) const {
    constexpr int64_t LINE = 16;
    const int64_t c = plane % p.channels, together = (LINE + p.per_channel - 1) / p.per_channel;
    const int64_t count = min(min(together - c % together, end - plane), p.channels - c);
    // Planes a power of two apart would meet in the same lines of a cache.
    const int64_t outputs = count * p.per_channel, size = (h_out * w_out + 2 * LINE - 1) / LINE * LINE;
    float* const to = reinterpret_cast<float*>(scratch.get(in_doubles(outputs * size)));
    if (!to) return 0;
    const float* const from = reinterpret_cast<const float*>(grad_output(plane, 0));
    const int64_t row_apart = call.grad_output_strides[2], apart = call.grad_output_strides[3];
    const int64_t runs = row_apart == w_out * apart ? 1 : h_out;  // rows without gaps are one run, with one end
    const int64_t pixels = h_out * w_out / runs;
    for (int64_t i = 0; i < runs; ++i) planes_of_pixels(from + i * row_apart, apart, pixels, outputs, to + i * w_out, size);
    const int64_t strides[4] = {0, size, w_out, 1};
    memcpy(with.grad_output_strides, strides, sizeof(strides));
    const size_t before = sizeof(float) * size_t(c * p.per_channel * size);  // of the image's planes that are not here
    with.grad_output = reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(to) - before);
    return count;
  }

  // Each task is one box with an adjoint of its own; the adjoints are then summed in the order of the boxes.
  int32_t by_boxes(double* edges) const {
    const int64_t size = IntegralImage::size(p.h, p.w);
    Failure failure;
    for (int64_t plane = 0; plane < planes && !failure.happened; ++plane) {
      const Done done = fixed_plane(plane, true, edges + plane * p.per_channel * 4, failure);
      if (done == EVERYTHING) continue;
      if (in_one_pass()) {
        bands(plane, done, edges + plane * p.per_channel * 4, failure);
        continue;
      }
      double* memory = shared_scratch().get((1 + p.per_channel) * size);
      if (!memory) return 1;
      const IntegralImage integral(memory, p.h, p.w);
      build_integral_image(integral, input(plane), p.input_strides[2], p.input_strides[3]);
      bool finite = true;
      parallel(p, p.per_channel, [&](int64_t begin, int64_t end) {
        double* rows = thread_scratch().get(PaddedRows::size(p.w) + 3 * IntegralImage::pitch_of(p.w));
        if (!rows) return void(failure.happened = 1);
        for (int64_t m = begin; m < end; ++m) {
          const IntegralImage adjoint(memory + (1 + m) * size, p.h, p.w);
          const PaddedRows padded(rows, p.w);
          clear(adjoint);
          if (!box(integral, adjoint, padded, rows + PaddedRows::size(p.w), plane, m, edges + (plane * p.per_channel + m) * 4))
            finite = false;
        }
      });
      if (failure.happened) break;
      const IntegralImage sum(memory + size, p.h, p.w);
      parallel(p, p.h, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin + 1; r <= end; ++r)
          for (int64_t m = 1; m < p.per_channel; ++m)
            add_row(sum.row(r), IntegralImage(memory + (1 + m) * size, p.h, p.w).row(r), 0, p.w);
      });
      write(sum, plane, done, finite);
    }
    shared_scratch().trim();
    return failure.happened;
  }
};
