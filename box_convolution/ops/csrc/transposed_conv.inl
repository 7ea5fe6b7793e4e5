// A transposed convolution with 2x2 or 3x3 pixels and stride 2: see layers.h. Included by kernels.inl.
//
// The pixels 2 * j and 2 * j + 1 of an output row lie side by side. They are products of a window of a row of the image, the
// pixel j or (3x3) j and j + 1, with a matrix, whose columns are x and k. With 3x3 pixels, every second row of the output is
// the sum of two such products, of windows in two rows.

#if defined(__AVX2__)
struct TransposedConv {
  const BoxTransposedConv& call;
  const int64_t window;                     // pixels
  const PixelProducts upper, lower, below;  // of the row i: for the output's rows 2 * i and 2 * i + 1; of the row i + 1
  const bool streams;

  TransposedConv(const BoxTransposedConv& call, double* memory)
      : call(call), window(call.size - 1), upper(products(0, memory)), lower(products(1, memory)), below(products(2, memory)),
        streams(4 * call.batch * call.h * call.w * call.outputs >= STREAMED) {
    set(upper, call.size - 2);
    set(lower, call.size - 1);
    if (window == 2) set(below, 0);
    for (int64_t column = 0; column < 2 * call.outputs; ++column)
      upper.bias[column] = lower.bias[column] = call.bias[column % call.outputs];
  }
  static int64_t size(const BoxTransposedConv& call) {
    return PixelProducts::size((call.size - 1) * call.channels, 2 * call.outputs);
  }
  static int64_t tile_size(const BoxTransposedConv& call) {
    return in_doubles(WIDE * 2 * call.outputs + WIDE + 2 * (WIDE + 1) * call.channels);
  }
  PixelProducts products(int64_t number, double* memory) const {
    return PixelProducts(window * call.channels, 2 * call.outputs, memory + number * size(call));
  }

  // The matrix of the weights in row y.
  void set(const PixelProducts& products, int64_t y) const {
    for (int64_t c = 0; c < call.channels; ++c)
      for (int64_t k = 0; k < call.outputs; ++k) {
        const float* const weight = call.weight + ((c * call.outputs + k) * call.size + y) * call.size;
        float* const left = products.weight + c * products.pitch + k;
        left[0] = weight[call.size - 2];
        left[call.outputs] = weight[call.size - 1];
        if (window == 2) left[call.channels * products.pitch + call.outputs] = weight[0];
      }
  }

  // Row ``number`` of all images: two rows of the output. ``tile`` has tile_size numbers.
  void run(int64_t number, float* tile) const {
    const int64_t channels = call.channels, outputs = 2 * call.outputs;
    float* const edges = tile + WIDE * outputs + WIDE;
    const float* const from = call.image + number * call.w * channels;
    const bool last = (number + 1) % call.h == 0;
    for (int64_t dy = 0; dy < 2; ++dy) {
      const PixelProducts& products = dy ? lower : upper;
      const PixelProducts* const under = dy && window == 2 && !last ? &below : nullptr;
      float* const to = call.output + (2 * number + dy) * call.w * outputs;
      for (int64_t j = 0; j < call.w; j += WIDE) {
        const int64_t count = min(WIDE, call.w - j);
        const float *here = from + j * channels, *next = here + call.w * channels;
        if (j + WIDE + window > call.w + 1) {  // windows reach beyond the row
          here = padded(here, count, edges);
          if (under) next = padded(next, count, edges + (WIDE + 1) * channels);
        }
        // The last vector of a pixel reaches into the next pixel: that is written later.
        for (int64_t k = products.pitch - WIDE; k >= 0; k -= WIDE) {
          const int64_t seen = k + WIDE <= call.outputs ? channels : window * channels;  // x = 0 sees a single pixel
          Floats sum[WIDE];
          products.start(k, sum);
          products.add(here, channels, seen, k, sum);
          if (under) under->add(next, channels, seen, k, sum);
          for (int64_t i = 0; i < count; ++i) store_floats(tile + i * outputs + k, sum[i]);
        }
        write(tile, count * outputs, to + j * outputs);
      }
    }
  }

  const float* padded(const float* from, int64_t count, float* to) const {
    const int64_t numbers = count * call.channels;
    memcpy(to, from, sizeof(float) * size_t(numbers));
    memset(to + numbers, 0, sizeof(float) * size_t((WIDE + 1) * call.channels - numbers));
    return to;
  }

  void write(const float* from, int64_t count, float* to) const {
    if (!streams || reinterpret_cast<uintptr_t>(to) % 64 || count % WIDE) {
      memcpy(to, from, sizeof(float) * size_t(count));
      return;
    }
    for (int64_t k = 0; k < count; k += WIDE) stream_floats(to + k, load_floats(from + k));
  }
};

int32_t transposed_conv(const BoxTransposedConv& call) {
  double* memory = shared_scratch().get(3 * TransposedConv::size(call));
  if (!memory) return BOX_NO_MEMORY;
  const TransposedConv kernel(call, memory);
  Failure failure;
  parallel(call, call.batch * call.h, [&](int64_t begin, int64_t end) {
    float* const tile = reinterpret_cast<float*>(thread_scratch().get(TransposedConv::tile_size(call)));
    if (!tile) return void(failure.happened = BOX_NO_MEMORY);
    for (int64_t number = begin; number < end; ++number) kernel.run(number, tile);
    finish_streams();
    thread_scratch().trim();
  });
  shared_scratch().trim();
  return failure.happened;
}
#else
int32_t transposed_conv(const BoxTransposedConv&) { return BOX_NOT_SERVED; }
#endif
