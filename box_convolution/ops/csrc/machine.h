// What this x86-64 machine can run. Not __builtin_cpu_supports: it needs a run-time library that clang-cl does not link.
#pragma once
#include <cpuid.h>
#include <stdint.h>

namespace box {

struct Machine {
  bool avx2 = false;    // and fma
  bool avx512 = false;  // f, dq, vl, bw

  Machine() {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    const bool fma = c & 1u << 12, has_xgetbv = c & 1u << 27;
    if (!fma || !has_xgetbv || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    uint32_t saved, high;  // registers that the system saves when it switches threads
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    constexpr uint32_t YMM = 0x06, ZMM = 0xe6;
    constexpr uint32_t AVX2 = 1u << 5, AVX512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    avx2 = (saved & YMM) == YMM && (b & AVX2) == AVX2;
    avx512 = avx2 && (saved & ZMM) == ZMM && (b & AVX512) == AVX512;
  }
};

}  // namespace box
