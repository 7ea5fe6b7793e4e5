// Vectors of float32, as wide as the machine's registers. Included by kernels.inl.

#if defined(__AVX512F__)
constexpr int64_t WIDE = 16;
#elif defined(__AVX2__)
constexpr int64_t WIDE = 8;
#else
constexpr int64_t WIDE = 4;
#endif

typedef float Floats __attribute__((vector_size(WIDE * 4)));
typedef float FloatsInMemory __attribute__((vector_size(WIDE * 4), aligned(4), may_alias));

// Calls body(k, k * step) for k = 0..WIDE-1, unrolled. The multiples are hidden from the compiler, which else would keep all of
// them over loops around this, more than there are registers.
template <typename Body>
inline void for_multiples(int64_t step, const Body& body) {
  int64_t one = step, two = 2 * step, three = 3 * step;
#if defined(__x86_64__) || defined(__aarch64__)
  asm("" : "+r"(one), "+r"(two), "+r"(three));
#endif
  int64_t start = 0;
#pragma GCC unroll 4
  for (int64_t k = 0; k < WIDE; k += 4) {
    body(k, start);
    body(k + 1, start + one);
    body(k + 2, start + two);
    body(k + 3, start + three);
    start += one + three;
  }
}

inline Floats load_floats(const float* from) { return *reinterpret_cast<const FloatsInMemory*>(from); }
inline void store_floats(float* to, Floats value) { *reinterpret_cast<FloatsInMemory*>(to) = value; }

// Numbers from which on an output is written past the caches: 4 MiB. The next layer would find little of it in cache anyway, and
// the lines need not be read before they are written.
constexpr int64_t STREAMED = int64_t(1) << 20;

// With AVX-512: stores to an aligned address, past the caches; other threads see it after finish_streams. Else a plain store.
inline void stream_floats(float* to, Floats value) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, __m512(value));
#else
  store_floats(to, value);
#endif
}

inline void finish_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

template <typename T>
inline void write_floats(T* to, Floats value, int64_t count) {
  for (int64_t k = 0; k < count; ++k) to[k] = from_double<T>(value[k]);
}

template <typename T>
inline void write_floats(T* to, Floats value) {
  for (int k = 0; k < WIDE; ++k) to[k] = from_double<T>(value[k]);
}

inline void write_floats(float* to, Floats value) { store_floats(to, value); }

template <typename T>
inline Floats read_floats(const T* from, int64_t count) {
  Floats value = {0};
  for (int64_t k = 0; k < count; ++k) value[k] = float(to_double(from[k]));
  return value;
}

template <typename T>
inline Floats read_floats(const T* from) {
  return read_floats(from, WIDE);
}

inline Floats read_floats(const float* from) { return load_floats(from); }

#if defined(__AVX512F__)
// Transposes WIDE vectors: two rounds within the quarters of the vectors, and two that exchange quarters.
inline void transpose(Floats (&v)[WIDE]) {
#define BOX_QUARTERS(a, b, c, d) \
  a, a + 1, a + 2, a + 3, b, b + 1, b + 2, b + 3, c, c + 1, c + 2, c + 3, d, d + 1, d + 2, d + 3
#define BOX_IN_QUARTERS(a, b, c, d) \
  a, b, c, d, a + 4, b + 4, c + 4, d + 4, a + 8, b + 8, c + 8, d + 8, a + 12, b + 12, c + 12, d + 12
  Floats a[WIDE], b[WIDE];
  for (int64_t k = 0; k < WIDE; k += 2) {
    a[k] = __builtin_shufflevector(v[k], v[k + 1], BOX_IN_QUARTERS(0, 16, 1, 17));
    a[k + 1] = __builtin_shufflevector(v[k], v[k + 1], BOX_IN_QUARTERS(2, 18, 3, 19));
  }
  for (int64_t k = 0; k < WIDE; k += 4)
    for (int64_t half = 0; half < 2; ++half) {
      const Floats one = a[k + half], other = a[k + half + 2];
      b[k + 2 * half] = __builtin_shufflevector(one, other, BOX_IN_QUARTERS(0, 1, 16, 17));
      b[k + 2 * half + 1] = __builtin_shufflevector(one, other, BOX_IN_QUARTERS(2, 3, 18, 19));
    }
  for (int64_t k = 0; k < 4; ++k) {
    const Floats even = __builtin_shufflevector(b[k], b[k + 4], BOX_QUARTERS(0, 8, 16, 24));
    const Floats odd = __builtin_shufflevector(b[k], b[k + 4], BOX_QUARTERS(4, 12, 20, 28));
    const Floats even2 = __builtin_shufflevector(b[k + 8], b[k + 12], BOX_QUARTERS(0, 8, 16, 24));
    const Floats odd2 = __builtin_shufflevector(b[k + 8], b[k + 12], BOX_QUARTERS(4, 12, 20, 28));
    v[k] = __builtin_shufflevector(even, even2, BOX_QUARTERS(0, 8, 16, 24));
    v[k + 4] = __builtin_shufflevector(odd, odd2, BOX_QUARTERS(0, 8, 16, 24));
    v[k + 8] = __builtin_shufflevector(even, even2, BOX_QUARTERS(4, 12, 20, 28));
    v[k + 12] = __builtin_shufflevector(odd, odd2, BOX_QUARTERS(4, 12, 20, 28));
  }
#undef BOX_QUARTERS
#undef BOX_IN_QUARTERS
}
#else
// Transposes WIDE vectors, in log2(WIDE) rounds, each of which interleaves the two halves of the vectors like cards.
inline void transpose(Floats (&v)[WIDE]) {
#if defined(__AVX2__)
#define BOX_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define BOX_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define BOX_LOW 0, 4, 1, 5
#define BOX_HIGH 2, 6, 3, 7
#endif
  for (int64_t round = 1; round < WIDE; round *= 2) {
    Floats dealt[WIDE];
    for (int64_t k = 0; k < WIDE / 2; ++k) {
      dealt[2 * k] = __builtin_shufflevector(v[k], v[k + WIDE / 2], BOX_LOW);
      dealt[2 * k + 1] = __builtin_shufflevector(v[k], v[k + WIDE / 2], BOX_HIGH);
    }
    for (int64_t k = 0; k < WIDE; ++k) v[k] = dealt[k];
  }
#undef BOX_LOW
#undef BOX_HIGH
}
#endif
