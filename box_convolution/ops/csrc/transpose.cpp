// Transposition by tiles of a cache line on each side: every line of the input is read once, and every line of the output
// written once, whole. Rows and columns are often a power of two apart, so that lines would not stay in cache for another
// visit. Compiled once, for every machine: memory limits the speed.
#include "fallback_threads.h"
#include "layers.h"
#include "shuffle.h"

namespace box {
namespace {

constexpr int64_t TILE = 16;

// buffer[j][i] = from[i * stride + j] for a tile; rows are read whole, before any of them is needed again.
template <typename T>
inline void turn(const T* from, int64_t stride, T (&buffer)[TILE][TILE], int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) buffer[j][i] = from[i * stride + j];
}

typedef float Four __attribute__((vector_size(16)));
typedef float FourInMemory __attribute__((vector_size(16), aligned(4), may_alias));

inline Four load(const float* from) { return *reinterpret_cast<const FourInMemory*>(from); }
inline void store(float* to, Four value) { *reinterpret_cast<FourInMemory*>(to) = value; }

inline void turn(const float* from, int64_t stride, float (&buffer)[TILE][TILE], int64_t rows, int64_t columns) {
  if (rows % 4 || columns % 4) return turn<float>(from, stride, buffer, rows, columns);
  for (int64_t i = 0; i < rows; i += 4) {
    for (int64_t j = 0; j < columns; j += 4) {
      const float* at = from + i * stride + j;
      const Four a = load(at), b = load(at + stride), c = load(at + 2 * stride), d = load(at + 3 * stride);
      const Four ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const Four cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
      store(&buffer[j][i], __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
      store(&buffer[j + 1][i], __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
      store(&buffer[j + 2][i], __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
      store(&buffer[j + 3][i], __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
    }
  }
}

template <typename T>
T finished(T value, const T* residual, bool relu) {
  if (residual) value += *residual;
  return relu && value <= 0 ? T(0) : value;  // a NaN stays one
}

uint16_t finished(uint16_t value, const uint16_t*, bool) { return value; }

template <typename T>
struct Transpose {
  const BoxTranspose& call;
  // Threads share out strips of tiles, which are numbered along the longer side of the matrix.
  const bool by_rows;
  const int64_t strips;

  explicit Transpose(const BoxTranspose& call)
      : call(call), by_rows(call.rows > call.columns),
        strips(((by_rows ? call.rows : call.columns) + TILE - 1) / TILE) {}

  void strip(int64_t number) const {
    const int64_t matrix = number / strips * call.rows * call.columns, begin = number % strips * TILE;
    const T* in = static_cast<const T*>(call.input) + matrix;
    T* out = static_cast<T*>(call.output) + matrix;
    const T* residual = call.residual ? static_cast<const T*>(call.residual) + matrix : nullptr;
    const int64_t length = by_rows ? call.columns : call.rows;
    for (int64_t other = 0; other < length; other += TILE) {
      const int64_t i = by_rows ? begin : other, j = by_rows ? other : begin;
      const int64_t rows = call.rows - i < TILE ? call.rows - i : TILE;
      const int64_t columns = call.columns - j < TILE ? call.columns - j : TILE;
      if (rows == TILE && columns == TILE)
        tile(in, out, residual, i, j, TILE, TILE);
      else if (rows == TILE && columns == TILE / 2)
        tile(in, out, residual, i, j, TILE, TILE / 2);
      else if (rows == TILE / 2 && columns == TILE)
        tile(in, out, residual, i, j, TILE / 2, TILE);
      else if (rows == TILE && columns == TILE / 4)
        tile(in, out, residual, i, j, TILE, TILE / 4);
      else if (rows == TILE / 4 && columns == TILE)
        tile(in, out, residual, i, j, TILE / 4, TILE);
      else
        tile(in, out, residual, i, j, rows, columns);
    }
  }

  // Inlined once for each size that is constant: whole tiles, and those of eight and four channels.
  inline __attribute__((always_inline)) void tile(const T* in, T* out, const T* residual, int64_t i0, int64_t j0,
                                                  int64_t rows, int64_t columns) const {
    T buffer[TILE][TILE];
    const T* from = in + i0 * call.columns + j0;
    turn(from, call.columns, buffer, rows, columns);
    const bool relu = call.relu;
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t offset = (j0 + j) * call.rows + i0;
      const T* add = residual ? residual + offset : nullptr;
      for (int64_t i = 0; i < rows; ++i) out[offset + i] = finished(buffer[j][i], add ? add + i : nullptr, relu);
    }
  }
};

template <typename T>
void run(const BoxTranspose& call) {
  const Transpose<T> transpose(call);
  const int64_t count = call.batch * transpose.strips;
  if (call.threads <= 1 || count <= 1) {
    for (int64_t number = 0; number < count; ++number) transpose.strip(number);
    return;
  }
  fan_out_threads = call.threads;
  (call.parallel_for ? call.parallel_for : fan_out)(
      0, count, 4,
      [](int64_t begin, int64_t end, void* context) {
        for (int64_t number = begin; number < end; ++number) static_cast<const Transpose<T>*>(context)->strip(number);
      },
      const_cast<Transpose<T>*>(&transpose));
}

}  // namespace
}  // namespace box

void box_transpose(const BoxTranspose* arguments) {
  if (!arguments->rows || !arguments->columns) return;
  switch (arguments->size) {
    case 2: return box::run<uint16_t>(*arguments);
    case 4: return box::run<float>(*arguments);
    default: return box::run<double>(*arguments);
  }
}
