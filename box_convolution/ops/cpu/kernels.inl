// The kernels, compiled once per instruction set: the including file defines BOX_ISA, the namespace's name.
//
// Everything is computed from one table per plane, P[p][q] = sum of the input above row p and left of column q, in float64:
// a float32 table loses digits on a large plane. An edge lies in the same part of a pixel for every output, so that the
// sum up to it is a weighted sum of two rows (or columns) of the table with weights that depend on the box alone: the inner
// loops run over whole rows with constant weights. Row numbers are clamped to [0, H], which is the zero padding.
#include <math.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "box_conv2d.h"
#include "shuffle.h"
#include "scratch.h"
#include "scalar_types.h"

namespace box {
namespace BOX_ISA {

// Not those of the standard library: a linker may merge templates of equal names, and pick those of a better machine.
template <typename T>
inline T min(T a, T b) {
  return b < a ? b : a;
}

template <typename T>
inline T max(T a, T b) {
  return a < b ? b : a;
}

template <typename T>
inline void fill(T* begin, T* end, T value) {
  while (begin < end) *begin++ = value;
}

// Eight numbers at any address. Compilers split what is wider than the machine.
typedef double Vec __attribute__((vector_size(64), aligned(8), may_alias));
typedef float FloatVec __attribute__((vector_size(32), aligned(4), may_alias));
constexpr int64_t LANES = 8;

inline Vec load(const double* from) { return *reinterpret_cast<const Vec*>(from); }
inline void store(double* to, Vec value) { *reinterpret_cast<Vec*>(to) = value; }

// Reads p[q] and p[q + 1] for q = 0, 8, 16 ... where p is at any distance from the start of a cache line. Each address of a
// line-crossing load is read twice by the machine; permuting two aligned loads is cheaper where one instruction does it.
struct Neighbours {
#if defined(__AVX512F__)
  const double* next;
  __m512i first_index, second_index;
  __m512d low;

  explicit Neighbours(const double* p) {
    const int64_t offset = int64_t(reinterpret_cast<uintptr_t>(p) / sizeof(double) % LANES);
    next = p - offset;
    const __m512i lane = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    first_index = _mm512_add_epi64(lane, _mm512_set1_epi64(offset));
    second_index = _mm512_add_epi64(lane, _mm512_set1_epi64(offset + 1));
    low = _mm512_load_pd(next);
  }

  inline void read(Vec& first, Vec& second) {
    next += LANES;
    const __m512d high = _mm512_load_pd(next);
    first = Vec(_mm512_permutex2var_pd(low, first_index, high));
    second = Vec(_mm512_permutex2var_pd(low, second_index, high));
    low = high;
  }
#else
  const double* p;
  explicit Neighbours(const double* p) : p(p) {}
  inline void read(Vec& first, Vec& second) {
    first = load(p);
    second = load(p + 1);
    p += LANES;
  }
#endif
};

// One axis of a box. With n the position of an output pixel, the integral from the low to the high edge of an image with
// running sums S is  (high0 * S[n + high] + high1 * S[n + high + 1]) - (low0 * S[n + low] + low1 * S[n + low + 1]).
struct Span {
  int64_t low, high;  // the pixels that the edges of output 0 lie in
  double low0, low1, high0, high1;
  double inverse;  // of the length: 1 where not normalised, 0 for length 0
  bool nan;

  Span(double low_edge, double high_edge, int64_t size, bool normalize) {
    const double length = low_edge == high_edge ? 0.0 : high_edge - low_edge;
    inverse = 0;
    nan = length != length;
    if (nan) return;
    inverse = !normalize ? 1.0 : length == 0 ? 0.0 : 1.0 / length;
    // Beyond these bounds no output can see a pixel border, and a conversion to int64 could overflow.
    const double limit = double(size) + 1;
    const double low_at = min(max(low_edge + 0.5, -limit), limit), high_at = min(max(high_edge + 0.5, -limit), limit);
    const double low_floor = floor(low_at), high_floor = floor(high_at);
    low = int64_t(low_floor);
    high = int64_t(high_floor);
    const double low_part = low_at - low_floor, high_part = high_at - high_floor;
    low0 = 1 - low_part, low1 = low_part;
    high0 = 1 - high_part, high1 = high_part;
    // A thin box is a sum of parts of one or two pixels. Spelt so, it keeps its digits however thin it is.
    if (high == low) {
      const bool clamped = low_at != low_edge + 0.5 || high_at != high_edge + 0.5;
      low0 = low1 = 0;
      high1 = clamped ? high_part - low_part : length;
      high0 = -high1;
    } else if (high == low + 1) {
      low1 = -low0;
      high0 = -high1;
    } else if (high == low - 1) {
      high1 = -high0;
      low0 = -low1;
    }
  }
};

struct Box {
  Span rows, columns;
  double inverse;
  bool nan;

