// The fast path of float32 and narrower types: sums in fixed point, in half the memory of a float64 integral image
// and with twice as many numbers in a vector. Included by kernels.inl.
//
// Integers wrap around, so a difference of two running sums is exact however large the sums have grown, as long as the
// difference itself fits into 32 bits: nothing is lost on a large plane, whatever its content. There are only two roundings:
// of each pixel, by at most max|input| * width / 2^31, and of each sum over a row of a box, which moves an average by at most
// max|input| * height / 2^31. Scales are powers of two, so that integers stay integers, and their sums exact. Planes whose few
// largest numbers would cost the others their digits are left to the float64 integral image (see ``holds``); so are large
// planes, and strides above 1.
//
// Not used with AVX-512, where the float64 integral image takes the same time.
//
// A box is summed along rows first, by differences of running sums along each row. These row sums are then summed along
// columns, a strip of columns at a time, whose running sums stay in the first-level cache.

constexpr double FULL_SCALE = 2147450880.0;  // under 2^31, with room for the rounding of float32 factors

// Whether units for pixels and sums of this magnitude are at most 1, so that integers stay exact.
inline bool integers_hold(const BoxMagnitude& magnitude, int64_t h, int64_t w) {
  return double(magnitude.largest) * double(w) * double(max<int64_t>(h, 64)) <= 0x1p30;
}

// One axis of a box, as  core * (S[n + high] - S[n + low]) + head * x[n + high] - tail * x[n + low]  with S[k] the sum of all
// x before x[k].
struct FixedSpan {
  int64_t low, high;
  double core, head, tail;
  double length;  // how many elements the difference of sums can span at most; at least 1
  double bound;   // largest |result| for |x| <= 1

  FixedSpan(const Span& span, int64_t size)
      : low(span.low), high(span.high), core((span.high0 + span.high1) * span.inverse), head(span.high1 * span.inverse),
        tail(span.low1 * span.inverse) {
    // Weights of a thin box's two columns sum to zero at each edge: it has no core.
    if (span.low0 + span.low1 == 0) core = 0;
    const double reach = double(min(size, high > low ? high - low : low - high));
    length = max(reach, 1.0);
    bound = fabs(core) * reach + fabs(head) + fabs(tail);
  }
};

// The largest power of two with which ``length`` numbers of magnitude up to ``largest``, multiplied by it and rounded to
// integers, have a sum of 32 bits.
inline double scale_of(double length, double largest) {
  if (largest == 0) return 1;
  int exponent;
  frexp((FULL_SCALE - length) / (length * largest), &exponent);
  return ldexp(1.0, exponent - 1);
}

// A plane whose rows have margins for q < 0 and q >= w, so that two vectors can be read from every column in [-2 * WIDE, end].
struct MarginRows {
  uint32_t* data;
  int64_t h, w, end, pitch;

  MarginRows(void* memory, int64_t h, int64_t w)
      : data(static_cast<uint32_t*>(memory)), h(h), w(w), end((w + WIDE - 1) / WIDE * WIDE), pitch(pitch_of(w)) {}
  static int64_t pitch_of(int64_t w) {
    const int64_t pitch = (w + WIDE - 1) / WIDE * WIDE + 4 * WIDE;
    return pitch % 1024 ? pitch : pitch + WIDE;  // rows a multiple of 4 KiB apart would compete for places in the cache
  }
  static int64_t size(int64_t h, int64_t w) { return in_doubles(h * pitch_of(w)); }
  uint32_t* row(int64_t p) const { return data + p * pitch + 2 * WIDE; }

  // Zero outside of [0, end).
  void clear_margins() const {
    for (int64_t p = 0; p < h; ++p) {
      memset(row(p) - 2 * WIDE, 0, 2 * WIDE * sizeof(uint32_t));
      memset(row(p) + end, 0, 2 * WIDE * sizeof(uint32_t));
    }
  }

  void add(const MarginRows& other, int64_t begin, int64_t stop) const {
    for (int64_t k = begin * pitch; k < stop * pitch; ++k) data[k] += other.data[k];
  }
};

// Running sums of each row of a plane, in units of 1 / scale: row(p)[q] = x[0] + ... + x[q].
struct RowSums : MarginRows {
  double scale = 1;

