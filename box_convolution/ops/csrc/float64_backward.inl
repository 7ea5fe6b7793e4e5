// Gradients from the integral image of float64_forward.inl: by the input through the adjoint, by the edges through
// sums over rows of the integral image.

// Sums over all outputs of one box on one plane, of which edge_gradients makes the gradients by its edges.
struct EdgeSums {
  double top = 0, bottom = 0, left = 0, right = 0, total = 0;
};

inline void add_scaled(double* __restrict to, const double* __restrict from, double factor, int64_t count) {
  for (int64_t q = 0; q < count; ++q) to[q] += factor * from[q];
}

// Where the taps of one output row (see Column) are added to the adjoint, for its bottom or top edge: in rows k and k + 1,
// clamped. With stride 1, row k + 1 is row k of the next output row; so the taps of the output row before are added in the
// same pass.
struct Target {
  double* row;
  double weight, weight_before;

  // ``unused`` takes what lies above the image; no result depends on it.
  Target(const IntegralImage& adjoint, int64_t k, double weight0, double weight1, double* unused) {
    row = k <= 0 ? unused : adjoint.row(min(k, adjoint.h));
    weight = k < adjoint.h ? weight0 : weight0 + weight1;
    weight_before = k <= adjoint.h ? weight1 : 0;
  }
};

// Adds the part of the last output row's taps that the pass over a further row would have added.
inline void add_rest(const IntegralImage& adjoint, int64_t k, double weight1, const double* taps) {
  if (k >= 0 && k < adjoint.h) add_scaled(adjoint.row(k + 1), taps, weight1, adjoint.w);
}

// Sum of row[begin..w-1].
inline double sum_from(const double* row, int64_t begin, int64_t w) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t q = max<int64_t>(begin, 0); q < w; ++q) sum += row[q];
  return sum;
}

// Sums over columns of one output row; V is a number or a vector of them.
template <typename V>
struct Column {
  V top, bottom, left, right, total;

  // Adds one column q and returns its tap, what the adjoint gathers there. ``right0``, ``right1``: grad_output of the outputs
  // whose right edge lies in pixel q + 1 and in pixel q; ``left0``, ``left1``: the same for the left edge. ``bottom0`` ...
  // ``top1``: the integral image's rows around the bottom and the top edge. Summation by parts has turned all sums over
  // outputs into sums over columns.
  inline V add(V right0, V right1, V left0, V left1, V bottom0, V bottom1, V top0, V top1, const Box& box) {
    const Span &rows = box.rows, &columns = box.columns;
    const V tap = (columns.high0 * right0 + columns.high1 * right1) - (columns.low0 * left0 + columns.low1 * left1);
    const V above = (rows.high0 * bottom0 + rows.high1 * bottom1) - (rows.low0 * top0 + rows.low1 * top1);
    const V under_bottom = bottom1 - bottom0, under_top = top1 - top0;
    total += tap * above;
    bottom += tap * under_bottom;
    top += tap * under_top;
    right += above * (right1 - right0);
    left += above * (left1 - left0);
    return tap;
  }
};

template <typename T>
inline void widen_row(double* to, const T* from, int64_t stride_from, int64_t stride_to, int64_t count) {
  if (stride_from == 1 && stride_to == 1)
    for (int64_t j = 0; j < count; ++j) to[j] = to_double(from[j]);
  else
    for (int64_t j = 0; j < count; ++j) to[j * stride_to] = to_double(from[j * stride_from]);
}