  Box(const double* edges, int64_t h, int64_t w, bool normalize)
      : rows(edges[0], edges[1], h, normalize), columns(edges[2], edges[3], w, normalize) {
    nan = rows.nan || columns.nan;
    inverse = rows.inverse * columns.inverse;
  }
};

struct Table {
  double* data;
  int64_t h, w, pitch;

  Table(double* data, int64_t h, int64_t w) : data(data), h(h), w(w), pitch(pitch_of(w)) {}
  static int64_t pitch_of(int64_t w) { return (w + 1 + 7) / 8 * 8; }
  static int64_t size(int64_t h, int64_t w) { return (h + 1) * pitch_of(w); }
  double* row(int64_t p) const { return data + p * pitch; }
  double* clamped(int64_t p) const { return row(min(max<int64_t>(p, 0), h)); }
};

constexpr int ROWS = 8;  // rows that are summed side by side, to hide the latency of an addition

// v[0], v[0] + v[1], ...
inline Vec running_sum(Vec v) {
  const Vec zero = {0};
  v += __builtin_shufflevector(zero, v, 7, 8, 9, 10, 11, 12, 13, 14);
  v += __builtin_shufflevector(zero, v, 6, 7, 8, 9, 10, 11, 12, 13);
  return v + __builtin_shufflevector(zero, v, 4, 5, 6, 7, 8, 9, 10, 11);
}

inline Vec last_lane(Vec v) { return __builtin_shufflevector(v, v, 7, 7, 7, 7, 7, 7, 7, 7); }

template <typename T>
inline Vec widen(const T* from) {
  Vec v;
  for (int k = 0; k < LANES; ++k) v[k] = to_double(from[k]);
  return v;
}

inline Vec widen(const float* from) {
  return __builtin_convertvector(*reinterpret_cast<const FloatVec*>(from), Vec);
}

template <typename T>
inline Vec gather(const T* from, int64_t stride) {
  Vec v;
  for (int k = 0; k < LANES; ++k) v[k] = to_double(from[k * stride]);
  return v;
}

// Running sums of input rows p..p+R-1 into table rows p+1..p+R; with ``above``, row p of the table is added as well.
template <typename T, int R>
void scan_rows(const Table& table, const T* input, int64_t stride_h, int64_t stride_w, int64_t p, bool above) {
  const bool contiguous = stride_w == 1;
  const T* in[R];
  double* out[R];
  Vec carry[R];
  for (int k = 0; k < R; ++k) {
    in[k] = input + (p + k) * stride_h;
    out[k] = table.row(p + k + 1);
    out[k][0] = 0;
    carry[k] = Vec{0};
  }
  const double* top = table.row(p);
  int64_t q = 0;
  for (; q + LANES <= table.w; q += LANES) {
    Vec sum = above ? load(top + q + 1) : Vec{0};
    for (int k = 0; k < R; ++k) {
      const Vec v = running_sum((contiguous ? widen(in[k] + q) : gather(in[k] + q * stride_w, stride_w))) + carry[k];
      carry[k] = last_lane(v);
      sum = above ? sum + v : v;
      store(out[k] + q + 1, sum);
    }
  }
  double row[R];
  for (int k = 0; k < R; ++k) row[k] = carry[k][0];
  for (; q < table.w; ++q) {
    double sum = above ? top[q + 1] : 0;
    for (int k = 0; k < R; ++k) {
      row[k] += to_double(in[k][q * stride_w]);
      sum = above ? sum + row[k] : row[k];
      out[k][q + 1] = sum;
    }
  }
}

template <typename T>
void scan_strip(const Table& table, const T* input, int64_t stride_h, int64_t stride_w, int64_t p, int64_t count, bool above) {
  if (count == ROWS) return scan_rows<T, ROWS>(table, input, stride_h, stride_w, p, above);
  for (int64_t k = p; k < p + count; ++k) scan_rows<T, 1>(table, input, stride_h, stride_w, k, above);
}

inline void add_row(double* __restrict to, const double* __restrict from, int64_t begin, int64_t end) {
  for (int64_t q = begin; q < end; ++q) to[q] += from[q];
}

template <typename T>
void build_table(const Table& table, const T* input, int64_t stride_h, int64_t stride_w) {
  memset(table.row(0), 0, sizeof(double) * (table.w + 1));
  for (int64_t p = 0; p < table.h; p += ROWS)
    scan_strip(table, input, stride_h, stride_w, p, min<int64_t>(ROWS, table.h - p), true);
}

// Rows with room for every clamped index on both sides: entries -(w + 2) <= q < 2 * w + 16 of row(r).
struct PaddedRows {
  static constexpr int64_t COUNT = 4;
  double* first;
  int64_t pitch;

