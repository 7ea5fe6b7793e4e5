// Vectors of 32-bit integers, with as many lanes as those of float32 in float32_vectors.inl. Included by kernels.inl.

typedef int32_t Ints __attribute__((vector_size(WIDE * 4)));
typedef uint32_t Words __attribute__((vector_size(WIDE * 4)));
typedef uint32_t WordsInMemory __attribute__((vector_size(WIDE * 4), aligned(4), may_alias));

inline Words load_words(const uint32_t* from) { return *reinterpret_cast<const WordsInMemory*>(from); }
inline void store_words(uint32_t* to, Words value) { *reinterpret_cast<WordsInMemory*>(to) = value; }
inline Floats to_floats(Words value) { return __builtin_convertvector(reinterpret_cast<Ints>(value), Floats); }

// bfloat16 is the upper half of float32; rounding as in from_double.
typedef uint16_t HalfWords __attribute__((vector_size(WIDE * 2)));
typedef uint16_t HalfWordsInMemory __attribute__((vector_size(WIDE * 2), aligned(2), may_alias));

inline Floats read_floats(const BFloat16* from) {
  const HalfWords bits = *reinterpret_cast<const HalfWordsInMemory*>(from);
  return reinterpret_cast<Floats>(__builtin_convertvector(bits, Words) << 16);
}

inline void write_floats(BFloat16* to, Floats value) {
  const Words bits = reinterpret_cast<Words>(value), rounded = bits + 0x7fff + (bits >> 16 & 1), quiet = bits | 0x400000;
  const Words kept = (bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded;
  *reinterpret_cast<HalfWordsInMemory*>(to) = __builtin_convertvector(kept >> 16, HalfWords);
}

// 64-bit numbers are pairs of words, the lower first.
#if defined(__AVX512F__)
#define BOX_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define BOX_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define BOX_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define BOX_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define BOX_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define BOX_ODD 1, 3, 5, 7, 9, 11, 13, 15
#define BOX_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define BOX_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define BOX_EVEN 0, 2, 4, 6
#define BOX_ODD 1, 3, 5, 7
#define BOX_LOW 0, 4, 1, 5
#define BOX_HIGH 2, 6, 3, 7
#endif
inline void load_halves(const int64_t* from, Words& lower, Words& upper) {
  const uint32_t* const words = reinterpret_cast<const uint32_t*>(from);
  const Words one = load_words(words), other = load_words(words + WIDE);
  lower = __builtin_shufflevector(one, other, BOX_EVEN);
  upper = __builtin_shufflevector(one, other, BOX_ODD);
}

inline void store_lower_halves(int64_t* to, Words lower) {
  uint32_t* const words = reinterpret_cast<uint32_t*>(to);
  store_words(words, __builtin_shufflevector(lower, Words{0}, BOX_LOW));
  store_words(words + WIDE, __builtin_shufflevector(lower, Words{0}, BOX_HIGH));
}
#undef BOX_EVEN
#undef BOX_ODD
#undef BOX_LOW
#undef BOX_HIGH

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
