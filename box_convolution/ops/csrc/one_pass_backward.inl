// Gradients with stride 1 in one pass over the rows of a plane, without an integral image: but for grad_output, all that the
// inner loops read is a few rows long and stays in the first-level cache. Included by kernels.inl.
//
// What sums along an axis has a running sum as its adjoint, too. Let g be grad_output, u[p][q] the sum of row p of the input
// over a box's columns, for output column q, and r[p][q] the sum of column q of g over all outputs whose boxes contain row p,
// each with the weight that the row has in it. Then
//   r[p] = r[p - 1] + (low0 * g[p - low] + low1 * g[p - 1 - low]) - (high0 * g[p - high] + high1 * g[p - 1 - high]),
// and in the same way the gradient by the input follows from r, along rows. The gradients by the edges are made of the sums of
// u * g at the top and the bottom edge, of r * u, and of r * the input at the left and the right edge. All is zero outside of
// the image, except for r[-1]: see weight_before.

// Columns from which on this is faster than integral images.
#if defined(__AVX512F__)
constexpr int64_t WIDE_ENOUGH = 1;
#else
constexpr int64_t WIDE_ENOUGH = 128;
#endif

// The weight in output ``n`` of pixel ``first`` - 1, which r[first - 1] is made of without the rows before it. Pixel -1 has one,
// too.
inline double weight_before(const Span& span, int64_t first, int64_t n) {
  const auto passed = [first, n](int64_t edge, double weight0, double weight1) {
    return (n + edge < first ? weight0 : 0) + (n + edge + 1 < first ? weight1 : 0);
  };
  return passed(span.low, span.low0, span.low1) - passed(span.high, span.high0, span.high1);
}

// The outputs for which weight_before may differ from zero.
struct OutputsBefore {
  int64_t begin, end;

  OutputsBefore(const Span& span, int64_t first, int64_t size)
      : begin(max<int64_t>(0, first - 1 - max(span.low, span.high))), end(min(size, first - min(span.low, span.high))) {}
};

// grad_output of one box: rows of adjacent numbers, and rows of ``zeros`` above and below.
template <typename T>
struct GradRows {
  const T* data;
  int64_t stride, h;
  const T* zeros;

  const T* row(int64_t i) const { return i >= 0 && i < h ? data + i * stride : zeros; }
};

// What rows p..p+N-1 of r need of grad_output: rows p - 1 - high.. at the bottom edge, rows p - 1 - low.. at the top edge.
template <typename T, int N>
struct GradWindow {
  const T* bottom[N + 1];
  const T* top[N + 1];
  T ends[2 * (N + 1) * LANES];  // the last numbers of each row, fewer than a vector, and zeros; unless there are none

  GradWindow(const GradRows<T>& grad, const Span& span, int64_t p, int64_t w) {
    for (int k = 0; k <= N; ++k) {
      bottom[k] = grad.row(p - 1 + k - span.high);
      top[k] = grad.row(p - 1 + k - span.low);
    }
    if (w % LANES == 0) return;
    const int64_t begin = w / LANES * LANES;
    fill(ends, ends + 2 * (N + 1) * LANES, T{});
    for (int k = 0; k <= N; ++k)
      for (int64_t q = begin; q < w; ++q) {
        ends[k * LANES + q - begin] = bottom[k][q];
        ends[(N + 1 + k) * LANES + q - begin] = top[k][q];
      }
  }
};

// Sums over rows and columns, a vector each.
struct BoxSums {
  static constexpr int64_t SIZE = 5 * LANES;
  Vec total, right, left, bottom, top;

  explicit BoxSums(const double* from)
      : total(load(from)), right(load(from + LANES)), left(load(from + 2 * LANES)), bottom(load(from + 3 * LANES)),
        top(load(from + 4 * LANES)) {}
  void save(double* to) const {
    store(to, total);
    store(to + LANES, right);
    store(to + 2 * LANES, left);
    store(to + 3 * LANES, bottom);
    store(to + 4 * LANES, top);
  }
  EdgeSums edges() const {
    EdgeSums sums;
    sums.top = sum_lanes(top);
    sums.bottom = sum_lanes(bottom);
    sums.left = sum_lanes(left);
    sums.right = sum_lanes(right);
    sums.total = sum_lanes(total);
    return sums;
  }
};

