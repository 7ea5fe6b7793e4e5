// Working memory that a thread keeps between calls: fresh memory from the system would cost a page fault every 4 KiB.
#pragma once
#include <stdint.h>
#include <stdlib.h>

namespace box {
namespace BOX_ISA {

class Scratch {
 public:
  ~Scratch() { release(); }

  // Uninitialised memory for ``count`` doubles, aligned to a cache line; valid until the next call. NULL: out of memory.
  double* get(int64_t count) {
    if (count > capacity_) {
      release();
      raw_ = malloc(size_t(count) * sizeof(double) + 64);
      if (!raw_) return nullptr;
      capacity_ = count;
    }
    return reinterpret_cast<double*>((reinterpret_cast<uintptr_t>(raw_) + 63) / 64 * 64);
  }

  // Frees memory that is too large to be kept for the next call.
  void trim() {
    if (capacity_ > KEPT) release();
  }

  static constexpr int64_t KEPT = int64_t(4) << 20;  // 32 MiB

 private:
  void release() {
    free(raw_);
    raw_ = nullptr;
    capacity_ = 0;
  }
  void* raw_ = nullptr;
  int64_t capacity_ = 0;
};

}  // namespace BOX_ISA
}  // namespace box
