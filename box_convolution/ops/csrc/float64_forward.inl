// Box convolutions from float64 integral images, one for each plane: row(p)[q] = sum of the input over all rows above row p
// and columns 0..q. A float32 integral image would lose digits on a large plane.
//
// An edge lies at the same place within a pixel for every output. So the sum up to it is a weighted sum of two rows (or
// columns) of the integral image, with weights that depend on the box alone, and the inner loops run over whole rows with
// constant weights. Clamping row numbers to [0, H] has the effect of zero padding.

struct IntegralImage {
  double* data;
  int64_t h, w, pitch;

  IntegralImage(double* data, int64_t h, int64_t w) : data(data), h(h), w(w), pitch(pitch_of(w)) {}
  // Whole vectors, but no multiple of 2 KiB: rows so far apart would compete for places in the cache.
  static int64_t pitch_of(int64_t w) {
    const int64_t columns = (w + LANES - 1) / LANES * LANES;
    return columns % 256 ? columns : columns + LANES;
  }
  static int64_t size(int64_t h, int64_t w) { return (h + 1) * pitch_of(w); }
  double* row(int64_t p) const { return data + p * pitch; }
  double* clamped(int64_t p) const { return row(min(max<int64_t>(p, 0), h)); }
};

constexpr int ROWS = 8;  // rows that are summed side by side, to hide the latency of an addition

// Writes running sums of input rows p..p+R-1 into integral image rows p+1..p+R; if ``above``, row p of the integral image is
// added.
template <typename T, int R>
void scan_rows(const IntegralImage& integral, const T* input, int64_t stride_h, int64_t stride_w, int64_t p, bool above) {
  const bool contiguous = stride_w == 1;
  const T* in[R];
  double* out[R];
  Vec carry[R];
  for (int k = 0; k < R; ++k) {
    in[k] = input + (p + k) * stride_h;
    out[k] = integral.row(p + k + 1);
    carry[k] = Vec{0};
  }
  const double* top = integral.row(p);
  const auto sum_columns = [&](int64_t q, const auto& read) {
    Vec sum = above ? load(top + q) : Vec{0};
    for (int k = 0; k < R; ++k) {
      __builtin_prefetch(in[k] + q * stride_w + R * stride_h, 0, 2);  // the next rows; an address beyond the end does no harm
      const Vec v = running_sum(read(in[k] + q * stride_w)) + carry[k];
      carry[k] = last_lane(v);
      sum = above ? sum + v : v;
      store(out[k] + q, sum);
    }
  };
  int64_t q = 0;
  for (; q + LANES <= integral.w; q += LANES)
    sum_columns(q, [&](const T* from) { return contiguous ? widen(from) : gather(from, stride_w, LANES); });
  if (q < integral.w) sum_columns(q, [&](const T* from) { return gather(from, stride_w, integral.w - q); });
}

template <typename T>
void scan_strip(const IntegralImage& integral, const T* input, int64_t stride_h, int64_t stride_w, int64_t p,
                int64_t count, bool above) {
  if (count == ROWS) return scan_rows<T, ROWS>(integral, input, stride_h, stride_w, p, above);
  for (int64_t k = p; k < p + count; ++k) scan_rows<T, 1>(integral, input, stride_h, stride_w, k, above);
}

inline void add_row(double* __restrict to, const double* __restrict from, int64_t begin, int64_t end) {
  for (int64_t q = begin; q < end; ++q) to[q] += from[q];
}

template <typename T>
void build_integral_image(const IntegralImage& integral, const T* input, int64_t stride_h, int64_t stride_w) {
  memset(integral.row(0), 0, sizeof(double) * size_t(integral.pitch));
  for (int64_t p = 0; p < integral.h; p += ROWS)
    scan_strip(integral, input, stride_h, stride_w, p, min<int64_t>(ROWS, integral.h - p), true);
}

// Rows with room on both sides for every index that a clamped box can reach: -(w + 2) <= q < 2 * w + 16 in row(r).
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

// What is applied to the average before it is written: [relu]([residual +] scale * average + shift).
struct Epilogue {
  double scale, shift;
  bool relu;
};

// float32 is rounded before the residual is added, because the kernels of nhwc_forward.inl do so: results must not depend
// on the memory format.
template <typename T>
inline double before_residual(double value) {
  return sizeof(T) == 4 ? double(float(value)) : value;
}

template <typename T>
inline Vec before_residual(Vec value) {
  return sizeof(T) == 4 ? to_doubles(to_floats(value)) : value;
}

