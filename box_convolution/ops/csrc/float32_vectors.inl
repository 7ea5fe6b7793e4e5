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

inline Floats load_floats(const float* from) { return *reinterpret_cast<const FloatsInMemory*>(from); }
inline void store_floats(float* to, Floats value) { *reinterpret_cast<FloatsInMemory*>(to) = value; }

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

// Transposes WIDE vectors, in log2(WIDE) rounds, each of which interleaves the two halves of the vectors like cards.
inline void transpose(Floats (&v)[WIDE]) {
#if defined(__AVX512F__)
#define BOX_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define BOX_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
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
