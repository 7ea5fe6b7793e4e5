// planes.inl for gradients. Included by kernels.inl.

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

  // Gradients of one box over one plane, into edges (4) and adjoint. Returns false for a NaN box.
  bool box(const Table& table, const Table& adjoint, const PaddedRows& padded, double* taps, int64_t plane, int64_t m,
           double* edges) const {
    const Box box = box_of(plane, m);
    if (box.nan) {
      fill(edges, edges + 4, double(NAN));
      return false;
    }
    const EdgeSums sums = backward_box(table, adjoint, box, padded, taps, grad_output(plane, m),
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

  // One box of a plane in fixed point, with so many doubles of working memory.
  int64_t fixed_working_size() const {
    return FloatPlane<T>::size(p.h, p.w) + MarginRows::size(p.h, p.w) + in_doubles(2 * (p.h + 1) * STRIP * WIDE);
  }

  void fixed_box(const RowSums& sums, const MarginRows& differences, double grad_input_scale, float largest, float largest_grad,
                 bool with_edges, double* memory, int64_t plane, int64_t m, double* edges) const {
    if constexpr (sizeof(T) < 8) {
      const Box box = box_of(plane, m);
      const int64_t floats = FloatPlane<T>::size(p.h, p.w), margin_rows = MarginRows::size(p.h, p.w);
      const FloatPlane<T> grad(grad_output(plane, m), call.grad_output_strides[2], call.grad_output_strides[3], p.h, p.w,
                               memory);
      const MarginRows rows(memory + floats, p.h, p.w);
      rows.clear_margins();
      uint32_t* column_sums = reinterpret_cast<uint32_t*>(memory + floats + margin_rows);
      const FixedBackward fixed(box, sums, p.normalize, largest, largest_grad, grad_input_scale);
      const MarginRows* target = call.grad_input ? &differences : nullptr;
      if (with_edges)
        fixed_backward_box<T, true>(sums, box, fixed, column_sums, grad, rows, target, edges);
      else
        fixed_backward_box<T, false>(sums, box, fixed, column_sums, grad, rows, target, edges);
    }
  }

  enum Done { NOTHING, GRAD_INPUT, EVERYTHING };

  // A whole plane in fixed point, by this thread or by all, as far as it fits.
  Done fixed_plane(int64_t plane, bool all_threads, double* edges, Failure& failure) const {
    if (!fixed_point<T>(p)) return NOTHING;
    const int64_t boxes = p.per_channel, floats = FloatPlane<T>::size(p.h, p.w), rows = MarginRows::size(p.h, p.w);
    const int64_t targets = all_threads ? boxes : 1;  // threads add to differences of their own
    const Team team{p, all_threads};
    double* memory = (all_threads ? shared_scratch() : thread_scratch())
                         .get(in_doubles(boxes) + floats + rows * (1 + targets) + fixed_working_size());
    if (!memory) {
      failure.happened = 1;
      return EVERYTHING;
    }
    float* largest_grads = reinterpret_cast<float*>(memory);
    double* const image_memory = memory + in_doubles(boxes);
    double* const targets_memory = image_memory + floats + rows;
    double* const working = targets_memory + rows * targets;
    const FloatPlane<T> image(input(plane), p.input_strides[2], p.input_strides[3], p.h, p.w, image_memory);
    const Magnitude magnitude = magnitude_of(team, image, p.h, p.w);
    const float largest = magnitude.largest;
    bool with_edges = call.grad_boxes && fits_fixed_point(largest), finite = true;
    GradientRange range;
    for (int64_t m = 0; m < boxes; ++m) {
      const FloatPlane<T> grad(grad_output(plane, m), call.grad_output_strides[2], call.grad_output_strides[3], p.h, p.w,
                               working);
      largest_grads[m] = magnitude_of(team, grad, p.h, p.w).largest;
      if (!fits_fixed_point(largest_grads[m])) return NOTHING;
      const double product = double(largest) * largest_grads[m];
      with_edges &= product == 0 || (product > 1e-25 && product < 1e25);
      const Box box = box_of(plane, m);
      if (box.nan)
        finite = false;
      else
        range.see(box, p.h, p.w, largest_grads[m]);
    }
    with_edges &= range.keeps_digits(magnitude);
    const Done done = with_edges || !call.grad_boxes ? EVERYTHING : GRAD_INPUT;
    if (done == GRAD_INPUT && !call.grad_input) return NOTHING;
    const double scale = range.scale(double((p.w + 2 * WIDE) * boxes));
    RowSums sums(image_memory + floats, p.h, p.w);
    if (with_edges) sums.fill(team, image, scale_of(range.length, largest));
    if (!all_threads) memset(targets_memory, 0, sizeof(double) * size_t(rows));
    team.share(boxes, [&](int64_t begin, int64_t end) {
      double* own = all_threads ? thread_scratch().get(fixed_working_size()) : working;
      if (!own) return void(failure.happened = 1);
      for (int64_t m = begin; m < end; ++m) {
        const MarginRows target(targets_memory + (all_threads ? m * rows : 0), p.h, p.w);
        if (all_threads) memset(target.data, 0, sizeof(double) * size_t(rows));
        if (box_of(plane, m).nan)
          fill(edges + m * 4, edges + m * 4 + 4, double(NAN));
        else
          fixed_box(sums, target, scale, largest, largest_grads[m], with_edges, own, plane, m, edges + m * 4);
      }
    });
    if (!call.grad_input || failure.happened) return done;
    if (!finite) {
      fill(grad_input(plane), grad_input(plane) + p.h * p.w, from_double<T>(NAN));
      return done;
    }
    const MarginRows sum(targets_memory, p.h, p.w);
    team.share((p.h + 3) / 4, [&](int64_t begin, int64_t end) {
      for (int64_t m = 1; m < targets; ++m) sum.add(MarginRows(targets_memory + m * rows, p.h, p.w), 4 * begin, min(4 * end, p.h));
      integrate_rows(sum, scale, grad_input(plane), 4 * begin, min(4 * end, p.h));
    });
    return done;
  }

  void write(const Table& adjoint, int64_t plane, Done done, bool finite) const {
    if (!call.grad_input || done == GRAD_INPUT) return;
    if (finite)
      integrate(adjoint, grad_input(plane));
    else
      fill(grad_input(plane), grad_input(plane) + p.h * p.w, from_double<T>(NAN));
  }

  static void clear(const Table& adjoint) {
    memset(adjoint.data, 0, sizeof(double) * Table::size(adjoint.h, adjoint.w));
  }

  int64_t working_size() const { return 2 * Table::size(p.h, p.w) + PaddedRows::size(p.w) + 3 * Table::pitch_of(p.w); }

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
      for (int64_t plane = begin; plane < end; ++plane) {
        const Done done = fixed_plane(plane, false, edges + plane * p.per_channel * 4, failure);
        if (done == EVERYTHING) continue;
        double* memory = thread_scratch().get(working_size());
        if (!memory) return void(failure.happened = 1);
        const Table table(memory, p.h, p.w), adjoint(memory + Table::size(p.h, p.w), p.h, p.w);
        const PaddedRows padded(memory + 2 * Table::size(p.h, p.w), p.w);
        double* taps = memory + 2 * Table::size(p.h, p.w) + PaddedRows::size(p.w);
        build_table(table, input(plane), p.input_strides[2], p.input_strides[3]);
        clear(adjoint);
        bool finite = true;
        for (int64_t m = 0; m < p.per_channel; ++m)
          finite &= box(table, adjoint, padded, taps, plane, m, edges + (plane * p.per_channel + m) * 4);
        write(adjoint, plane, done, finite);
      }
      thread_scratch().trim();
    });
    return failure.happened;
  }

  // One box a task, each with an adjoint of its own; they are summed in the order of the boxes.
  int32_t by_boxes(double* edges) const {
    const int64_t size = Table::size(p.h, p.w);
    Failure failure;
    for (int64_t plane = 0; plane < planes && !failure.happened; ++plane) {
      const Done done = fixed_plane(plane, true, edges + plane * p.per_channel * 4, failure);
      if (done == EVERYTHING) continue;
      double* memory = shared_scratch().get((1 + p.per_channel) * size);
      if (!memory) return 1;
      const Table table(memory, p.h, p.w);
      build_table(table, input(plane), p.input_strides[2], p.input_strides[3]);
      bool finite = true;
      parallel(p, p.per_channel, [&](int64_t begin, int64_t end) {
        double* rows = thread_scratch().get(PaddedRows::size(p.w) + 3 * Table::pitch_of(p.w));
        if (!rows) return void(failure.happened = 1);
        for (int64_t m = begin; m < end; ++m) {
          const Table adjoint(memory + (1 + m) * size, p.h, p.w);
          const PaddedRows padded(rows, p.w);
          clear(adjoint);
          if (!box(table, adjoint, padded, rows + PaddedRows::size(p.w), plane, m, edges + (plane * p.per_channel + m) * 4))
            finite = false;
        }
      });
      if (failure.happened) break;
      const Table sum(memory + size, p.h, p.w);
      parallel(p, p.h, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin + 1; r <= end; ++r)
          for (int64_t m = 1; m < p.per_channel; ++m)
            add_row(sum.row(r), Table(memory + (1 + m) * size, p.h, p.w).row(r), 0, p.w + 1);
      });
      write(sum, plane, done, finite);
    }
    shared_scratch().trim();
    return failure.happened;
  }
};
