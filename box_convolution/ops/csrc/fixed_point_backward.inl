// Gradients in fixed point, the transpose of fixed_point_forward.inl. Included by kernels.inl.
//
// grad_output is summed over a box's rows first, a strip of columns at a time. This gives ``rows``, the gradient by the
// averages along rows. The gradient by the input is the running sum, along rows, of the differences of ``rows``, which are
// first added up over all boxes of a channel; they are integers, so the order does not matter.
//
// An edge's gradient is made of differences between an average and the pixels at the edge. These are taken between integers,
// before anything is multiplied, so that they keep their digits whatever offset the input has: with n whole pixels x in
// between, average - x_low = core * (sum of (x - x_low)) + head * (x_high - x_low).

// The weights of those differences on one axis, for running sums in units of 1 / scale.
struct EdgeWeights {
  uint32_t count;               // n
  float core, head, low, unit;  // average - x_low = core * sum + head * (x_high - x_low) + low * x_low

  // Without normalisation no average is subtracted: the difference is -x_low alone.
  EdgeWeights(const FixedSpan& span, bool normalize, double scale)
      : count(uint32_t(span.high - span.low)), unit(float(1 / scale)) {
    core = float(normalize ? span.core / scale : 0);
    head = float(normalize ? span.head / scale : 0);
    // 0 unless an edge was clamped or the length is zero.
    const double rest = span.core * double(span.high - span.low) + span.head - span.tail - 1;
    low = float(normalize ? (fabs(rest) < 1e-12 ? 0 : rest / scale) : -1 / scale);
  }

  // How many numbers are added up in the sum of (x - x_low), at most.
  static double length(const FixedSpan& span) { return 2 * fabs(double(span.high - span.low)) + 2; }

  // average - x_low and x_high - average, from the running sums at both edges and one pixel further.
  inline void differences(Words low0, Words low1, Words high0, Words high1, Floats& at_low, Floats& at_high) const {
    const Words x_low = low1 - low0, difference = (high1 - high0) - x_low;
    const Floats step = to_floats(difference);
    at_low = core * to_floats((high0 - low0) - count * x_low) + head * step + low * to_floats(x_low);
    at_high = unit * step - at_low;
  }
};

// Scales and weights of the gradients of one box.
struct FixedBackward {
  FixedSpan rows, columns;
  double grad_scale, average_scale;    // units of the running sums of grad_output, and of averages along rows
  EdgeWeights edge_rows, edge_columns;
  float core, head, tail;              // averages along a row of the input, to units of their running sums
  float row_core, row_head, row_tail;  // of grad_output along a column
  float high0, high1, low0, low1;      // from there to units of the input's gradient

  FixedBackward(const Box& box, const RowSums& sums, bool normalize, float largest, float largest_grad,
                double grad_input_scale)
      : rows(box.rows, sums.h), columns(box.columns, sums.w),
        grad_scale(scale_of(rows.length, largest_grad)),
        average_scale(scale_of(EdgeWeights::length(rows), columns.bound * largest)),
        edge_rows(rows, normalize, average_scale), edge_columns(columns, normalize, sums.scale) {
    core = float(columns.core * average_scale / sums.scale);
    head = float(columns.head * average_scale / sums.scale);
    tail = float(columns.tail * average_scale / sums.scale);
    row_core = float(rows.core / grad_scale);
    row_head = float(rows.head / grad_scale);
    row_tail = float(rows.tail / grad_scale);
    const double unit = box.columns.inverse * grad_input_scale;
    high0 = float(box.columns.high0 * unit);
    high1 = float(box.columns.high1 * unit);
    low0 = float(box.columns.low0 * unit);
    low1 = float(box.columns.low1 * unit);
  }
};

// The largest numbers in the computation of a plane's gradient by the input, for which its scale must leave room.
struct GradientRange {
  double length = 1;      // of a sum along a row
  double sum = 0;         // largest |gradient|, of all boxes
  double difference = 0;  // largest |difference along a row|, of one box

