// Which planes may be computed in fixed point. Included by kernels.inl.

constexpr int64_t FIXED_LIMIT = 3072;        // of height + width
constexpr double FIXED_ERROR = 8e-6;         // largest error of an average, relative to the root mean square of its plane

// Whether planes of this call may be computed in fixed point, if they fit (see ``holds``). Rows of float32 are read in place,
// as vectors, so their pixels must be adjacent.
template <typename T>
inline bool fixed_point(const BoxProblem& p, int64_t stride_w) {
  return sizeof(T) < 8 && !p.exact && p.stride == 1 && p.h + p.w <= FIXED_LIMIT &&
         (sizeof(T) < 4 || p.w == 1 || stride_w == 1);
}

// How many doubles of working memory ``count`` 32-bit numbers take: whole cache lines.
inline int64_t in_doubles(int64_t count) { return (count + 15) / 16 * 8; }

// A plane as rows of float32: in place if it is float32, else a copy in ``memory``.
template <typename T>
struct FloatPlane {
  const float* data;
  int64_t stride;

  static int64_t size(int64_t h, int64_t w) { return in_doubles(h * w); }
  FloatPlane(const T* from, int64_t stride_h, int64_t stride_w, int64_t h, int64_t w, void* memory)
      : data(static_cast<float*>(memory)), stride(w) {
    float* to = static_cast<float*>(memory);
    for (int64_t r = 0; r < h; ++r)
      for (int64_t q = 0; q < w; ++q) to[r * w + q] = float(to_double(from[r * stride_h + q * stride_w]));
  }
  const float* row(int64_t r) const { return data + r * stride; }
};

template <>
struct FloatPlane<float> {
  const float* data;
  int64_t stride;

  static int64_t size(int64_t, int64_t) { return 0; }
  FloatPlane(const float* from, int64_t stride_h, int64_t, int64_t, int64_t, void*) : data(from), stride(stride_h) {}
  const float* row(int64_t r) const { return data + r * stride; }
};

template <typename T>
BoxMagnitude magnitude_of(const Team& team, const FloatPlane<T>& plane, int64_t h, int64_t w) {
  constexpr int64_t PARTS = 64;
  int32_t largest[PARTS] = {0};  // bits of a number without its sign: they order as numbers do, NaN last
  double squares[PARTS] = {0};
  team.share(PARTS, [&](int64_t begin, int64_t end) {
    const Ints magnitude = reinterpret_cast<Ints>(all_of(0x7fffffffu));
    for (int64_t k = begin; k < end; ++k) {
      Ints seen = {0};
      for (int64_t r = k * h / PARTS; r < (k + 1) * h / PARTS; ++r) {
        const float* row = plane.row(r);
        Floats sum = {0};
        int64_t q = 0;
        for (; q + WIDE <= w; q += WIDE) {
          const Floats value = load_floats(row + q);
          const Ints bits = reinterpret_cast<Ints>(value) & magnitude;
          seen = bits > seen ? bits : seen;
          sum += value * value;
        }
        for (; q < w; ++q) {
          largest[k] = max(largest[k], int32_t(float_to_bits(row[q]) & 0x7fffffffu));
          squares[k] += double(row[q]) * row[q];
        }
        for (int lane = 0; lane < WIDE; ++lane) squares[k] += sum[lane];
      }
      for (int lane = 0; lane < WIDE; ++lane) largest[k] = max<int32_t>(largest[k], seen[lane]);
    }
  });
  int32_t most = 0;
  double sum = 0;
  for (int64_t k = 0; k < PARTS; ++k) {
    most = max(most, largest[k]);
    sum += squares[k];
  }
  return {bits_to_float(uint32_t(most)), sqrt(sum / double(h * w))};
}

// Whether the squares of these numbers, which count, are in float32's normal range; no NaN is.
inline bool squares_fit(const BoxMagnitude& magnitude) { return magnitude.largest > 1e-14f && magnitude.largest < 1e17f; }

// Whether a plane may be computed in fixed point: its squares are in float32's normal range, errors stay below FIXED_ERROR,
// and the root mean square does not come from a few large pixels alone, next to which the others would lose their digits.
inline bool holds(const BoxMagnitude& magnitude, int64_t h, int64_t w) {
  if (magnitude.largest == 0) return true;
  const double range = min(FIXED_ERROR * 0x1p31 / double(h + w), sqrt(double(h * w)) / 2);
  return squares_fit(magnitude) && magnitude.largest <= max(range, 1.0) * magnitude.rms;
}
