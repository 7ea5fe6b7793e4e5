// How the planes, boxes and rows of a call are shared out among threads. Included by kernels.inl.
//
// Where there are enough planes, a thread does a whole plane: its table stays in cache. Else the table is built by all
// threads, and boxes and bands of rows are shared out. What is added to what, in which order, never depends on the threads.

constexpr int64_t ENOUGH_PLANES = 8;

template <typename T>
struct Forward {
  const BoxForward& call;
  const BoxProblem& p;
  const int64_t h_out, w_out, plane_out;

  explicit Forward(const BoxForward& call)
      : call(call), p(call.problem), h_out((p.h + p.stride - 1) / p.stride), w_out((p.w + p.stride - 1) / p.stride),
        plane_out(h_out * w_out) {}

  const T* input(int64_t plane) const {
    const int64_t b = plane / p.channels, c = plane % p.channels;
    return static_cast<const T*>(p.input) + b * p.input_strides[0] + c * p.input_strides[1];
  }

  // Calls body(box, out, residual, epilogue, plain) for output channel ``m`` of a plane, pointers to its first element.
  template <typename Body>
  void channel(int64_t plane, int64_t m, const Body& body) const {
    const int64_t channel = plane % p.channels * p.per_channel + m;
    const int64_t offset = (plane * p.per_channel + m) * plane_out;
    const Epilogue epilogue{call.scale ? call.scale[channel] : 1.0, call.shift ? call.shift[channel] : 0.0, call.relu != 0};
    body(Box(p.boxes + 4 * channel, p.h, p.w, p.normalize), static_cast<T*>(call.output) + offset,
         call.residual ? static_cast<const T*>(call.residual) + offset : nullptr, epilogue);
  }

  bool plain() const { return !call.scale && !call.shift && !call.relu && !call.residual; }

  void rows(const Table& table, const PaddedRows& padded, int64_t plane, int64_t m, int64_t begin, int64_t end) const {
    channel(plane, m, [&](const Box& box, T* out, const T* residual, const Epilogue& epilogue) {
      if (box.nan)
        fill(out + begin * w_out, out + end * w_out, from_double<T>(NAN));
      else if (plain())
        forward_box<T, true>(table, box, padded, out, residual, w_out, p.stride, begin, end, epilogue);
      else
        forward_box<T, false>(table, box, padded, out, residual, w_out, p.stride, begin, end, epilogue);
    });
  }

  bool fixed_point() const { return sizeof(T) < 8 && !p.exact && p.stride == 1 && p.h + p.w <= FIXED_LIMIT; }

  // Columns begin..end-1 of output channel ``m``, in fixed point.
  void columns(const RowSums& sums, float largest, uint32_t* column_sums, int64_t plane, int64_t m, int64_t begin,
               int64_t end) const {
    if constexpr (sizeof(T) < 8)
      channel(plane, m, [&](const Box& box, T* out, const T* residual, const Epilogue& epilogue) {
        if (box.nan) {
          for (int64_t i = 0; i < p.h; ++i) fill(out + i * p.w + begin, out + i * p.w + end, from_double<T>(NAN));
          return;
        }
        const FixedBox fixed(box, sums, largest, epilogue.scale);
        if (plain())
          fixed_columns<T, true>(sums, fixed, column_sums, begin, end, out, residual, epilogue);
        else
          fixed_columns<T, false>(sums, fixed, column_sums, begin, end, out, residual, epilogue);
      });
  }

