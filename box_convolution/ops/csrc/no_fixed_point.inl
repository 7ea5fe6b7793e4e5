// In place of fixed_nchw.inl with AVX-512, where float64 integral images take no longer, and are accurate for every plane.
// Included by kernels.inl.

inline bool NhwcForward::fixed_group(int64_t, int64_t, Failure&) const { return false; }

template <typename T>
bool Forward<T>::fixed_plane(int64_t, bool, Failure&) const {
  return false;
}

template <typename T>
typename Backward<T>::Done Backward<T>::fixed_plane(int64_t, bool, double*, Failure&) const {
  return NOTHING;
}
