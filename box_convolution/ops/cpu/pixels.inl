// Outputs with their channels last in memory, float32 in fixed point: a group of channels at a time, whose planes are turned
// into pixels while they are in cache, with the residual and ReLU in the same write. Included by kernels.inl.

// Rows of WIDE vectors become columns: log2(WIDE) rounds, each of which deals two halves of the vectors like cards.
inline void transpose(Floats (&v)[WIDE]) {
#if defined(__AVX512F__)
#define BOX_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define BOX_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define BOX_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define BOX_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define BOX_LOW 0, 4, 1, 5
#define BOX_HIGH 2, 6, 3, 7
#endif
  for (int64_t round = 1; round < WIDE; round *= 2) {
    Floats dealt[WIDE];
    for (int64_t k = 0; k < WIDE / 2; ++k) {
      dealt[2 * k] = __builtin_shufflevector(v[k], v[k + WIDE / 2], BOX_LOW);
      dealt[2 * k + 1] = __builtin_shufflevector(v[k], v[k + WIDE / 2], BOX_HIGH);
    }
    for (int64_t k = 0; k < WIDE; ++k) v[k] = dealt[k];
  }
#undef BOX_LOW
#undef BOX_HIGH
}

struct PixelForward {
  static constexpr int64_t GROUP = 16;  // channels: a cache line
  static constexpr int64_t TILE = STRIP * WIDE;

  const BoxForward& call;
  const BoxProblem& p;
  const int64_t planes, groups;  // planes in a group, groups in an image

  explicit PixelForward(const BoxForward& call)
      : call(call), p(call.problem), planes(GROUP / p.per_channel), groups(p.channels / planes) {}

  static bool serves(const BoxForward& call) {
    const BoxProblem& p = call.problem;
    return p.dtype == BOX_FLOAT32 && fixed_point<float>(p) && p.per_channel > 0 && GROUP % p.per_channel == 0 &&
           p.channels * p.per_channel % GROUP == 0;
  }

  // From channel to channel of a tile: a line more than its size, since equal places of channels a power of two apart compete
  // for one place in the cache.
  int64_t pitch() const { return p.h * TILE + WIDE; }

  int32_t run() const {
    Failure failure;
    parallel(p, p.batch * groups, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end && !failure.happened; ++task) {
        const int32_t status = group(task / groups, task % groups);
        if (status) failure.happened = status;
      }
      thread_scratch().trim();
    });
    return failure.happened;
  }

  int32_t group(int64_t image, int64_t number) const {
    const int64_t row_sums = RowSums::size(p.h, p.w), tile_size = in_doubles(GROUP * pitch());
    double* memory = thread_scratch().get(planes * row_sums + tile_size + in_doubles((p.h + 1) * TILE));
    if (!memory) return BOX_NO_MEMORY;
    float* tile = reinterpret_cast<float*>(memory + planes * row_sums);
    uint32_t* column_sums = reinterpret_cast<uint32_t*>(memory + planes * row_sums + tile_size);
    const Team team{p, false};
    float largest[GROUP];
    double scales[GROUP];
    for (int64_t k = 0; k < planes; ++k) {
      const float* from = static_cast<const float*>(p.input) + image * p.input_strides[0] +
                          (number * planes + k) * p.input_strides[1];
      const FloatPlane<float> plane(from, p.input_strides[2], p.input_strides[3], p.h, p.w, nullptr);
      largest[k] = magnitude_of(team, plane, p.h, p.w).largest;
      if (!fits_fixed_point(largest[k])) return BOX_NOT_SERVED;
      RowSums sums(memory + k * row_sums, p.h, p.w);
      sums.fill(team, plane, scale_of(double(p.w), largest[k]));
      scales[k] = sums.scale;
    }
    for (int64_t begin = 0; begin < p.w; begin += TILE) {
      const int64_t end = min(begin + TILE, p.w);
      for (int64_t c = 0; c < GROUP; ++c) {
        const int64_t k = c / p.per_channel, channel = number * GROUP + c;
        RowSums sums(memory + k * row_sums, p.h, p.w);
        sums.scale = scales[k];
        const Epilogue epilogue{call.scale ? call.scale[channel] : 1.0, call.shift ? call.shift[channel] : 0.0, false};
        channel_columns(sums, largest[k], Box(p.boxes + 4 * channel, p.h, p.w, p.normalize), epilogue, column_sums, begin,
                        end, tile + c * pitch());
      }
      write(tile, image, number, begin, end);
    }
    return BOX_DONE;
  }

  void channel_columns(const RowSums& sums, float largest, const Box& box, const Epilogue& epilogue, uint32_t* column_sums,
                       int64_t begin, int64_t end, float* out) const {
    if (box.nan || epilogue.scale == 0) {
      fill(out, out + p.h * TILE, epilogue.scale == 0 ? float(epilogue.shift) : float(NAN));
      return;
    }
    const FixedBox fixed(box, sums, largest, epilogue.scale);
    if (epilogue.shift == 0)
      fixed_columns<float, true>(sums, fixed, column_sums, begin, end, out, TILE, nullptr, epilogue);
    else
      fixed_columns<float, false>(sums, fixed, column_sums, begin, end, out, TILE, nullptr, epilogue);
  }

  void write(const float* tile, int64_t image, int64_t number, int64_t begin, int64_t end) const {
    const int64_t channels = groups * GROUP, ahead = 2 * p.w * channels;
    const float* const residual = static_cast<const float*>(call.residual);
    float* const output = static_cast<float*>(call.output);
    for (int64_t i = 0; i < p.h; ++i) {
      const int64_t row = ((image * p.h + i) * p.w + begin) * channels + number * GROUP;
      for (int64_t j = 0; j < end - begin; j += WIDE)
        for (int64_t c = 0; c < GROUP; c += WIDE) {
          Floats v[WIDE];
          for (int64_t k = 0; k < WIDE; ++k) v[k] = load_floats(tile + (c + k) * pitch() + i * TILE + j);
          transpose(v);
          const int64_t count = min<int64_t>(WIDE, end - begin - j);
          for (int64_t k = 0; k < count; ++k) {
            const int64_t at = row + (j + k) * channels + c;
            // Pixels are too far apart for the machine to foresee; no fault where this is behind the end.
            if (c == 0) {
              if (residual) __builtin_prefetch(residual + at + ahead);
              __builtin_prefetch(output + at + ahead, 1);
            }
            Floats value = v[k];
            if (residual) value += load_floats(residual + at);
            if (call.relu) value = value < 0 ? Floats{} : value;
            write_floats(output + at, value);
          }
        }
    }
  }
};