  using MarginRows::MarginRows;
  template <typename T>
  void fill(const Team& team, const FloatPlane<T>& plane, double units);  // a unit is 1 / units
};

template <int R>
void sum_rows(const RowSums& sums, const float* input, int64_t stride_h, int64_t p) {
  const float scale = float(sums.scale);
  const float* in[R];
  uint32_t* out[R];
  Words carry[R];
  for (int k = 0; k < R; ++k) {
    in[k] = input + (p + k) * stride_h;
    out[k] = sums.row(p + k);
    carry[k] = Words{0};
    store_words(out[k] - 2 * WIDE, carry[k]);
    store_words(out[k] - WIDE, carry[k]);
  }
  int64_t q = 0;
  for (; q + WIDE <= sums.w; q += WIDE)
    for (int k = 0; k < R; ++k) {
      const Words sum = running_sum(to_fixed(load_floats(in[k] + q) * scale)) + carry[k];
      carry[k] = last_of(sum);
      store_words(out[k] + q, sum);
    }
  for (int k = 0; k < R; ++k) {
    uint32_t total = carry[k][0];
    for (int64_t c = q; c < sums.w; ++c) out[k][c] = total += uint32_t(int32_t(lrintf(in[k][c] * scale)));
    for (int64_t c = sums.w; c < sums.end; ++c) out[k][c] = total;
    store_words(out[k] + sums.end, all_of(total));
    store_words(out[k] + sums.end + WIDE, all_of(total));
  }
}