// V is a number, or a vector of them. ReLU keeps a NaN.
template <typename T, typename V, typename Residual>
inline V finished(V value, const Epilogue& epilogue, bool has_residual, const Residual& residual) {
  value = value * epilogue.scale + epilogue.shift;
  if (has_residual) value = before_residual<T>(value) + residual();
  return epilogue.relu ? (value < 0 ? V{} : value) : value;
}

// Sums between a box's left and right edge for 8 outputs at a time, out of a row of running sums: see Weights. With AVX-512,
// one instruction shifts two vectors into each other: so each vector is loaded only once. If the edges are ON_BORDERS of
// pixels, as those of snapped boxes are, a difference of two numbers is the whole sum.
template <bool ON_BORDERS>
struct Between {
  const double *right, *left;

  Between(const double* right, const double* left) : right(right), left(left) {}

  inline Vec next(const Weights&) {
    const Vec value = load(right) - load(left);
    right += LANES;
    left += LANES;
    return value;
  }
};

template <>
struct Between<false> {
  const double *right, *left;
#if defined(__AVX512F__)
  Vec at_right, between;

  Between(const double* right, const double* left)
      : right(right), left(left), at_right(load(right)), between(at_right - load(left)) {}

  inline Vec next(const Weights& weights) {
    right += LANES;
    left += LANES;
    const Vec later_right = load(right), later = later_right - load(left);
    const Vec ahead = following(at_right, later_right) - at_right;
    const Vec value = weights.of(between, following(between, later), ahead);
    at_right = later_right;
    between = later;
    return value;
  }
#else
  Between(const double* right, const double* left) : right(right), left(left) {}

  inline Vec next(const Weights& weights) {
    const Vec right0 = load(right), right1 = load(right + 1), left0 = load(left), left1 = load(left + 1);
    right += LANES;
    left += LANES;
    return weights.of(right0 - left0, right1 - left1, right1 - right0);
  }
#endif
};

// Writes one output row. ``sums``, a row of difference_rows, has for each column q the sum over the box's height of columns
// 0..q: the difference of its values at the right and the left edge is the output.
template <typename T, bool PLAIN, bool ON_BORDERS, bool STREAMS>
inline void write_row(T* __restrict out, const double* __restrict sums, const T* __restrict residual, const Span& columns,
                      const Weights& weights, int64_t count, int64_t stride, const Epilogue& epilogue) {
  const double* __restrict right = sums + columns.high - 1;
  const double* __restrict left = sums + columns.low - 1;
  if (stride != 1) {
    for (int64_t j = 0; j < count; ++j) {
      const int64_t q = j * stride;
      const double value = weights.of(right[q] - left[q], right[q + 1] - left[q + 1], right[q + 1] - right[q]);
      out[j] = from_double<T>(PLAIN ? value : finished<T>(value, epilogue, residual, [&] { return to_double(residual[j]); }));
    }
    return;
  }
  Between<ON_BORDERS> at_edges(right, left);
  int64_t j = 0;
  for (; j + LANES <= count; j += LANES) {
    const Vec value = at_edges.next(weights);
    narrow_to_memory<STREAMS>(
        out + j, PLAIN ? value : finished<T>(value, epilogue, residual, [&] { return widen(residual + j); }));
  }
  if (j < count) {
    const Vec value = at_edges.next(weights);
    narrow(out + j,
           PLAIN ? value : finished<T>(value, epilogue, residual, [&] { return gather(residual + j, 1, count - j); }),
           count - j);
  }
}

// Writes R rows of ``padded``, for output rows i..i+R-1: sums between the box's top and bottom edge of columns 0..q. R > 1 only
// with stride 1, where neighbouring output rows share rows of the integral image. ON_BORDERS: the top and bottom edges are.
template <int R, bool ON_BORDERS>
inline void difference_rows(const IntegralImage& integral, const Box& box, const Weights& weights,
                            const PaddedRows& padded, int64_t i,
                            int64_t stride) {
  const double* bottom[R + 1];
  const double* top[R + 1];
  for (int r = 0; r <= R; ++r) {
    bottom[r] = integral.clamped(i * stride + r + box.rows.high);
    top[r] = integral.clamped(i * stride + r + box.rows.low);
  }
  // Copies, so that they stay in registers: the compiler must assume that the stores change the originals.
  double* const to = padded.first;
  const int64_t to_pitch = padded.pitch, w = integral.w;
  for (int64_t q = 0; q < w; q += LANES) {
    if (ON_BORDERS) {
      for (int r = 0; r < R; ++r) store(to + r * to_pitch + q, weights.here * (load(bottom[r] + q) - load(top[r] + q)));
      continue;
    }
    Vec at_bottom = load(bottom[0] + q), between = at_bottom - load(top[0] + q);
    for (int r = 0; r < R; ++r) {
      const Vec next_bottom = load(bottom[r + 1] + q), next_between = next_bottom - load(top[r + 1] + q);
      store(to + r * to_pitch + q, weights.of(between, next_between, next_bottom - at_bottom));
      at_bottom = next_bottom;
      between = next_between;
    }
  }
  const int64_t beyond = max(box.columns.low, box.columns.high);
  for (int r = 0; r < R; ++r) {
    double* end = padded.row(r) + w;
    const Vec last = Vec{} + end[-1];
    for (int64_t q = 0; q < beyond; q += LANES) store(end + q, last);
  }
}