// Everything that the gradients of one box over one plane need, in one pass over the rows of grad_output. ``adjoint``
// gathers the taps of all boxes, and ``integrate`` turns them into the gradient by the input: it is to this gradient what the
// integral image is to the input. ``padded`` gets rows of grad_output, spread out to the input's columns; ``taps`` has room
// for 3 rows of the integral image.
template <typename T>
EdgeSums backward_box(const IntegralImage& integral, const IntegralImage& adjoint, const Box& box,
                      const PaddedRows& padded, double* taps,
                      const T* grad, int64_t stride_h, int64_t stride_w, int64_t h_out, int64_t w_out, int64_t stride) {
  const int64_t w = integral.w;
  const Span rows = box.rows, columns = box.columns;
  const double b0 = rows.high0 * box.inverse, b1 = rows.high1 * box.inverse;
  const double t0 = -rows.low0 * box.inverse, t1 = -rows.low1 * box.inverse;
  double* current = taps;
  double* before = taps + integral.pitch;
  double* unused = taps + 2 * integral.pitch;
  memset(before, 0, sizeof(double) * integral.pitch);
  EdgeSums sums;
  int64_t kb = 0, kt = 0;
  for (int64_t i = 0; i < h_out; ++i) {
    // Several rows at once: loads that straddle numbers written just before would have to wait for them.
    const int64_t slot = i % PaddedRows::COUNT;
    if (slot == 0)
      for (int64_t k = 0; k < min<int64_t>(PaddedRows::COUNT, h_out - i); ++k)
        widen_row(padded.row(k), grad + (i + k) * stride_h, stride_w, stride, w_out);
    const double* g = padded.row(slot);
    const double* gr = g + 1 - columns.high;
    const double* gl = g + 1 - columns.low;
    kb = i * stride + rows.high;
    kt = i * stride + rows.low;
    const double* bottom0 = integral.clamped(kb);
    const double* bottom1 = integral.clamped(kb + 1);
    const double* top0 = integral.clamped(kt);
    const double* top1 = integral.clamped(kt + 1);
    const Target to_bottom(adjoint, kb, b0, b1, unused);
    const Target to_top(adjoint, kt, t0, t1, unused);
    Column<Vec> wide = {};
    Neighbours right(gr - 1), left(gl - 1);
    int64_t q = 0;
    for (; q + LANES <= w; q += LANES) {
      Vec right0, right1, left0, left1;
      right.read(right1, right0);
      left.read(left1, left0);
      const Vec tap = wide.add(right0, right1, left0, left1, load(bottom0 + q), load(bottom1 + q), load(top0 + q),
                               load(top1 + q), box);
      const Vec last = load(before + q);
      store(current + q, tap);
      store(to_bottom.row + q, load(to_bottom.row + q) + to_bottom.weight * tap + to_bottom.weight_before * last);
      store(to_top.row + q, load(to_top.row + q) + to_top.weight * tap + to_top.weight_before * last);
    }
    Column<double> one = {};
    for (; q < w; ++q) {
      const double tap = one.add(gr[q], gr[q - 1], gl[q], gl[q - 1], bottom0[q], bottom1[q], top0[q], top1[q], box);
      current[q] = tap;
      to_bottom.row[q] += to_bottom.weight * tap + to_bottom.weight_before * before[q];
      to_top.row[q] += to_top.weight * tap + to_top.weight_before * before[q];
    }
    // Because indices are clamped, the last column also gathers every output whose edge lies beyond the image. Such an edge has
    // no gradient: what the loop has subtracted from ``right`` and ``left`` for the pixel after the last is added again.
    q = w - 1;
    const double tap = ((columns.high0 + columns.high1) * sum_from(g, w + 1 - columns.high, w) + columns.high1 * gr[q]) -
                       ((columns.low0 + columns.low1) * sum_from(g, w + 1 - columns.low, w) + columns.low1 * gl[q]);
    const double above = (rows.high0 * bottom0[q] + rows.high1 * bottom1[q]) - (rows.low0 * top0[q] + rows.low1 * top1[q]);
    one.total += tap * above;
    one.bottom += tap * (bottom1[q] - bottom0[q]);
    one.top += tap * (top1[q] - top0[q]);
    one.right += above * gr[q];
    one.left += above * gl[q];
    current[q] += tap;
    to_bottom.row[q] += to_bottom.weight * tap;
    to_top.row[q] += to_top.weight * tap;
    sums.total += one.total + sum_lanes(wide.total);
    sums.bottom += one.bottom + sum_lanes(wide.bottom);
    sums.top += one.top + sum_lanes(wide.top);
    sums.right += one.right + sum_lanes(wide.right);
    sums.left += one.left + sum_lanes(wide.left);
    if (stride == 1) {
      double* swapped = before;
      before = current;
      current = swapped;
    } else {
      add_rest(adjoint, kb, b1, current);
      add_rest(adjoint, kt, t1, current);
    }
  }
  if (stride == 1) {
    add_rest(adjoint, kb, b1, before);
    add_rest(adjoint, kt, t1, before);
  }
  return sums;
}

// Gradients of a box's four edges, equation (6).
inline void edge_gradients(const EdgeSums& sums, const Box& box, bool normalize, double* gradient) {
  const double by_height = normalize ? sums.total * box.inverse * box.rows.inverse : 0;
  const double by_width = normalize ? sums.total * box.inverse * box.columns.inverse : 0;
  gradient[0] = by_height - box.inverse * sums.top;
  gradient[1] = box.inverse * sums.bottom - by_height;
  gradient[2] = by_width - box.inverse * sums.left;
  gradient[3] = box.inverse * sums.right - by_width;
}

// Writes rows end-R..end-1 of grad_input[p][q] = sum of adjoint[r][c] over r > p, c >= q. If ``below``, row end + 1 of the
// adjoint is on entry the sum of all rows from there on; on return, row end - R + 1 is.
template <typename T, int R>
void integrate_rows(const IntegralImage& adjoint, T* grad_input, int64_t end, bool below) {
  const int64_t w = adjoint.w;
  double* in[R];
  T* out[R];
  Vec carry[R];
  for (int k = 0; k < R; ++k) {
    in[k] = adjoint.row(end - k);
    out[k] = grad_input + (end - 1 - k) * w;
    carry[k] = Vec{0};
  }
  const double* bottom = in[0] + adjoint.pitch;
  int64_t q = w;  // columns q.. are done
  for (; q >= LANES; q -= LANES) {
    Vec sum = below ? load(bottom + q - LANES) : Vec{0};
    for (int k = 0; k < R; ++k) {
      sum += load(in[k] + q - LANES);
      if (k == R - 1) store(in[k] + q - LANES, sum);
      const Vec v = running_sum_back(sum) + carry[k];
      carry[k] = first_lane(v);
      narrow(out[k] + q - LANES, v);
    }
  }
  double row[R];
  for (int k = 0; k < R; ++k) row[k] = carry[k][0];
  for (; q > 0; --q) {
    double sum = below ? bottom[q - 1] : 0;
    for (int k = 0; k < R; ++k) {
      sum += in[k][q - 1];
      if (k == R - 1) in[k][q - 1] = sum;
      row[k] += sum;
      out[k][q - 1] = from_double<T>(row[k]);
    }
  }
}

template <typename T>
void integrate(const IntegralImage& adjoint, T* grad_input) {
  int64_t end = adjoint.h;
  for (; end >= ROWS; end -= ROWS) integrate_rows<T, ROWS>(adjoint, grad_input, end, end < adjoint.h);
  for (; end > 0; --end) integrate_rows<T, 1>(adjoint, grad_input, end, end < adjoint.h);
}
