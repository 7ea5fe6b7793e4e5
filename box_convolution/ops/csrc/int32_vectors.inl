// Vectors of 32-bit integers, with as many lanes as those of float32 in float32_vectors.inl. Included by kernels.inl.

typedef int32_t Ints __attribute__((vector_size(WIDE * 4)));
typedef uint32_t Words __attribute__((vector_size(WIDE * 4)));
typedef uint32_t WordsInMemory __attribute__((vector_size(WIDE * 4), aligned(4), may_alias));

inline Words load_words(const uint32_t* from) { return *reinterpret_cast<const WordsInMemory*>(from); }
inline void store_words(uint32_t* to, Words value) { *reinterpret_cast<WordsInMemory*>(to) = value; }
inline Floats to_floats(Words value) { return __builtin_convertvector(reinterpret_cast<Ints>(value), Floats); }

#if !defined(__AVX512F__)
// Rounds to the nearest integers.
inline Words to_fixed(Floats value) {
#if defined(__AVX2__)
  return reinterpret_cast<Words>(_mm256_cvtps_epi32(reinterpret_cast<__m256>(value)));
#elif defined(__SSE2__)
  return reinterpret_cast<Words>(_mm_cvtps_epi32(reinterpret_cast<__m128>(value)));
#elif defined(__ARM_NEON) && defined(__aarch64__)
  return reinterpret_cast<Words>(vcvtnq_s32_f32(reinterpret_cast<float32x4_t>(value)));
#else
  Words words;
  for (int k = 0; k < WIDE; ++k) words[k] = uint32_t(int32_t(rintf(value[k])));
  return words;
#endif
}

// v[0], v[0] + v[1], ...
inline Words running_sum(Words v) {
  const Words zero = {0};
#if defined(__AVX2__)
  v += __builtin_shufflevector(zero, v, 7, 8, 9, 10, 11, 12, 13, 14);
  v += __builtin_shufflevector(zero, v, 6, 7, 8, 9, 10, 11, 12, 13);
  return v + __builtin_shufflevector(zero, v, 4, 5, 6, 7, 8, 9, 10, 11);
#else
  v += __builtin_shufflevector(zero, v, 3, 4, 5, 6);
  return v + __builtin_shufflevector(zero, v, 2, 3, 4, 5);
#endif
}

inline Words last_of(Words v) {
#if defined(__AVX2__)
  return __builtin_shufflevector(v, v, 7, 7, 7, 7, 7, 7, 7, 7);
#else
  return __builtin_shufflevector(v, v, 3, 3, 3, 3);
#endif
}
#endif

inline Words all_of(uint32_t value) { return Words{} + value; }
