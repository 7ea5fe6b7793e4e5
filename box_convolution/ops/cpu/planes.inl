// How the planes, boxes and rows of a call are shared out among threads. Included by kernels.inl.
//
// Where there are enough planes, a thread does a whole plane: its table stays in cache. Else the table is built by all
// threads, and boxes and bands of rows are shared out. What is added to what, in which order, never depends on the threads.

constexpr int64_t ENOUGH_PLANES = 8;

struct Failure {
  volatile int32_t happened = 0;
};

// Run body(begin, end) over [0, count) on the caller's thread pool.
template <typename Body>
void parallel(const BoxProblem& problem, int64_t count, const Body& body) {
  if (count <= 0) return;
  if (!problem.parallel_for || problem.threads <= 1 || count == 1) return body(0, count);
  problem.parallel_for(
      0, count, 1,
      [](int64_t begin, int64_t end, void* context) { (*static_cast<const Body*>(context))(begin, end); },
      const_cast<Body*>(&body));
}

// Of a thread that works on a plane, and of the thread that called and shares its tables with the others.
inline Scratch& thread_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

inline Scratch& shared_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

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

  void rows(const Table& table, const PaddedRows& padded, int64_t plane, int64_t m, int64_t begin, int64_t end) const {
    const int64_t channel = plane % p.channels * p.per_channel + m;
    const int64_t offset = (plane * p.per_channel + m) * plane_out;
    const Box box(p.boxes + 4 * channel, p.h, p.w, p.normalize);
    T* out = static_cast<T*>(call.output) + offset;
    const T* residual = call.residual ? static_cast<const T*>(call.residual) + offset : nullptr;
    if (box.nan) {
      fill(out + begin * w_out, out + end * w_out, from_double<T>(NAN));
      return;
    }
    if (call.scale || call.shift || call.relu || residual) {
      const Epilogue epilogue{call.scale ? call.scale[channel] : 1.0, call.shift ? call.shift[channel] : 0.0,
                              call.relu != 0};
      forward_box<T, false>(table, box, padded, out, residual, w_out, p.stride, begin, end, epilogue);
    } else {
      forward_box<T, true>(table, box, padded, out, residual, w_out, p.stride, begin, end, Epilogue());
    }
  }

  int32_t by_planes() const {
    Failure failure;
    parallel(p, p.batch * p.channels, [&](int64_t begin, int64_t end) {
      double* memory = thread_scratch().get(Table::size(p.h, p.w) + PaddedRows::size(p.w));
      if (!memory) return void(failure.happened = 1);
      const Table table(memory, p.h, p.w);
      const PaddedRows padded(memory + Table::size(p.h, p.w), p.w);
      for (int64_t plane = begin; plane < end; ++plane) {
        build_table(table, input(plane), p.input_strides[2], p.input_strides[3]);
        for (int64_t m = 0; m < p.per_channel; ++m) rows(table, padded, plane, m, 0, h_out);
      }
      thread_scratch().trim();
    });
    return failure.happened;
  }

  int32_t by_rows() const {
    double* memory = shared_scratch().get(Table::size(p.h, p.w));
    if (!memory) return 1;
    const Table table(memory, p.h, p.w);
    const int64_t band = 32, bands = (h_out + band - 1) / band, strips = (p.h + ROWS - 1) / ROWS;
    const int64_t block = 256, blocks = (p.w + block) / block;
    Failure failure;
    for (int64_t plane = 0; plane < p.batch * p.channels; ++plane) {
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
    const int64_t b = plane / p.channels, channel = plane % p.channels * p.per_channel + m;
    const Box box(p.boxes + 4 * channel, p.h, p.w, p.normalize);
    if (box.nan) {
      fill(edges, edges + 4, double(NAN));
      return false;
    }
    const int64_t* strides = call.grad_output_strides;
    const T* grad = static_cast<const T*>(call.grad_output) + b * strides[0] + channel * strides[1];
    const EdgeSums sums =
        backward_box(table, adjoint, box, padded, taps, grad, strides[2], strides[3], h_out, w_out, p.stride);
    edge_gradients(sums, box, p.normalize, edges);
    return true;
  }

  void write(const Table& adjoint, int64_t plane, bool finite) const {
    if (!call.grad_input) return;
    T* out = static_cast<T*>(call.grad_input) + plane * p.h * p.w;
    if (finite)
      integrate(adjoint, out);
    else
      fill(out, out + p.h * p.w, from_double<T>(NAN));
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
      double* memory = thread_scratch().get(working_size());
      if (!memory) return void(failure.happened = 1);
      const Table table(memory, p.h, p.w), adjoint(memory + Table::size(p.h, p.w), p.h, p.w);
      const PaddedRows padded(memory + 2 * Table::size(p.h, p.w), p.w);
      double* taps = memory + 2 * Table::size(p.h, p.w) + PaddedRows::size(p.w);
      for (int64_t plane = begin; plane < end; ++plane) {
        build_table(table, input(plane), p.input_strides[2], p.input_strides[3]);
        clear(adjoint);
        bool finite = true;
        for (int64_t m = 0; m < p.per_channel; ++m)
          finite &= box(table, adjoint, padded, taps, plane, m, edges + (plane * p.per_channel + m) * 4);
        write(adjoint, plane, finite);
      }
      thread_scratch().trim();
    });
    return failure.happened;
  }

  // One box a task, each with an adjoint of its own; they are summed in the order of the boxes.
  int32_t by_boxes(double* edges) const {
    const int64_t size = Table::size(p.h, p.w);
    double* memory = shared_scratch().get((1 + p.per_channel) * size);
    if (!memory) return 1;
    const Table table(memory, p.h, p.w);
    Failure failure;
    for (int64_t plane = 0; plane < planes; ++plane) {
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
      write(sum, plane, finite);
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
