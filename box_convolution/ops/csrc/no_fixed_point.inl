// In place of fixed_nchw.inl where vectors have 512 bits: float64 integral images take the same time there, and hold any plane.
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
