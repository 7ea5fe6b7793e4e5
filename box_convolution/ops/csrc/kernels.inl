// The kernels, compiled once per instruction set: the including file defines BOX_ISA, the namespace's name.
#include <math.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include "box_conv2d.h"
#include "layers.h"
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

#include "float64_vectors.inl"
#include "spans.inl"
#include "float64_forward.inl"
#include "float64_backward.inl"
#include "one_pass_backward.inl"
#include "float32_vectors.inl"
#include "int32_vectors.inl"
#include "work_sharing.inl"
#include "fixed_point_range.inl"
#include "activation.inl"
#include "prelu.inl"
#include "pool_add.inl"
#include "pool_beside.inl"
#include "unpool.inl"
#include "pixel_products.inl"
#include "pointwise.inl"
#include "nhwc_forward.inl"
#include "transposed_conv.inl"
#include "nchw_backward.inl"
#include "nchw_forward.inl"
#if defined(__AVX512F__)
// Boxes on borders alone: float64 integral images take no longer for others here, and are accurate for every plane.
#include "fixed_integral_image.inl"

template <typename T>
typename Backward<T>::Done Backward<T>::fixed_plane(int64_t, bool, double*, Failure&) const {
  return NOTHING;
}
#else
#include "fixed_point_forward.inl"
#include "fixed_point_backward.inl"
#include "fixed_point_planes.inl"
#endif

}  // namespace BOX_ISA
}  // namespace box