  // A whole plane in fixed point, by this thread or by all; false, and nothing done, where it does not fit.
  bool fixed_plane(int64_t plane, bool all_threads, Failure& failure) const {
    const int64_t floats = FloatPlane<T>::size(p.h, p.w), row_sums = RowSums::size(p.h, p.w);
    double* memory = (all_threads ? shared_scratch() : thread_scratch()).get(floats + row_sums + column_sums_size());
    if (!memory) {
      failure.happened = 1;
      return true;
    }
    const FloatPlane<T> image(input(plane), p.input_strides[2], p.input_strides[3], p.h, p.w, memory);
    RowSums sums(memory + floats, p.h, p.w);
    const Team team{p, all_threads};
    const float largest = magnitude_of(team, image, p.h, p.w).largest;
    if (!fits_fixed_point(largest)) return false;
    sums.fill(team, image, scale_of(double(p.w), largest));
    const int64_t width = all_threads ? STRIP * WIDE : p.w, strips = (p.w + width - 1) / width;
    team.share(strips * p.per_channel, [&](int64_t begin, int64_t end) {
      double* own = all_threads ? thread_scratch().get(column_sums_size()) : memory + floats + row_sums;
      if (!own) return void(failure.happened = 1);
      for (int64_t task = begin; task < end; ++task)
        columns(sums, largest, reinterpret_cast<uint32_t*>(own), plane, task / strips, task % strips * width,
                min(p.w, (task % strips + 1) * width));
    });
    return true;
  }

  int64_t column_sums_size() const { return in_doubles((p.h + 1) * STRIP * WIDE); }

  int32_t by_planes() const {
    Failure failure;
    parallel(p, p.batch * p.channels, [&](int64_t begin, int64_t end) {
      for (int64_t plane = begin; plane < end; ++plane) {
        if (fixed_point() && fixed_plane(plane, false, failure)) continue;
        double* memory = thread_scratch().get(Table::size(p.h, p.w) + PaddedRows::size(p.w));
        if (!memory) return void(failure.happened = 1);
        const Table table(memory, p.h, p.w);
        const PaddedRows padded(memory + Table::size(p.h, p.w), p.w);
        build_table(table, input(plane), p.input_strides[2], p.input_strides[3]);
        for (int64_t m = 0; m < p.per_channel; ++m) rows(table, padded, plane, m, 0, h_out);
      }
      thread_scratch().trim();
    });
    return failure.happened;
  }

  int32_t by_rows() const {
    const int64_t band = 32, bands = (h_out + band - 1) / band, strips = (p.h + ROWS - 1) / ROWS;
    const int64_t block = 256, blocks = (p.w + block) / block;
    Failure failure;
    for (int64_t plane = 0; plane < p.batch * p.channels && !failure.happened; ++plane) {
      if (fixed_point() && fixed_plane(plane, true, failure)) continue;
      double* memory = shared_scratch().get(Table::size(p.h, p.w));
      if (!memory) return 1;
      const Table table(memory, p.h, p.w);
      memset(table.row(0), 0, sizeof(double) * (p.w + 1));
      parallel(p, strips, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin * ROWS; r < min(end * ROWS, p.h); r += ROWS)
          scan_strip(table, input(plane), p.input_strides[2], p.input_strides[3], r, min<int64_t>(ROWS, p.h - r), false);
      });
      parallel(p, blocks, [&](int64_t begin, int64_t end) {
        for (int64_t r = 1; r < p.h; ++r)
          add_row(table.row(r + 1), table.row(r), begin * block, min(end * block, p.w + 1));
      });
      parallel(p, bands * p.per_channel, [&](int64_t begin, int64_t end) {
        double* row = thread_scratch().get(PaddedRows::size(p.w));
        if (!row) return void(failure.happened = 1);
        for (int64_t task = begin; task < end; ++task) {
          const PaddedRows padded(row, p.w);
          rows(table, padded, plane, task / bands, task % bands * band, min(h_out, (task % bands + 1) * band));
        }
      });
    }
    shared_scratch().trim();
    return failure.happened;
  }

  int32_t run() const { return p.batch * p.channels >= ENOUGH_PLANES ? by_planes() : by_rows(); }
};

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

  bool fixed_point() const { return sizeof(T) < 8 && !p.exact && p.stride == 1 && p.h + p.w <= FIXED_LIMIT; }

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
    if (!fixed_point()) return NOTHING;
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

int32_t forward(const BoxForward& call) {
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
