// Element types of inputs and outputs, and their conversion from and to float64.
#pragma once
#include <stdint.h>
#include <string.h>

namespace box {
namespace BOX_ISA {

struct BFloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

inline float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

inline uint32_t float_to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

inline double to_double(float value) { return value; }
inline double to_double(double value) { return value; }
inline double to_double(BFloat16 value) { return bits_to_float(uint32_t(value.bits) << 16); }

inline double to_double(Float16 value) {
  const uint32_t sign = uint32_t(value.bits & 0x8000u) << 16, magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // Scaling by 2^112 moves the exponent's bias, and makes subnormal numbers normal.
  return bits_to_float(sign | magnitude << 13) * 0x1p112f;
}

template <typename T>
T from_double(double value);

template <>
inline float from_double<float>(double value) {
  return float(value);
}

template <>
inline double from_double<double>(double value) {
  return value;
}

template <>
inline BFloat16 from_double<BFloat16>(double value) {
  const uint32_t bits = float_to_bits(float(value));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {uint16_t(bits >> 16 | 0x40u)};  // a NaN must not round to infinity
  return {uint16_t((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

template <>
inline Float16 from_double<Float16>(double value) {
  const uint32_t bits = float_to_bits(float(value)), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {uint16_t(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {uint16_t(sign | 0x7c00u)};  // rounds to more than 65504, the largest float16
  if (magnitude < 0x38800000u)                                      // subnormal: an addition does the rounding
    return {uint16_t(sign | (float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000u))};
  return {uint16_t(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13)};
}

}  // namespace BOX_ISA
}  // namespace box
