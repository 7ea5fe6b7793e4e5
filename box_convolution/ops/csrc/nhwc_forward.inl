// float32 outputs in NHWC (channels last), a group of channels at a time: they are computed as planes, and transposed while
// they are in cache. The residual and ReLU are applied in the same write. Included by kernels.inl.

struct NhwcForward {
  static constexpr int64_t LINE = 16, MOST = 2 * LINE;  // channels in a cache line; at most so many in a group
  // float64 numbers that the integral images of a group of two lines may take: 0.75 MiB
  static constexpr int64_t CACHED = int64_t(3) << 15;
  static constexpr int64_t AHEAD = 48;  // pixels between that which is written and that which is prefetched

  const BoxForward& call;
  const BoxProblem& p;
  const int64_t group, planes, groups;  // channels and planes in a group, groups in an image
  const bool streams;  // not if the output replaces the residual, whose lines are in cache when they are written

  explicit NhwcForward(const BoxForward& call)
      : call(call), p(call.problem), group(group_of(p)), planes(group / p.per_channel), groups(p.channels / planes),
        streams(call.output != call.residual && writes_lines(call.output) &&
                p.batch * groups * group * p.h * p.w >= STREAMED) {}

  // Whether each store writes a whole cache line.
  static bool writes_lines(const void* output) { return WIDE == LINE && reinterpret_cast<uintptr_t>(output) % 64 == 0; }

  // Machines fetch cache lines in pairs, so a group is two lines of channels; or one, if the integral images of two would not
  // stay in cache.
  static int64_t group_of(const BoxProblem& p) {
    const bool pairs = p.channels * p.per_channel % MOST == 0;
    return pairs && MOST / p.per_channel * IntegralImage::size(p.h, p.w) <= CACHED ? MOST : LINE;
  }

  // Not if the integral images of a group outgrow all caches: it is faster then to write planes and transpose them later.
  static bool serves(const BoxForward& call) {
    const BoxProblem& p = call.problem;
    return p.dtype == BOX_FLOAT32 && p.stride == 1 && p.per_channel > 0 && LINE % p.per_channel == 0 &&
           p.channels * p.per_channel % LINE == 0 && LINE / p.per_channel * IntegralImage::size(p.h, p.w) <= Scratch::KEPT;
  }

  // A part of the outputs of a group, from its upper left corner on: rows are ``pitch`` apart, channels ``channel_pitch``.
  struct Tile {
    float* data;
    int64_t pitch, channel_pitch;

    // One more cache line: channels a power of two apart would compete for the same places in the cache.
    static int64_t channel_pitch_of(int64_t numbers) { return (numbers + WIDE - 1) / WIDE * WIDE + 16; }
    // Where row 0, column 0 of a channel would be, though the part may not contain it.
    float* origin(int64_t channel, const Part& part) const {
      return data + channel * channel_pitch - part.top * pitch - part.begin;
    }
  };

  int32_t run() const {
    Failure failure;
#if defined(__AVX512F__)
    // Unless groups come out even, rows do.
    if (p.batch == 1 && p.threads > 1 && groups % p.threads && fixed_image(0, failure)) return failure.happened;
#endif
    if (p.batch * p.channels * p.per_channel < LINE * p.threads) return BOX_NOT_SERVED;  // threads without work
    parallel(p, p.batch * groups, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end && !failure.happened; ++task)
        group_of_channels(task / groups, task % groups, failure);
      if (streams) finish_streams();
      thread_scratch().trim();
    });
    return failure.happened;
  }

  const float* input(int64_t image, int64_t number, int64_t k) const {
    return static_cast<const float*>(p.input) + image * p.input_strides[0] + (number * planes + k) * p.input_strides[1];
  }

  // Of an input plane, whose pixels in a row are adjacent.
  BoxMagnitude magnitude(int64_t image, int64_t number, int64_t k) const {
    if (call.magnitudes) return call.magnitudes[image * p.channels + number * planes + k];
    const FloatPlane<float> plane(input(image, number, k), p.input_strides[2], 1, p.h, p.w, nullptr);
    return magnitude_of(Team{p, false}, plane, p.h, p.w);
  }

  // Without residual and ReLU, which ``write`` applies.
  Epilogue epilogue(int64_t channel) const {
    return {call.scale ? call.scale[channel] : 1.0, call.shift ? call.shift[channel] : 0.0, false};
  }

  void group_of_channels(int64_t image, int64_t number, Failure& failure) const {
    Box boxes[MOST];
    for (int64_t c = 0; c < group; ++c) boxes[c] = Box(p.boxes + 4 * (number * group + c), p.h, p.w, p.normalize);
    if (!fixed_group(image, number, boxes, failure)) float64_group(image, number, boxes, failure);
  }

  // Computes a group from float64 integral images of its planes, a band of rows at a time.
  void float64_group(int64_t image, int64_t number, const Box* boxes, Failure& failure) const {
    const int64_t integrals = planes * IntegralImage::size(p.h, p.w), padded_rows = PaddedRows::size(p.w);
    const int64_t band = max<int64_t>(PaddedRows::COUNT, 1024 / p.w / PaddedRows::COUNT * PaddedRows::COUNT);
    const int64_t channel_pitch = Tile::channel_pitch_of(band * p.w + WIDE);
    double* memory = thread_scratch().get(integrals + padded_rows + group * channel_pitch / 2);
    if (!memory) return void(failure.happened = BOX_NO_MEMORY);
    const PaddedRows padded(memory + integrals, p.w);
    const Tile tile{reinterpret_cast<float*>(memory + integrals + padded_rows), p.w, channel_pitch};
    for (int64_t k = 0; k < planes; ++k)
      build_integral_image(IntegralImage(memory + k * IntegralImage::size(p.h, p.w), p.h, p.w), input(image, number, k),
                           p.input_strides[2], p.input_strides[3]);
    for (int64_t top = 0; top < p.h; top += band) {
      const Part part{top, min(top + band, p.h), 0, p.w};
      for (int64_t c = 0; c < group; ++c) {
        const int64_t k = c / p.per_channel;
        const IntegralImage integral(memory + k * IntegralImage::size(p.h, p.w), p.h, p.w);
        float64_channel(boxes[c], integral, padded, image, number, k, part, tile.origin(c, part), epilogue(number * group + c));
      }
      write(tile, image, number, part);
    }
  }

  // A part of one channel, whole rows, from the integral image of its plane ``k``. Rows of ``out`` are p.w apart.
  void float64_channel(const Box& box, const IntegralImage& integral, const PaddedRows& padded, int64_t image, int64_t number,
                       int64_t k, const Part& part, float* out, const Epilogue& epilogue) const {
    if (simple_part<float>(box, input(image, number, k), p, part, out, p.w, nullptr, epilogue)) return;
    const bool plain = epilogue.scale == 1 && epilogue.shift == 0;
    const auto rows = plain ? forward_box<float, true, false> : forward_box<float, false, false>;
    rows(integral, box, padded, out, nullptr, p.w, 1, part.top, part.bottom, epilogue);
  }

  // Computes a group in fixed point. Returns false, and has written nothing, if a plane or box is unfit for it: see
  // fixed_point_forward.inl and fixed_integral_image.inl.
  bool fixed_group(int64_t image, int64_t number, const Box* boxes, Failure& failure) const;