  void see(const Box& box, int64_t h, int64_t w, float largest_grad) {
    const Span& columns = box.columns;
    length = max(length, EdgeWeights::length(FixedSpan(columns, w)));
    const double row = FixedSpan(box.rows, h).bound * largest_grad;
    sum += row * FixedSpan(columns, w).bound;
    const double weights = fabs(columns.high0) + fabs(columns.high1) + fabs(columns.low0) + fabs(columns.low1);
    difference = max(difference, row * weights * fabs(columns.inverse));
  }

  // Whether the rounding of each pixel, by largest * length / 2^31, is small compared with most pixels: an edge's gradient sums
  // over all of them.
  bool keeps_digits(const BoxMagnitude& magnitude) const { return magnitude.largest * length <= 2e4 * magnitude.rms; }

  // ``count`` differences are summed, each of them rounded by up to a half.
  double scale(double count) const { return sum == 0 ? 1 : (FULL_SCALE - count) / max(sum, difference); }
};

// Sums over one box on one plane of grad_output times the difference at each edge: in float32 over a few rows, whose sums are
// then added up in float64.
struct EdgeProducts {
  Floats top = {0}, bottom = {0}, left = {0}, right = {0};

  void flush(double* sums) {
    Floats* const parts[4] = {&top, &bottom, &left, &right};
    for (int k = 0; k < 4; ++k) {
      double lanes = 0;
      for (int lane = 0; lane < WIDE; ++lane) lanes += (*parts[k])[lane];
      sums[k] += lanes;
      *parts[k] = Floats{0};
    }
  }
};

constexpr int64_t ROWS_IN_FLOAT32 = 8;

// Columns of one box over one plane: writes ``rows`` and, if EDGES, adds to the four ``edges``. ``column_sums`` has room for
// 2 * (h + 1) * V vectors. The other arguments are those of fixed_strip.
template <typename T, int V, bool EDGES>
void fixed_backward_strip(const RowSums& sums, const FixedBackward& box, uint32_t* column_sums, int64_t column,
                          int64_t count, const FloatPlane<T>& grad, const MarginRows& rows, double* edges) {
  const int64_t h = sums.h, step = V * WIDE;
  const float grad_scale = float(box.grad_scale);
  Words total[V];
  for (int v = 0; v < V; ++v) store_words(column_sums + v * WIDE, total[v] = Words{0});
  for (int64_t i = 0; i < h; ++i)
    for (int v = 0; v < V; ++v) {
      const float* from = grad.row(i) + column + v * WIDE;
      total[v] += to_fixed((count < 0 ? load_floats(from) : read_floats(from, count)) * grad_scale);
      store_words(column_sums + (i + 1) * step + v * WIDE, total[v]);
    }
  uint32_t* const averages = column_sums + (h + 1) * step;
  const auto place = [&](uint32_t* of, int64_t n) { return of + min(max<int64_t>(n, 0), h) * step; };
  const int64_t high = box.rows.high, low = box.rows.low;
  const Windows<V> at_high(sums, column, box.columns.high), at_low(sums, column, box.columns.low);
  const float core = box.core, head = box.head, tail = box.tail;
  const float row_core = box.row_core, row_head = box.row_head, row_tail = box.row_tail;
  const EdgeWeights columns = box.edge_columns;
  EdgeProducts products;
  Words bottom[V], top[V];
  for (int v = 0; v < V; ++v) {
    bottom[v] = load_words(place(column_sums, -high) + v * WIDE);
    top[v] = load_words(place(column_sums, -low) + v * WIDE);
    store_words(averages + v * WIDE, total[v] = Words{0});
  }
  for (int64_t p = 0; p < h; ++p) {
    Words high0[V], high1[V], low0[V], low1[V];
    if (EDGES) {
      at_high.read(p * sums.pitch, high0, high1);
      at_low.read(p * sums.pitch, low0, low1);
    }
    const uint32_t* next_bottom = place(column_sums, p + 1 - high);
    const uint32_t* next_top = place(column_sums, p + 1 - low);
    for (int v = 0; v < V; ++v) {
      const Words bottom1 = load_words(next_bottom + v * WIDE), top1 = load_words(next_top + v * WIDE);
      const Floats row = row_core * to_floats(top1 - bottom1) + row_head * to_floats(bottom1 - bottom[v]) -
                         row_tail * to_floats(top1 - top[v]);
      bottom[v] = bottom1;
      top[v] = top1;
      write_floats(reinterpret_cast<float*>(rows.row(p)) + column + v * WIDE, row);
      if (EDGES) {
        Floats left, right;
        columns.differences(low0[v], low1[v], high0[v], high1[v], left, right);
        products.left += row * left;
        products.right += row * right;
        total[v] += to_fixed(core * to_floats(high0[v] - low0[v]) + head * to_floats(high1[v] - high0[v]) -
                             tail * to_floats(low1[v] - low0[v]));
        store_words(averages + (p + 1) * step + v * WIDE, total[v]);
      }
    }
    if (EDGES && p % ROWS_IN_FLOAT32 == ROWS_IN_FLOAT32 - 1) products.flush(edges);
  }
  if (!EDGES) return;
  const EdgeWeights along_column = box.edge_rows;
  for (int v = 0; v < V; ++v) {
    bottom[v] = load_words(place(averages, high) + v * WIDE);
    top[v] = load_words(place(averages, low) + v * WIDE);
    total[v] = Words{0};  // of grad_output
  }
  for (int64_t i = 0; i < h; ++i) {
    const uint32_t* next_bottom = place(averages, i + 1 + high);
    const uint32_t* next_top = place(averages, i + 1 + low);
    for (int v = 0; v < V; ++v) {
      const Words bottom1 = load_words(next_bottom + v * WIDE), top1 = load_words(next_top + v * WIDE);
      const Words grads = load_words(column_sums + (i + 1) * step + v * WIDE);
      Floats at_top, at_bottom;
      along_column.differences(top[v], top1, bottom[v], bottom1, at_top, at_bottom);
      const Floats g = to_floats(grads - total[v]);
      products.top += g * at_top;
      products.bottom += g * at_bottom;
      bottom[v] = bottom1;
      top[v] = top1;
      total[v] = grads;
    }
    if (i % ROWS_IN_FLOAT32 == ROWS_IN_FLOAT32 - 1) products.flush(edges);
  }
  products.flush(edges);
}