  static int64_t pitch_of(int64_t w) { return (3 * w + 48) / 8 * 8; }
  static int64_t size(int64_t w) { return COUNT * pitch_of(w); }
  PaddedRows(double* memory, int64_t w) : first(memory + (w + 2 + 7) / 8 * 8), pitch(pitch_of(w)) {
    memset(memory, 0, sizeof(double) * size(w));
  }
  double* row(int64_t r) const { return first + r * pitch; }
};

inline void narrow(float* to, Vec v) { *reinterpret_cast<FloatVec*>(to) = __builtin_convertvector(v, FloatVec); }

template <typename T>
inline void narrow(T* to, Vec v) {
  for (int k = 0; k < LANES; ++k) to[k] = from_double<T>(v[k]);
}

// What follows the average in the same write: relu(residual + scale * average + shift).
struct Epilogue {
  double scale, shift;
  bool relu;
};

// Between the table's rows, ``sums`` holds what lies above the bottom and not above the top edge, up to each column:
// the difference of its values at the right and the left edge is the output.
template <typename T, bool PLAIN>
inline void write_row(T* __restrict out, const double* __restrict sums, const T* __restrict residual, const Box& box,
                      int64_t count, int64_t stride, const Epilogue& epilogue) {
  const double r0 = box.columns.high0, r1 = box.columns.high1, l0 = box.columns.low0, l1 = box.columns.low1;
  const double* __restrict right = sums + box.columns.high;
  const double* __restrict left = sums + box.columns.low;
  int64_t j = 0;
  if (PLAIN && stride == 1) {
    Neighbours at_right(right), at_left(left);
    for (; j + LANES <= count; j += LANES) {
      Vec right0, right1, left0, left1;
      at_right.read(right0, right1);
      at_left.read(left0, left1);
      narrow(out + j, (r0 * right0 + r1 * right1) - (l0 * left0 + l1 * left1));
    }
  }
  for (; j < count; ++j) {
    const int64_t q = j * stride;
    double value = (r0 * right[q] + r1 * right[q + 1]) - (l0 * left[q] + l1 * left[q + 1]);
    if (!PLAIN) {
      value = value * epilogue.scale + epilogue.shift;
      if (residual) value += to_double(residual[j]);
      if (epilogue.relu) value = value > 0 ? value : value != value ? value : 0.0;
    }
    out[j] = from_double<T>(value);
  }
}

// R rows of sums, for output rows i..i+R-1, which are ``stride`` input rows apart. With stride 1 they share table rows.
template <int R>
inline void difference_rows(const Table& table, const Box& box, const PaddedRows& padded, int64_t i, int64_t stride) {
  const double b0 = box.rows.high0 * box.inverse, b1 = box.rows.high1 * box.inverse;
  const double t0 = box.rows.low0 * box.inverse, t1 = box.rows.low1 * box.inverse;
  const double* bottom[R + 1];
  const double* top[R + 1];
  for (int r = 0; r <= R; ++r) {
    bottom[r] = table.clamped(i * stride + r + box.rows.high);
    top[r] = table.clamped(i * stride + r + box.rows.low);
  }
  // Copies in registers: for all the compiler knows, the stores might change the originals.
  double* const to = padded.first;
  const int64_t to_pitch = padded.pitch, columns = table.pitch;
  for (int64_t q = 0; q < columns; q += LANES) {
    Vec above_bottom = load(bottom[0] + q), above_top = load(top[0] + q);
    for (int r = 0; r < R; ++r) {
      const Vec next_bottom = load(bottom[r + 1] + q), next_top = load(top[r + 1] + q);
      store(to + r * to_pitch + q, (b0 * above_bottom + b1 * next_bottom) - (t0 * above_top + t1 * next_top));
      above_bottom = next_bottom;
      above_top = next_top;
    }
  }
  const int64_t beyond = max<int64_t>(max(box.columns.low, box.columns.high), 0);
  for (int r = 0; r < R; ++r) {
    double* end = padded.row(r) + table.w;
    const double last = *end;
    for (int64_t q = 1; q <= beyond; ++q) end[q] = last;
  }
}

// Output rows begin..end-1 of one box over one plane.
template <typename T, bool PLAIN>
void forward_box(const Table& table, const Box& box, const PaddedRows& padded, T* out, const T* residual, int64_t w_out,
                 int64_t stride, int64_t begin, int64_t end, const Epilogue& epilogue) {
  constexpr int64_t R = PaddedRows::COUNT;
  for (int64_t i = begin; i < end;) {
    const int64_t count = stride == 1 && i + R <= end ? R : 1;
    if (count == R)
      difference_rows<R>(table, box, padded, i, 1);
    else
      difference_rows<1>(table, box, padded, i, stride);
    for (int64_t r = 0; r < count; ++r, ++i)
      write_row<T, PLAIN>(out + i * w_out, padded.row(r), residual ? residual + i * w_out : nullptr, box, w_out, stride,
                          epilogue);
  }
}

// Sums over one box of one plane that its edges' gradients are made of.
struct EdgeSums {
  double top = 0, bottom = 0, left = 0, right = 0, total = 0;
};

inline void add_scaled(double* __restrict to, const double* __restrict from, double factor, int64_t count) {
  for (int64_t q = 0; q < count; ++q) to[q] += factor * from[q];
}

// Where the taps of one output row go in the adjoint, for its bottom or top edge: to rows k and k + 1, clamped. With
// stride 1, row k + 1 is the next output row's row k; so the taps of the row before are added together with this row's.
struct Target {
  double* row;
  double weight, weight_before;