#if defined(__AVX512F__)
  // NCHW has no fixed point for few channels; results must not depend on the memory format.
  bool fixes() const { return fixed_point<float>(p, p.input_strides[3]) && p.channels >= ENOUGH_PLANES; }
  bool fixed_image(int64_t image, Failure& failure) const;
  int64_t row_size() const;
  int64_t fixed_rows_size() const;
  double fixed_units(int64_t image, int64_t number, int64_t k, const Box* boxes) const;
  void fixed_rows(int64_t image, int64_t number, const Box* boxes, const double* units, double* const* integrals, int64_t top,
                  int64_t bottom, double* memory) const;
#endif

  // Transposes the tile of a part, adds the residual, applies ReLU and writes the output.
  void write(const Tile& tile, int64_t image, int64_t number, const Part& part) const {
    if (streams)
      call.residual ? write<true, true>(tile, image, number, part) : write<false, true>(tile, image, number, part);
    else
      call.residual ? write<true, false>(tile, image, number, part) : write<false, false>(tile, image, number, part);
  }

  template <bool RESIDUAL, bool STREAMS>
  void write(const Tile& tile, int64_t image, int64_t number, const Part& part) const {
    const int64_t channels = groups * group, width = part.end - part.begin;
    const float* const residual = static_cast<const float*>(call.residual);
    float* const output = static_cast<float*>(call.output);
    const bool fetches = !STREAMS && output != residual;
    const Floats least = Floats{} + (call.relu ? 0.f : -INFINITY);
    // Pixels are too far apart for the machine to prefetch by itself.
    const auto pixel = [&](Floats value, int64_t at, bool whole_line) {
      if (whole_line) {  // an address beyond the end does no harm
        if (RESIDUAL) __builtin_prefetch(residual + at + AHEAD * channels);
        if (fetches) __builtin_prefetch(output + at + AHEAD * channels, 1);
      }
      if (RESIDUAL) value += load_floats(residual + at);
      value = value < least ? least : value;
      STREAMS ? stream_floats(output + at, value) : store_floats(output + at, value);
    };
    for (int64_t i = part.top; i < part.bottom; ++i) {
      const float* const from = tile.data + (i - part.top) * tile.pitch;
      const int64_t row = ((image * p.h + i) * p.w + part.begin) * channels + number * group;
      for (int64_t j = 0; j < width; j += WIDE)
        for (int64_t c = 0; c < group; c += WIDE) {
          const float* const first = from + c * tile.channel_pitch + j;
          const int64_t at = row + j * channels + c;
          Floats v[WIDE];
          for_multiples(tile.channel_pitch, [&](int64_t k, int64_t offset) { v[k] = load_floats(first + offset); });
          transpose(v);
          if (j + WIDE <= width) {
            for_multiples(channels, [&](int64_t k, int64_t offset) { pixel(v[k], at + offset, c % LINE == 0); });
            continue;
          }
          Floats some[WIDE];  // a copy, so that the vectors of whole tiles stay in registers
          for (int64_t k = 0; k < WIDE; ++k) some[k] = v[k];
          for (int64_t k = 0; k < width - j; ++k) pixel(some[k], at + k * channels, c % LINE == 0);
        }
    }
  }
};
