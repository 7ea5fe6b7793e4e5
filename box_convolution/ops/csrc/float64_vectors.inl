// Eight float64 numbers at a time: reading, writing, summing along the lanes.

// Compilers split vectors that are wider than the machine's. Variables of type Vec are aligned to their size, but numbers in
// memory are not. So memory is accessed through the types ...InMemory, and there are no arrays of these: Clang before 17
// takes them for aligned.
typedef double Vec __attribute__((vector_size(64)));
typedef float FloatVec __attribute__((vector_size(32)));
typedef double VecInMemory __attribute__((vector_size(64), aligned(8), may_alias));
typedef float FloatVecInMemory __attribute__((vector_size(32), aligned(4), may_alias));
constexpr int64_t LANES = 8;

inline Vec load(const double* from) { return *reinterpret_cast<const VecInMemory*>(from); }
inline void store(double* to, Vec value) { *reinterpret_cast<VecInMemory*>(to) = value; }

// With AVX-512 one instruction each, of which GCC makes five before version 13.
inline Vec to_doubles(FloatVec v) {
#if defined(__AVX512F__)
  return Vec(_mm512_cvtps_pd(__m256(v)));
#else
  return __builtin_convertvector(v, Vec);
#endif
}

inline FloatVec to_floats(Vec v) {
#if defined(__AVX512F__)
  return FloatVec(_mm512_cvtpd_ps(__m512d(v)));
#else
  return __builtin_convertvector(v, FloatVec);
#endif
}

typedef uint32_t WordVec __attribute__((vector_size(32)));
typedef uint32_t WordVecInMemory __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint64_t LongVec __attribute__((vector_size(64)));

// Rounds numbers below 2^51 to integers, and stores their last 32 bits: where the distance of two float64 numbers is 1, an
// integer is the end of the number.
inline void store_words(uint32_t* to, Vec v) {
  const LongVec bits = reinterpret_cast<LongVec>(v + 0x1.8p52);
#if defined(__AVX512F__)
  *reinterpret_cast<WordVecInMemory*>(to) = WordVec(_mm512_cvtepi64_epi32(__m512i(bits)));
#else
  *reinterpret_cast<WordVecInMemory*>(to) = __builtin_convertvector(bits, WordVec);
#endif
}

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

inline Vec widen(const float* from) { return to_doubles(*reinterpret_cast<const FloatVecInMemory*>(from)); }

// Lanes 1, 2 ... of ``v``, then lane 0 of ``next``.
inline Vec following(Vec v, Vec next) {
#if defined(__AVX512F__)
  return Vec(_mm512_maskz_alignr_epi64(0xff, __m512i(next), __m512i(v), 1));  // spares copies that a permutation needs
#else
  return __builtin_shufflevector(v, next, 1, 2, 3, 4, 5, 6, 7, 8);
#endif
}

// Reads p[q] and p[q + 1] for q = 0, 8, 16 ..., for any alignment of p. A load that crosses a cache line costs two loads; with
// AVX-512, one instruction on registers takes the place of every other one.
struct Neighbours {
  const double* p;
#if defined(__AVX512F__)
  Vec low;

  explicit Neighbours(const double* p) : p(p), low(load(p)) {}
  inline void read(Vec& first, Vec& second) {
    p += LANES;
    const Vec high = load(p);
    first = low;
    second = following(low, high);
    low = high;
  }
#else
  explicit Neighbours(const double* p) : p(p) {}
  inline void read(Vec& first, Vec& second) {
    first = load(p);
    second = load(p + 1);
    p += LANES;
  }
#endif
};

// ``count`` numbers that are ``stride`` apart, followed by zeros.
template <typename T>
inline Vec gather(const T* from, int64_t stride, int64_t count) {
  Vec v = {0};
  for (int64_t k = 0; k < count; ++k) v[k] = to_double(from[k * stride]);
  return v;
}

inline void narrow(float* to, Vec v) {
  *reinterpret_cast<FloatVecInMemory*>(to) = to_floats(v);
}

template <typename T>
inline void narrow(T* to, Vec v, int64_t count) {
  for (int64_t k = 0; k < count; ++k) to[k] = from_double<T>(v[k]);
}

template <typename T>
inline void narrow(T* to, Vec v) {
  narrow(to, v, LANES);
}

// The same, with STREAMS as stream_floats in float32_vectors.inl: ``to`` is a multiple of 32 then.
template <bool STREAMS, typename T>
inline void narrow_to_memory(T* to, Vec v) {
#if defined(__AVX512F__)
  if constexpr (STREAMS && sizeof(T) == sizeof(float)) return _mm256_stream_ps(to, __m256(to_floats(v)));
#endif
  narrow(to, v);
}

// v[7] + ... + v[0], ..., v[7]
inline Vec running_sum_back(Vec v) {
  const Vec zero = {0};
  v += __builtin_shufflevector(v, zero, 1, 2, 3, 4, 5, 6, 7, 8);
  v += __builtin_shufflevector(v, zero, 2, 3, 4, 5, 6, 7, 8, 9);
  return v + __builtin_shufflevector(v, zero, 4, 5, 6, 7, 8, 9, 10, 11);
}

inline Vec first_lane(Vec v) { return __builtin_shufflevector(v, v, 0, 0, 0, 0, 0, 0, 0, 0); }

inline double sum_lanes(Vec v) { return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7])); }
