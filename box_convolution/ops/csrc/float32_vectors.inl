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