// Working memory for up to R rows of a plane and all its boxes, and what is computed in it.
struct BackwardRows {
  static constexpr int64_t R = 2;  // with more, wide rows outgrow the first-level cache

  const int64_t w, width;              // width: in whole vectors
  const PaddedRows input, running, r;  // the input, its running sums; r of one box
  double* const steps;                 // what the gradient by the input gains from pixel to pixel, of all boxes
  double *const zeros, *const boxes;

  static int64_t width_of(int64_t w) { return (w + LANES - 1) / LANES * LANES; }
  static int64_t box_size(int64_t w) { return 2 * width_of(w) + BoxSums::SIZE; }
  static int64_t size(int64_t w, int64_t per_channel) {
    return 3 * PaddedRows::size(w) + (R + 1) * width_of(w) + per_channel * box_size(w);
  }
  BackwardRows(double* memory, int64_t w, int64_t per_channel)
      : w(w), width(width_of(w)), input(memory, w), running(memory + PaddedRows::size(w), w),
        r(memory + 2 * PaddedRows::size(w), w), steps(memory + 3 * PaddedRows::size(w)), zeros(steps + R * width),
        boxes(zeros + width) {
    fill(zeros, boxes + per_channel * box_size(w), 0.0);
  }
  double* last_r(int64_t m) const { return boxes + m * box_size(w); }  // the row before those in ``r``
  double* weights_before(int64_t m) const { return last_r(m) + width; }
  double* sums(int64_t m) const { return last_r(m) + 2 * width; }