// Adds V vectors of columns of the differences along rows: to[q] += high0 * rows[q + 1 - high] + high1 * rows[q - high] - ...
// Their sum from q on is the gradient of input column q.
template <int V>
void add_differences(const MarginRows& rows, const FixedBackward& box, int64_t column, const MarginRows& to) {
  const Windows<V> at_high(rows, column, 1 - box.columns.high), at_low(rows, column, 1 - box.columns.low);
  const float w_high0 = box.high0, w_high1 = box.high1, w_low0 = box.low0, w_low1 = box.low1;
  for (int64_t p = 0; p < rows.h; ++p) {
    Words high0[V], high1[V], low0[V], low1[V];
    at_high.read(p * rows.pitch, high1, high0);
    at_low.read(p * rows.pitch, low1, low0);
    uint32_t* target = to.row(p) + column;
    for (int v = 0; v < V; ++v) {
      const Floats difference =
          (w_high0 * reinterpret_cast<Floats>(high0[v]) + w_high1 * reinterpret_cast<Floats>(high1[v])) -
          (w_low0 * reinterpret_cast<Floats>(low0[v]) + w_low1 * reinterpret_cast<Floats>(low1[v]));
      store_words(target + v * WIDE, load_words(target + v * WIDE) + to_fixed(difference));
    }
  }
}

// Adds the differences beyond the last column, which are part of every column's sum, to the margin after the row.
inline void add_beyond(const MarginRows& rows, float weight0, float weight1, int64_t shift, const MarginRows& to) {
  const int64_t start = max<int64_t>(rows.end - shift, -1);
  for (int64_t p = 0; p < rows.h; ++p) {
    const float* row = reinterpret_cast<const float*>(rows.row(p));
    Words sum = load_words(to.row(p) + to.end);
    for (int64_t j = start; j < rows.w; j += WIDE)
      sum += to_fixed(weight0 * load_floats(row + j + 1) + weight1 * load_floats(row + j));
    store_words(to.row(p) + to.end, sum);
  }
}