template <typename T>
void RowSums::fill(const Team& team, const FloatPlane<T>& plane, double units) {
  scale = units;
  constexpr int64_t ROWS_AT_ONCE = 4;
  team.share((h + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE, [&](int64_t begin, int64_t end) {
    int64_t p = begin * ROWS_AT_ONCE;
    for (; p + ROWS_AT_ONCE <= min(end * ROWS_AT_ONCE, h); p += ROWS_AT_ONCE)
      sum_rows<ROWS_AT_ONCE>(*this, plane.row(0), plane.stride, p);
    for (; p < min(end * ROWS_AT_ONCE, h); ++p) sum_rows<1>(*this, plane.row(0), plane.stride, p);
  });
}

// Reads row[n + shift - 1] and row[n + shift] for V vectors of columns n from ``column`` on, of any row.
template <int V>
struct Windows {
  const uint32_t* place[V];

  Windows(const MarginRows& sums, int64_t column, int64_t shift) {
    for (int v = 0; v < V; ++v)
      place[v] = sums.row(0) + min(max(column + v * WIDE + shift - 1, -2 * WIDE), sums.end);
  }

  inline void read(int64_t offset, Words* before, Words* at) const {
    for (int v = 0; v < V; ++v) {
      before[v] = load_words(place[v] + offset);
      at[v] = load_words(place[v] + offset + 1);
    }
  }
};

// A box over planes of one size and scale.
struct FixedBox {
  FixedSpan rows, columns;
  float core, head, tail;                 // along a row, from units of the row sums to units of the column sums
  float row_core, row_head, row_tail;     // along a column, from there to the average

  // Weights along a row are those of a sum, not of an average: a whole pixel weighs 1, so that integers stay integers.
  FixedBox(const Box& box, const RowSums& sums, float largest, double scale)
      : rows(box.rows, sums.h), columns(summed(box.columns), sums.w) {
    const double unit = scale_of(rows.length, columns.bound * largest), average = box.columns.inverse * scale / unit;
    core = float(columns.core * unit / sums.scale);
    head = float(columns.head * unit / sums.scale);
    tail = float(columns.tail * unit / sums.scale);
    row_core = float(rows.core * average);
    row_head = float(rows.head * average);
    row_tail = float(rows.tail * average);
  }
  static Span summed(Span columns) {
    columns.inverse = 1;
    return columns;
  }
};

// Computes one box over V vectors of columns of a plane; if ``count`` is not -1, over the first ``count`` columns of one
// vector. ``column_sums`` has room for (h + 1) * V vectors.
template <typename T, int V, bool PLAIN>
void fixed_strip(const RowSums& sums, const FixedBox& box, uint32_t* column_sums, int64_t column, int64_t count, T* out,
                 int64_t out_pitch, const T* residual, const Epilogue& epilogue) {
  const int64_t h = sums.h, step = V * WIDE;
  const Windows<V> at_high(sums, column, box.columns.high), at_low(sums, column, box.columns.low);
  Words total[V];
  for (int v = 0; v < V; ++v) store_words(column_sums + v * WIDE, total[v] = Words{0});
  const float core = box.core, head = box.head, tail = box.tail;
  for (int64_t p = 0; p < h; ++p) {
    Words high0[V], high1[V], low0[V], low1[V];
    at_high.read(p * sums.pitch, high0, high1);
    at_low.read(p * sums.pitch, low0, low1);
    for (int v = 0; v < V; ++v) {
      total[v] += to_fixed(core * to_floats(high0[v] - low0[v]) + head * to_floats(high1[v] - high0[v]) -
                           tail * to_floats(low1[v] - low0[v]));
      store_words(column_sums + (p + 1) * step + v * WIDE, total[v]);
      // Prefetch what the second loop writes: the machine does not prefetch lines a row apart by itself.
      __builtin_prefetch(out + p * out_pitch + v * WIDE, 1);
      if (!PLAIN && residual) __builtin_prefetch(residual + p * out_pitch + v * WIDE);
    }
  }
  const float row_core = box.row_core, row_head = box.row_head, row_tail = box.row_tail;
  const int64_t high = box.rows.high, low = box.rows.low;
  const float shift = float(epilogue.shift);
  Words bottom[V], top[V];
  for (int v = 0; v < V; ++v) {
    bottom[v] = load_words(column_sums + min(max<int64_t>(high, 0), h) * step + v * WIDE);
    top[v] = load_words(column_sums + min(max<int64_t>(low, 0), h) * step + v * WIDE);
  }
  for (int64_t i = 0; i < h; ++i) {
    const uint32_t* next_bottom = column_sums + min(max<int64_t>(i + 1 + high, 0), h) * step;
    const uint32_t* next_top = column_sums + min(max<int64_t>(i + 1 + low, 0), h) * step;
    for (int v = 0; v < V; ++v) {
      const Words bottom1 = load_words(next_bottom + v * WIDE), top1 = load_words(next_top + v * WIDE);
      Floats value = row_core * to_floats(bottom[v] - top[v]) + row_head * to_floats(bottom1 - bottom[v]) -
                     row_tail * to_floats(top1 - top[v]);
      bottom[v] = bottom1;
      top[v] = top1;
      const int64_t at = i * out_pitch + v * WIDE;
      if (!PLAIN) {
        value += shift;
        if (residual) value += count < 0 ? read_floats(residual + at) : read_floats(residual + at, count);
        if (epilogue.relu) value = value < 0 ? Floats{} : value;
      }
      if (count < 0)
        write_floats(out + at, value);
      else
        write_floats(out + at, value, count);
    }
  }
}

constexpr int STRIP = 2;  // vectors of columns at a time

// Computes columns begin..end-1 of one box over one plane. ``begin`` is a multiple of a strip's width. Rows of ``out`` and
// ``residual`` are ``out_pitch`` apart and start with column ``begin``.
template <typename T, bool PLAIN>
void fixed_columns(const RowSums& sums, const FixedBox& box, uint32_t* column_sums, int64_t begin, int64_t end, T* out,
                   int64_t out_pitch, const T* residual, const Epilogue& epilogue) {
  const auto strip = [&](auto* run, int64_t q, int64_t count) {
    const int64_t offset = q - begin;
    run(sums, box, column_sums, q, count, out + offset, out_pitch, residual ? residual + offset : nullptr, epilogue);
  };
  int64_t q = begin;
  for (; q + STRIP * WIDE <= end; q += STRIP * WIDE) strip(fixed_strip<T, STRIP, PLAIN>, q, -1);
  for (; q + WIDE <= end; q += WIDE) strip(fixed_strip<T, 1, PLAIN>, q, -1);
  if (q < end) strip(fixed_strip<T, 1, PLAIN>, q, end - q);
}