  // Before row ``first``.
  template <typename T>
  void start_box(int64_t m, const Box& box, const GradRows<T>& grad, int64_t first) const {
    const OutputsBefore columns(box.columns, 0, w), rows(box.rows, first, grad.h);
    for (int64_t q = columns.begin; q < columns.end; ++q)
      weights_before(m)[q] = box.inverse * weight_before(box.columns, 0, q);
    double* const sum = last_r(m);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const double weight = weight_before(box.rows, first, i);
      const T* row = grad.row(i);
      int64_t q = 0;
      for (; q + LANES <= w; q += LANES) store(sum + q, load(sum + q) + weight * widen(row + q));
      for (; q < w; ++q) sum[q] += weight * to_double(row[q]);
    }
  }

  // Reads N rows of the input. ``beyond``: how far an edge of a box can lie behind the last column.
  template <typename T, int N>
  void read_input(const T* from, int64_t stride_h, int64_t stride_w, int64_t beyond) const {
    IntegralImage sums(running.first - running.pitch, N, w);  // which has a row 0 above, not written here
    sums.pitch = running.pitch;
    scan_rows<T, N>(sums, from, stride_h, stride_w, 0, false);
    for (int k = 0; k < N; ++k) {
      widen_row(input.row(k), from + k * stride_h, stride_w, 1, w);
      double* end = running.row(k) + w;
      const Vec last = Vec{} + end[-1];
      for (int64_t q = 0; q <= beyond; q += LANES) store(end + q, last);
    }
    fill(steps, steps + N * width, 0.0);
  }

  // Rows p..p+N-1 of r for box m, and what they add to its sums.
  template <typename T, int N>
  void sum_rows(int64_t m, const Box& box, const GradRows<T>& grad, int64_t p) const {
    const Span &rows = box.rows, &columns = box.columns;
    const GradWindow<T, N> window(grad, rows, p, w);
    // What the next call is the first to read. An address outside of the plane does no harm.
    const T* const next = grad.data + (p + N - 1 - min(rows.low, rows.high)) * grad.stride;
    // Copies, so that they stay in registers.
    const double low0 = rows.low0, low1 = rows.low1, high0 = rows.high0, high1 = rows.high1;
    const double left1 = columns.low1, right1 = columns.high1;
    const int64_t pitch = r.pitch;
    const double* const at_right = input.first + columns.high;
    const double* const at_left = input.first + columns.low;
    // A box whose weights at each edge sum to zero has no whole pixels in between.
    const double* const to_right = running.first + columns.high - 1;
    const double* const to_left = columns.low0 + columns.low1 == 0 ? to_right : running.first + columns.low - 1;
    double *const last = last_r(m), *const out = r.first;
    BoxSums sums(this->sums(m));
    const auto column = [&](int64_t q, const auto& bottom, const auto& top) {
      for (int k = 1; k <= N; ++k) __builtin_prefetch(next + k * grad.stride + q);
      Vec row = load(last + q), bottom0 = bottom(0), top0 = top(0);
      for (int k = 0; k < N; ++k) {
        const Vec bottom1 = bottom(k + 1), top1 = top(k + 1);
        Vec step = low0 * top1;  // on its own: a chain of four operations on ``row`` would take longer
        step += low1 * top0;
        step -= high0 * bottom1;
        step -= high1 * bottom0;
        row += step;
        store(out + k * pitch + q, row);
        const Vec x_right = load(at_right + k * pitch + q), x_left = load(at_left + k * pitch + q);
        Vec u = load(to_right + k * pitch + q) - load(to_left + k * pitch + q);
        u += right1 * x_right;
        u -= left1 * x_left;
        sums.total += row * u;
        sums.right += row * x_right;
        sums.left += row * x_left;
        sums.bottom += bottom1 * u;
        sums.top += top1 * u;
        bottom0 = bottom1;
        top0 = top1;
      }
      store(last + q, row);
    };
    int64_t q = 0;
    for (; q + LANES <= w; q += LANES)
      column(q, [&](int k) { return widen(window.bottom[k] + q); }, [&](int k) { return widen(window.top[k] + q); });
    if (q < w)
      column(q, [&](int k) { return widen(window.ends + k * LANES); },
             [&](int k) { return widen(window.ends + (N + 1 + k) * LANES); });
    sums.save(this->sums(m));
  }

  // Adds the steps of box m from N rows of r, and to ``before`` its gradient of the pixel before the first.
  template <int N>
  void add_steps(int64_t m, const Box& box, Vec (&before)[N]) const {
    const Span& columns = box.columns;
    const OutputsBefore outputs(columns, 0, w);
    const double* const weights = weights_before(m);
    for (int64_t q = outputs.begin / LANES * LANES; q < outputs.end; q += LANES)
      for (int k = 0; k < N; ++k) before[k] += load(weights + q) * load(r.row(k) + q);
    const double left0 = box.inverse * columns.low0, left1 = box.inverse * columns.low1;
    const double right0 = box.inverse * columns.high0, right1 = box.inverse * columns.high1;
    for (int k = 0; k < N; ++k) {
      Neighbours at_right(r.row(k) - columns.high - 1), at_left(r.row(k) - columns.low - 1);
      double* const to = steps + k * width;
      for (int64_t q = 0; q < width; q += LANES) {
        Vec r_right0, r_right1, r_left0, r_left1;
        at_right.read(r_right1, r_right0);
        at_left.read(r_left1, r_left0);
        Vec step = load(to + q);
        step += left0 * r_left0;
        step += left1 * r_left1;
        step -= right0 * r_right0;
        step -= right1 * r_right1;
        store(to + q, step);
      }
    }
  }

  // Writes N rows of the gradient by the input.
  template <typename T, int N>
  void write(const Vec (&before)[N], T* grad_input) const {
    Vec carry[N];
    for (int k = 0; k < N; ++k) carry[k] = Vec{} + sum_lanes(before[k]);
    for (int64_t q = 0; q < w; q += LANES)
      for (int k = 0; k < N; ++k) {
        T* const out = grad_input + k * w + q;
        __builtin_prefetch(out + N * w, 1);
        const Vec sum = running_sum(load(steps + k * width + q)) + carry[k];
        carry[k] = last_lane(sum);
        if (q + LANES <= w)
          narrow(out, sum);
        else
          narrow(out, sum, w - q);
      }
  }
};