inline void add_differences(const MarginRows& rows, const FixedBackward& box, const MarginRows& to) {
  int64_t q = 0;
  for (; q + STRIP * WIDE <= rows.end; q += STRIP * WIDE) add_differences<STRIP>(rows, box, q, to);
  for (; q < rows.end; q += WIDE) add_differences<1>(rows, box, q, to);
  add_beyond(rows, box.high0, box.high1, box.columns.high, to);
  add_beyond(rows, -box.low0, -box.low1, box.columns.low, to);
}

// One box over one plane: writes the gradients by its edges, equation (6), and adds its part of the gradient by the input to
// ``differences``, if not NULL.
template <typename T, bool EDGES>
void fixed_backward_box(const RowSums& sums, const Box& box, const FixedBackward& fixed, uint32_t* column_sums,
                        const FloatPlane<T>& grad, const MarginRows& rows, const MarginRows* differences, double* edges) {
  double products[4] = {0};
  int64_t q = 0;
  for (; q + STRIP * WIDE <= sums.w; q += STRIP * WIDE)
    fixed_backward_strip<T, STRIP, EDGES>(sums, fixed, column_sums, q, -1, grad, rows, products);
  for (; q + WIDE <= sums.w; q += WIDE)
    fixed_backward_strip<T, 1, EDGES>(sums, fixed, column_sums, q, -1, grad, rows, products);
  if (q < sums.w) fixed_backward_strip<T, 1, EDGES>(sums, fixed, column_sums, q, sums.w - q, grad, rows, products);
  if (differences) add_differences(rows, fixed, *differences);
  edges[0] = box.rows.inverse * products[0] / fixed.grad_scale;
  edges[1] = box.rows.inverse * products[1] / fixed.grad_scale;
  edges[2] = box.columns.inverse * products[2];
  edges[3] = box.columns.inverse * products[3];
}

// v[0] + ... + v[last], v[1] + ... + v[last], ...
inline Words running_sum_back(Words v) {
  const Words zero = {0};
#if defined(__AVX2__)
  v += __builtin_shufflevector(v, zero, 1, 2, 3, 4, 5, 6, 7, 8);
  v += __builtin_shufflevector(v, zero, 2, 3, 4, 5, 6, 7, 8, 9);
  return v + __builtin_shufflevector(v, zero, 4, 5, 6, 7, 8, 9, 10, 11);
#else
  v += __builtin_shufflevector(v, zero, 1, 2, 3, 4);
  return v + __builtin_shufflevector(v, zero, 2, 3, 4, 5);
#endif
}

// grad_input[p][q] = (differences[p][q] + differences[p][q + 1] + ...) / scale, rows p..p+R-1.
template <typename T, int R>
void integrate_rows(const MarginRows& differences, double scale, T* grad_input, int64_t p) {
  const float unit = float(1 / scale);
  const int64_t w = differences.w;
  Words carry[R];
  for (int k = 0; k < R; ++k) {
    const Words beyond = running_sum_back(load_words(differences.row(p + k) + differences.end));
    carry[k] = all_of(beyond[0]);
  }
  for (int64_t q = differences.end - WIDE; q >= 0; q -= WIDE)
    for (int k = 0; k < R; ++k) {
      const Words sum = running_sum_back(load_words(differences.row(p + k) + q)) + carry[k];
      carry[k] = all_of(sum[0]);
      T* out = grad_input + (p + k) * w + q;
      if (q + WIDE <= w)
        write_floats(out, unit * to_floats(sum));
      else
        write_floats(out, unit * to_floats(sum), w - q);
    }
}

template <typename T>
void integrate_rows(const MarginRows& differences, double scale, T* grad_input, int64_t begin, int64_t end) {
  for (; begin + 4 <= end; begin += 4) integrate_rows<T, 4>(differences, scale, grad_input, begin);
  for (; begin < end; ++begin) integrate_rows<T, 1>(differences, scale, grad_input, begin);
}