// Output rows begin..end-1 of one box over one plane. With STREAMS, rows begin at multiples of 32 bytes.
template <typename T, bool PLAIN, bool STREAMS>
void forward_box(const IntegralImage& integral, const Box& box, const PaddedRows& padded, T* out, const T* residual,
                 int64_t w_out,
                 int64_t stride, int64_t begin, int64_t end, const Epilogue& epilogue) {
  constexpr int64_t R = PaddedRows::COUNT;
  const Weights of_rows(box.rows, box.inverse), of_columns(box.columns, 1);
  const auto sum_rows = of_rows.on_borders() ? difference_rows<R, true> : difference_rows<R, false>;
  const auto sum_row = of_rows.on_borders() ? difference_rows<1, true> : difference_rows<1, false>;
  const auto write = of_columns.on_borders() ? write_row<T, PLAIN, true, STREAMS> : write_row<T, PLAIN, false, STREAMS>;
  for (int64_t i = begin; i < end;) {
    const int64_t count = stride == 1 && i + R <= end ? R : 1;
    for (int64_t at = i * w_out; at < (i + count) * w_out && !STREAMS; at += 64 / int64_t(sizeof(T)))
      __builtin_prefetch(out + at, 1);  // what ``write`` writes
    (count == R ? sum_rows : sum_row)(integral, box, of_rows, padded, i, stride);
    for (int64_t r = 0; r < count; ++r, ++i)
      write(out + i * w_out, padded.row(r), residual ? residual + i * w_out : nullptr, box.columns, of_columns, w_out,
            stride, epilogue);
  }
}

// Part of an output: rows top..bottom-1 of columns begin..end-1.
struct Part {
  int64_t top, bottom, begin, end;
};

// Writes a part where scale * average is the same ``number`` everywhere.
template <typename T>
void constant_part(double number, const Part& part, T* out, int64_t out_pitch, const T* residual, const Epilogue& epilogue) {
  const Epilogue unscaled{1.0, epilogue.shift, epilogue.relu};
  for (int64_t i = part.top; i < part.bottom; ++i)
    for (int64_t at = i * out_pitch + part.begin; at < i * out_pitch + part.end; ++at)
      out[at] = from_double<T>(finished<T>(number, unscaled, residual, [&] { return to_double(residual[at]); }));
}

// Writes a part for a box of one whole pixel, which only moves the image: nothing is summed, and nothing rounded.
template <typename T>
void move_image(const T* input, int64_t stride_h, int64_t stride_w, int64_t h, int64_t w, const Box& box, int64_t stride,
                const Part& part, T* out, int64_t out_pitch, const T* residual, const Epilogue& epilogue) {
  for (int64_t i = part.top; i < part.bottom; ++i) {
    const int64_t p = i * stride + box.rows.low;
    for (int64_t j = part.begin; j < part.end; ++j) {
      const int64_t q = j * stride + box.columns.low, at = i * out_pitch + j;
      const bool inside = p >= 0 && p < h && q >= 0 && q < w;
      const double value = inside ? to_double(input[p * stride_h + q * stride_w]) : 0.0;
      out[at] = from_double<T>(finished<T>(value, epilogue, residual, [&] { return to_double(residual[at]); }));
    }
  }
}

// Whether an output needs no sums: the scale is 0, the box has a NaN, or the box is one whole pixel.
inline bool needs_no_sums(const Box& box, const Epilogue& epilogue) {
  return epilogue.scale == 0 || box.nan || box.whole_pixel;
}

// Writes a part that needs no sums. Else returns false.
template <typename T>
bool simple_part(const Box& box, const T* input, const BoxProblem& p, const Part& part, T* out, int64_t out_pitch,
                 const T* residual, const Epilogue& epilogue) {
  if (!needs_no_sums(box, epilogue)) return false;
  if (epilogue.scale == 0 || box.nan)
    constant_part(epilogue.scale == 0 ? 0.0 : double(NAN), part, out, out_pitch, residual, epilogue);
  else
    move_image(input, p.input_strides[2], p.input_strides[3], p.h, p.w, box, p.stride, part, out, out_pitch, residual,
               epilogue);
  return true;
}