  // ``unused`` takes what lies above the image: it is never read.
  Target(const Table& adjoint, int64_t k, double weight0, double weight1, double* unused) {
    row = k <= 0 ? unused : adjoint.row(min(k, adjoint.h));
    weight = k < adjoint.h ? weight0 : weight0 + weight1;
    weight_before = k <= adjoint.h ? weight1 : 0;
  }
};

// The part of the last output row's taps that no further row has taken along.
inline void add_rest(const Table& adjoint, int64_t k, double weight1, const double* taps) {
  if (k >= 0 && k < adjoint.h) add_scaled(adjoint.row(k + 1), taps, weight1, adjoint.w + 1);
}

// Sum of row[begin..w-1].
inline double sum_from(const double* row, int64_t begin, int64_t w) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t q = max<int64_t>(begin, 0); q < w; ++q) sum += row[q];
  return sum;
}

inline double sum_lanes(Vec v) { return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7])); }

// What one column of one output row adds to the sums; V is a number or a vector of them.
template <typename V>
struct Column {
  V top, bottom, left, right, total;

  // g at the outputs whose right edge is in this column and in the one before, the left edge alike; the table's rows
  // around the bottom and the top edge. Sums by parts turned every sum over outputs into one over columns.
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

// Everything the gradients of one box over one plane need, in one pass over the rows of grad_output. ``adjoint`` gathers
// the transposed operation: it is to the gradient what the table is to the input, and is integrated once for all boxes.
// ``padded`` holds rows of grad_output, spread out to the input's columns; ``taps`` has room for 3 rows of the table.
template <typename T>
EdgeSums backward_box(const Table& table, const Table& adjoint, const Box& box, const PaddedRows& padded, double* taps,
                      const T* grad, int64_t stride_h, int64_t stride_w, int64_t h_out, int64_t w_out, int64_t stride) {
  const int64_t w = table.w;
  const Span rows = box.rows, columns = box.columns;
  const double b0 = rows.high0 * box.inverse, b1 = rows.high1 * box.inverse;
  const double t0 = -rows.low0 * box.inverse, t1 = -rows.low1 * box.inverse;
  double* current = taps;
  double* before = taps + table.pitch;
  double* unused = taps + 2 * table.pitch;
  memset(before, 0, sizeof(double) * table.pitch);
  EdgeSums sums;
  int64_t kb = 0, kt = 0;
  for (int64_t i = 0; i < h_out; ++i) {
    // Some rows at once: a row that was written just now cannot be read at other addresses without waiting.
    const int64_t slot = i % PaddedRows::COUNT;
    if (slot == 0)
      for (int64_t k = 0; k < min<int64_t>(PaddedRows::COUNT, h_out - i); ++k)
        widen_row(padded.row(k), grad + (i + k) * stride_h, stride_w, stride, w_out);
    const double* g = padded.row(slot);
    const double* gr = g - columns.high;
    const double* gl = g - columns.low;
    kb = i * stride + rows.high;
    kt = i * stride + rows.low;
    const double* bottom0 = table.clamped(kb);
    const double* bottom1 = table.clamped(kb + 1);
    const double* top0 = table.clamped(kt);
    const double* top1 = table.clamped(kt + 1);
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
    for (; q <= w; ++q) {
      double tap;
      if (q < w) {
        tap = one.add(gr[q], gr[q - 1], gl[q], gl[q - 1], bottom0[q], bottom1[q], top0[q], top1[q], box);
      } else {
        // The last node gathers every output whose edge lies beyond the image. Its own difference to the column
        // before is gr[w - 1]: no output's edge is in the column behind the image.
        tap = ((columns.high0 + columns.high1) * sum_from(g, w - columns.high, w) + columns.high1 * gr[w - 1]) -
              ((columns.low0 + columns.low1) * sum_from(g, w - columns.low, w) + columns.low1 * gl[w - 1]);
        const double above = (rows.high0 * bottom0[w] + rows.high1 * bottom1[w]) - (rows.low0 * top0[w] + rows.low1 * top1[w]);
        const double under_bottom = bottom1[w] - bottom0[w], under_top = top1[w] - top0[w];
        one.total += tap * above;
        one.bottom += tap * under_bottom;
        one.top += tap * under_top;
        one.right += above * gr[w - 1];
        one.left += above * gl[w - 1];
      }
      current[q] = tap;
      to_bottom.row[q] += to_bottom.weight * tap + to_bottom.weight_before * before[q];
      to_top.row[q] += to_top.weight * tap + to_top.weight_before * before[q];
    }
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

// v[7] + ... + v[0], ..., v[7]
inline Vec running_sum_back(Vec v) {
  const Vec zero = {0};
  v += __builtin_shufflevector(v, zero, 1, 2, 3, 4, 5, 6, 7, 8);
  v += __builtin_shufflevector(v, zero, 2, 3, 4, 5, 6, 7, 8, 9);
  return v + __builtin_shufflevector(v, zero, 4, 5, 6, 7, 8, 9, 10, 11);
}

inline Vec first_lane(Vec v) { return __builtin_shufflevector(v, v, 0, 0, 0, 0, 0, 0, 0, 0); }

// Rows end-R..end-1 of: grad_input[p][q] = sum of adjoint[r][c] over r > p, c > q. Row ``end`` of the adjoint holds, on entry,
// the sums over all rows from there on where ``below`` is set, and row end-R+1 does so on return.
template <typename T, int R>
void integrate_rows(const Table& adjoint, T* grad_input, int64_t end, bool below) {
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
    Vec sum = below ? load(bottom + q - LANES + 1) : Vec{0};
    for (int k = 0; k < R; ++k) {
      sum += load(in[k] + q - LANES + 1);
      if (k == R - 1) store(in[k] + q - LANES + 1, sum);
      const Vec v = running_sum_back(sum) + carry[k];
      carry[k] = first_lane(v);
      narrow(out[k] + q - LANES, v);
    }
  }
  double row[R];
  for (int k = 0; k < R; ++k) row[k] = carry[k][0];
  for (; q > 0; --q) {
    double sum = below ? bottom[q] : 0;
    for (int k = 0; k < R; ++k) {
      sum += in[k][q];
      if (k == R - 1) in[k][q] = sum;
      row[k] += sum;
      out[k][q - 1] = from_double<T>(row[k]);
    }
  }
}

template <typename T>
void integrate(const Table& adjoint, T* grad_input) {
  int64_t end = adjoint.h;
  for (; end >= ROWS; end -= ROWS) integrate_rows<T, ROWS>(adjoint, grad_input, end, end < adjoint.h);
  for (; end > 0; --end) integrate_rows<T, 1>(adjoint, grad_input, end, end < adjoint.h);
}

#include "vectors.inl"
#include "team.inl"
#include "fixed_point.inl"
#include "fixed_backward.inl"
#include "pixels.inl"
#include "planes_backward.inl"
#include "planes.inl"

}  // namespace BOX_ISA
}  // namespace box
