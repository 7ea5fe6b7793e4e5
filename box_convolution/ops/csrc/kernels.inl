// The kernels, compiled once per instruction set: the including file defines BOX_ISA, the namespace's name.
#include <math.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include "box_conv2d.h"
#include "shuffle.h"
#include "scratch.h"
#include "scalar_types.h"

namespace box {
namespace BOX_ISA {

// Not std::min and std::max: the linker may merge their instances of all instruction sets into one, which this machine may
// not be able to run.
template <typename T>
inline T min(T a, T b) {
  return b < a ? b : a;
}

template <typename T>
inline T max(T a, T b) {
  return a < b ? b : a;
}

template <typename T>
inline void fill(T* begin, T* end, T value) {
  while (begin < end) *begin++ = value;
}

#include "doubles.inl"
#include "spans.inl"
#include "integral_image.inl"
#include "integral_backward.inl"
#include "backward_rows.inl"
#include "vectors.inl"
#include "team.inl"
#include "nhwc.inl"
#include "nchw_backward.inl"
#include "nchw.inl"
#if defined(__AVX512F__)
#include "no_fixed_point.inl"
#else
#include "words.inl"
#include "fixed_point.inl"
#include "fixed_backward.inl"
#include "fixed_nchw.inl"
#endif

}  // namespace BOX_ISA
}  // namespace box
