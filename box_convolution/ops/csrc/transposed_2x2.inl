// A transposed convolution with 2x2 pixels and stride 2: see transposed_2x2.h. Included by kernels.inl.
//
// A row of the output is a product of a row of the image with a matrix: its columns are dx and k, since the pixels 2 * j and
// 2 * j + 1 of the output lie side by side.

#if defined(__AVX2__)
struct Transposed2x2 {
  const BoxTransposed2x2& call;
  const PixelProducts upper, lower;  // dy = 0 and 1
  const bool streams;

  Transposed2x2(const BoxTransposed2x2& call, double* memory)
      : call(call), upper(call.channels, 2 * call.outputs, memory), lower(call.channels, 2 * call.outputs, memory + size(call)),
        streams(4 * call.batch * call.h * call.w * call.outputs >= NhwcForward::STREAMED) {
    for (int64_t k = 0; k < call.outputs; ++k)
      for (int64_t dx = 0; dx < 2; ++dx) {
        const int64_t column = dx * call.outputs + k;
        upper.bias[column] = lower.bias[column] = call.bias[k];
        for (int64_t c = 0; c < call.channels; ++c) {
          const float* const weight = call.weight + 4 * (c * call.outputs + k) + dx;
          upper.weight[c * upper.pitch + column] = weight[0];
          lower.weight[c * lower.pitch + column] = weight[2];
        }
      }
  }
  static int64_t size(const BoxTransposed2x2& call) { return PixelProducts::size(call.channels, 2 * call.outputs); }
  static int64_t tile_size(const BoxTransposed2x2& call) { return in_doubles(WIDE * 2 * call.outputs + WIDE); }

  // Row ``number`` of the image: two rows of the output. ``tile`` has room for a row of WIDE pixels, and a vector.
  void run(int64_t number, float* tile) const {
    const float* const from = call.image + number * call.w * call.channels;
    for (int64_t dy = 0; dy < 2; ++dy) {
      const PixelProducts& products = dy ? lower : upper;
      const int64_t outputs = products.outputs;
      float* const to = call.output + (2 * number + dy) * call.w * outputs;
      for (int64_t j = 0; j < call.w; j += WIDE) {
        const int64_t count = min(WIDE, call.w - j);
        // The last vector of a pixel reaches into the next pixel: that is written later.
        for (int64_t k = products.pitch - WIDE; k >= 0; k -= WIDE) {
          Floats sum[WIDE];
          if (count == WIDE)
            products.tile(from + j * call.channels, k, sum);
          else
            for (int64_t i = 0; i < count; ++i) sum[i] = products.pixel(from + (j + i) * call.channels, k);
          for (int64_t i = 0; i < count; ++i) store_floats(tile + i * outputs + k, sum[i]);
        }
        write(tile, count * outputs, to + j * outputs);
      }
    }
  }

  void write(const float* from, int64_t count, float* to) const {
    if (!streams || reinterpret_cast<uintptr_t>(to) % 64 || count % WIDE) {
      memcpy(to, from, sizeof(float) * size_t(count));
      return;
    }
    for (int64_t k = 0; k < count; k += WIDE) stream_floats(to + k, load_floats(from + k));
  }
};

int32_t transposed_2x2(const BoxTransposed2x2& call) {
  double* memory = shared_scratch().get(2 * Transposed2x2::size(call));
  if (!memory) return BOX_NO_MEMORY;
  const Transposed2x2 kernel(call, memory);
  Failure failure;
  parallel(call, call.batch * call.h, [&](int64_t begin, int64_t end) {
    float* const tile = reinterpret_cast<float*>(thread_scratch().get(Transposed2x2::tile_size(call)));
    if (!tile) return void(failure.happened = BOX_NO_MEMORY);
    for (int64_t number = begin; number < end; ++number) kernel.run(number, tile);
    finish_streams();
    thread_scratch().trim();
  });
  shared_scratch().trim();
  return failure.happened;
}
#else
int32_t transposed_2x2(const BoxTransposed2x2&) { return BOX_NOT_SERVED; }
#endif
