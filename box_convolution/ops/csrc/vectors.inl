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
