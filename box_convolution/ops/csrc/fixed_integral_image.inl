// Boxes whose edges lie on borders of pixels, as those of deployed networks, over float32 planes: from integral images of 32-bit
// integers, half the memory of float64 and twice as many numbers in a vector. For AVX-512, where nothing else is computed in
// fixed point. Included by kernels.inl.
//
// An integral image is summed in float64, and its numbers are rounded to units of which the sum in no box has 2^31. Integers
// wrap around, so only the sums in boxes must fit into 32 bits. A box is a difference of four numbers of the integral image,
// so that its sum is wrong by at most 2 units, whatever its size.

constexpr int64_t MOST_AREAS = 4096;  // of the largest box in a plane; so float64 has digits below a unit

// Units in 1 for the sums of these boxes over a plane, a power of two; 0 if they or the plane are unfit. ``scale``: of each
// box's average, or NULL. ``measure()`` returns the magnitude of the plane.
template <typename Measure>
inline double units_for(const Box* boxes, const float* scale, const BoxProblem& p, const Measure& measure) {
  double pixels = double(p.h * p.w), most = pixels / MOST_AREAS, least = INFINITY, factor = INFINITY;
  for (int64_t m = 0; m < p.per_channel; ++m) {
    const Span &rows = boxes[m].rows, &columns = boxes[m].columns;
    if (boxes[m].nan || boxes[m].whole_pixel || (scale && scale[m] == 0)) continue;
    if (!rows.on_borders || !columns.on_borders) return 0;
    const double height = fabs(double(rows.high - rows.low)), width = fabs(double(columns.high - columns.low));
    if (height * width == 0) continue;
    most = max(most, min(height, double(p.h)) * min(width, double(p.w)));
    least = min(least, height * width);
    factor = min(factor, fabs(boxes[m].inverse * (scale ? double(scale[m]) : 1.0)));
  }
  const BoxMagnitude magnitude = measure();
  if (magnitude.largest == 0) return 1;
  const double largest = magnitude.largest, rms = 1.001 * magnitude.rms;  // which was summed in float32
  // Without its largest pixel, a plane must have a quarter of its root mean square; the error is relative to that.
  if (!squares_fit(magnitude) || largest * largest > 0.9375 * pixels * rms * rms) return 0;
  int exponent;  // the largest sum is bounded by the inequality of Cauchy and Schwarz, too
  frexp((0x1p31 - 8) / min(most * largest, sqrt(most * pixels) * rms), &exponent);
  const double units = ldexp(1.0, exponent - 1);
  const bool integers_stay = units >= 1, normal = factor / units >= 0x1p-126;
  return integers_stay && normal && 2 <= units * FIXED_ERROR * rms / 4 * least ? units : 0;
}

struct FixedIntegral {
  uint32_t* data;
  int64_t h, w, end, pitch;

  FixedIntegral(void* memory, int64_t h, int64_t w)
      : data(static_cast<uint32_t*>(memory)), h(h), w(w), end((w + WIDE - 1) / WIDE * WIDE), pitch(pitch_of(w)) {}
  static int64_t pitch_of(int64_t w) {
    const int64_t pitch = (w + WIDE - 1) / WIDE * WIDE + 2 * WIDE;
    return pitch % 1024 ? pitch : pitch + WIDE;  // rows a multiple of 4 KiB apart would compete for places in the cache
  }
  static int64_t size(int64_t h, int64_t w) { return in_doubles((h + 1) * pitch_of(w)); }
  static int64_t above_size(int64_t w) { return (w + LANES - 1) / LANES * LANES; }

  // row(p)[q] is the sum of all pixels above row p in columns 0..q; 0 for q = -WIDE..-1, and for q = w..end+WIDE-1 as for w - 1.
  uint32_t* row(int64_t p) const { return data + p * pitch + WIDE; }

  void build(const float* input, int64_t stride_h, double units, double* above) const {
    memset(data, 0, sizeof(uint32_t) * size_t(pitch));
    memset(above, 0, sizeof(double) * size_t(above_size(w)));
    int64_t r = 0;
    for (; r + ROWS <= h; r += ROWS) sum_rows<ROWS>(input, stride_h, r, units, above);
    for (; r < h; ++r) sum_rows<1>(input, stride_h, r, units, above);
  }

 private:
  template <int R>
  void sum_rows(const float* input, int64_t stride_h, int64_t p, double units, double* above) const {
    const float* in[R];
    uint32_t* out[R];
    Vec carry[R];
    for (int k = 0; k < R; ++k) {
      in[k] = input + (p + k) * stride_h;
      out[k] = row(p + k + 1);
      carry[k] = Vec{0};
      store_words(out[k] - WIDE, Words{0});
    }
    const auto sum_columns = [&](int64_t q, const auto& read) {
      Vec sum = load(above + q);
      for (int k = 0; k < R; ++k) {
        __builtin_prefetch(in[k] + q + R * stride_h, 0, 2);  // the next rows; an address beyond the end does no harm
        const Vec v = running_sum(read(in[k] + q)) + carry[k];
        carry[k] = last_lane(v);
        sum += v;
        store_words(out[k] + q, sum * units);
      }
      store(above + q, sum);
    };
    int64_t q = 0;
    for (; q + LANES <= w; q += LANES) sum_columns(q, [&](const float* from) { return widen(from); });
    if (q < w) sum_columns(q, [&](const float* from) { return gather(from, 1, w - q); });
    for (int k = 0; k < R; ++k) {
      const uint32_t total = out[k][w - 1];
      fill(out[k] + w, out[k] + end, total);
      store_words(out[k] + end, all_of(total));
    }
  }
};

// A box over an integral image: scale * average + shift.
struct BoxOnBorders {
  const uint32_t* first_row;
  int64_t h, pitch, low, high;  // low, high: the rows between which the box lies for output row 0
  // Differences of two rows are loaded in whole cache lines and shifted into place, because a load across two lines takes
  // twice as long. Which lines, and how far, is the same in every row: for columns j..j+WIDE-1 of the right edge, lines
  // at[0] and at[2] at ``at = lines + 2 * j / WIDE``; of the left edge at[1] and at[3].
  const int32_t* lines;
  Words right, left;
  float factor, shift;

  BoxOnBorders() = default;
  // Lines are written to ``memory``, which has lines_size(w) numbers.
  BoxOnBorders(const Box& box, const FixedIntegral& integral, double units, const Epilogue& epilogue, int32_t* memory)
      : first_row(integral.row(0)), h(integral.h), pitch(integral.pitch), low(box.rows.low), high(box.rows.high),
        lines(memory), right(shift_of(box.columns.high - 1)), left(shift_of(box.columns.low - 1)),
        factor(float(box.inverse / units * epilogue.scale)), shift(float(epilogue.shift)) {
    for (int64_t j = 0; j < lines_size(integral.w) / 2; ++j) {
      memory[2 * j] = line_of(box.columns.high - 1 + j * WIDE, integral);
      memory[2 * j + 1] = line_of(box.columns.low - 1 + j * WIDE, integral);
    }
  }
  static int64_t lines_size(int64_t w) { return 2 * ((w + WIDE - 1) / WIDE + 1); }

  // Calls write(j, vector) with columns j..j+WIDE-1 of output row i, for begin <= j < end; begin is a multiple of WIDE.
  template <typename Write>
  inline void row(int64_t i, int64_t begin, int64_t end, const Write& write) const {
    const uint32_t* const bottom = first_row + min(max<int64_t>(i + high, 0), h) * pitch;
    const uint32_t* const top = first_row + min(max<int64_t>(i + low, 0), h) * pitch;
    const int32_t* at = lines + 2 * begin / WIDE;
    const auto difference = [&](int32_t line) { return load_words(bottom + line) - load_words(top + line); };
    Words to_right = difference(at[0]), to_left = difference(at[1]);
    for (int64_t j = begin; j < end; j += WIDE) {
      at += 2;
      const Words next_right = difference(at[0]), next_left = difference(at[1]);
      const Words sum = shifted(to_right, right, next_right) - shifted(to_left, left, next_left);
      to_right = next_right, to_left = next_left;
      write(j, to_floats(sum) * factor + shift);
    }
  }

 private:
  static Words shift_of(int64_t column) {
    return Words{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} + uint32_t(column & (WIDE - 1));
  }
  // Rows do not change beyond the lines at -WIDE and ``end``.
  static int32_t line_of(int64_t column, const FixedIntegral& integral) {
    return int32_t(min(max(column - (column & (WIDE - 1)), -WIDE), integral.end));
  }
  static Words shifted(Words line, Words places, Words next) {
    return Words(_mm512_permutex2var_epi32(__m512i(line), __m512i(places), __m512i(next)));
  }
};

template <typename T>
bool Forward<T>::fixed_plane(int64_t plane, bool, Failure& failure) const {
  if constexpr (sizeof(T) != sizeof(float)) {
    return false;
  } else {
    // Whatever the size of the batch, by_rows works without fixed point.
    if (p.channels < ENOUGH_PLANES || !fixed_point<T>(p, p.input_strides[3])) return false;
    const int64_t integral_size = FixedIntegral::size(p.h, p.w);
    const int64_t row_size = max(FixedIntegral::above_size(p.w), in_doubles(BoxOnBorders::lines_size(p.w)));
    double* memory = thread_scratch().get(integral_size + row_size + p.per_channel * int64_t(sizeof(Box) / sizeof(double)));
    if (!memory) return failure.happened = BOX_NO_MEMORY, true;
    Box* const boxes = reinterpret_cast<Box*>(memory + integral_size + row_size);
    for (int64_t m = 0; m < p.per_channel; ++m)
      boxes[m] = Box(p.boxes + 4 * (plane % p.channels * p.per_channel + m), p.h, p.w, p.normalize);
    const float* const scale = call.scale ? call.scale + plane % p.channels * p.per_channel : nullptr;
    const double units = units_for(boxes, scale, p, [&] {
      if (call.magnitudes) return call.magnitudes[plane];
      const FloatPlane<float> image(input(plane), p.input_strides[2], 1, p.h, p.w, nullptr);
      return magnitude_of(Team{p, false}, image, p.h, p.w);
    });
    if (units == 0) return false;
    const FixedIntegral integral(memory, p.h, p.w);
    integral.build(input(plane), p.input_strides[2], units, memory + integral_size);
    for (int64_t m = 0; m < p.per_channel; ++m)
      channel(plane, m, [&](const Box& box, T* out, const T* residual, const Epilogue& epilogue) {
        if (simple_part(box, input(plane), p, {0, p.h, 0, p.w}, out, p.w, residual, epilogue)) return;
        const BoxOnBorders fixed(box, integral, units, epilogue, reinterpret_cast<int32_t*>(memory + integral_size));
        for (int64_t i = 0; i < p.h; ++i)
          fixed.row(i, 0, p.w, [&](int64_t j, Floats value) {
            const int64_t at = i * p.w + j, count = min(WIDE, p.w - j);
            if (residual) value += count == WIDE ? load_floats(residual + at) : read_floats(residual + at, count);
            if (epilogue.relu) value = value < 0 ? Floats{} : value;
            if (count < WIDE)
              write_floats(out + at, value, count);
            else if (streams && p.w % WIDE == 0)
              stream_floats(out + at, value);
            else
              store_floats(out + at, value);
          });
      });
    return true;
  }
}

// Of one row of sums, for an integral image of either kind.
inline int64_t NhwcForward::row_size() const { return max(FixedIntegral::above_size(p.w), PaddedRows::size(p.w)); }

// Working memory for rows of a group, or for building one of its integral images.
inline int64_t NhwcForward::fixed_rows_size() const {
  return row_size() + in_doubles(BoxOnBorders::lines_size(p.w) * group) + group * Tile::channel_pitch_of(p.w) / 2;
}

// See units_for; ``boxes`` of plane k of a group.
inline double NhwcForward::fixed_units(int64_t image, int64_t number, int64_t k, const Box* boxes) const {
  const float* const scale = call.scale ? call.scale + number * group + k * p.per_channel : nullptr;
  return units_for(boxes, scale, p, [&] { return magnitude(image, number, k); });
}

// Rows top..bottom-1 of a group from the integral images of its planes, which are in float64 where units are 0.
inline void NhwcForward::fixed_rows(int64_t image, int64_t number, const Box* boxes, const double* units,
                                    double* const* integrals, int64_t top, int64_t bottom, double* memory) const {
  const int64_t lines_size = BoxOnBorders::lines_size(p.w);
  int32_t* const lines = reinterpret_cast<int32_t*>(memory + row_size());
  BoxOnBorders fixed[MOST];
  bool other[MOST];  // those that need no sums, or sums in float64
  bool whole_rows = false;  // as float64 computes them
  for (int64_t c = 0; c < group; ++c) {
    const int64_t k = c / p.per_channel;
    const Epilogue epilogue = this->epilogue(number * group + c);
    whole_rows |= units[k] == 0;
    other[c] = units[k] == 0 || needs_no_sums(boxes[c], epilogue);
    if (!other[c])
      fixed[c] = BoxOnBorders(boxes[c], FixedIntegral(integrals[k], p.h, p.w), units[k], epilogue, lines + c * lines_size);
  }
  const PaddedRows padded(memory, p.w);
  const int64_t columns = whole_rows ? p.w : min<int64_t>(p.w, 256);
  const Tile tile{reinterpret_cast<float*>(lines) + in_doubles(lines_size * group) * 2, columns, Tile::channel_pitch_of(columns)};
  // A row or a part of it at a time, which stays in the first-level cache.
  for (int64_t i = top; i < bottom; ++i)
    for (int64_t begin = 0; begin < p.w; begin += columns) {
      const Part part{i, i + 1, begin, min(begin + columns, p.w)};
      for (int64_t c = 0; c < group; ++c) {
        float* const out = tile.origin(c, part);
        if (!other[c]) {
          float* const row = out + i * columns;
          fixed[c].row(i, begin, part.end, [&](int64_t j, Floats value) { store_floats(row + j, value); });
          continue;
        }
        const int64_t k = c / p.per_channel;
        const Epilogue epilogue = this->epilogue(number * group + c);
        const IntegralImage integral(integrals[k], p.h, p.w);
        float64_channel(boxes[c], integral, padded, image, number, k, part, out, epilogue);
      }
      write(tile, image, number, part);
    }
}

inline bool NhwcForward::fixed_group(int64_t image, int64_t number, const Box* boxes, Failure& failure) const {
  if (!fixes()) return false;
  double units[MOST];
  int64_t size = 0, at[MOST], unfit = 0;  // of integral images: all sizes, places, and how many are in float64
  for (int64_t k = 0; k < planes; ++k) {
    units[k] = fixed_units(image, number, k, boxes + k * p.per_channel);
    unfit += units[k] == 0;
    at[k] = size;
    size += units[k] == 0 ? IntegralImage::size(p.h, p.w) : FixedIntegral::size(p.h, p.w);
  }
  if (unfit == planes) return false;
  double* memory = thread_scratch().get(size + fixed_rows_size());
  if (!memory) return failure.happened = BOX_NO_MEMORY, true;
  double* integrals[MOST];
  for (int64_t k = 0; k < planes; ++k) {
    integrals[k] = memory + at[k];
    const float* const from = input(image, number, k);
    if (units[k] == 0)
      build_integral_image(IntegralImage(integrals[k], p.h, p.w), from, p.input_strides[2], p.input_strides[3]);
    else
      FixedIntegral(integrals[k], p.h, p.w).build(from, p.input_strides[2], units[k], memory + size);
  }
  fixed_rows(image, number, boxes, units, integrals, 0, p.h, memory + size);
  return true;
}

// An image by several threads, which share out its planes, and then the rows of the output. Where groups come out even this is
// slower by a hundredth, or faster by a twentieth if the threads' processors have no cache in common. Returns false, and has
// written nothing, if a plane is unfit.
inline bool NhwcForward::fixed_image(int64_t image, Failure& failure) const {
  const int64_t size = FixedIntegral::size(p.h, p.w), rows_size = fixed_rows_size();
  if (!fixes() || p.channels * size > Scratch::KEPT) return false;
  double* const memory = shared_scratch().get(p.channels * (size + 1));
  if (!memory) return failure.happened = BOX_NO_MEMORY, true;
  double* const units = memory + p.channels * size;
  const auto boxes_of = [&](Box* boxes, int64_t channel, int64_t count) {
    for (int64_t c = 0; c < count; ++c) boxes[c] = Box(p.boxes + 4 * (channel + c), p.h, p.w, p.normalize);
  };
  parallel(p, p.channels, [&](int64_t begin, int64_t end) {
    double* const above = thread_scratch().get(rows_size);
    if (!above) return void(failure.happened = BOX_NO_MEMORY);
    Box boxes[MOST];
    for (int64_t plane = begin; plane < end; ++plane) {
      boxes_of(boxes, plane * p.per_channel, p.per_channel);
      units[plane] = fixed_units(image, plane / planes, plane % planes, boxes);
      if (units[plane] != 0)
        FixedIntegral(memory + plane * size, p.h, p.w)
            .build(input(image, 0, plane), p.input_strides[2], units[plane], above);
    }
  });
  for (int64_t plane = 0; plane < p.channels && !failure.happened; ++plane)
    if (units[plane] == 0) return false;
  parallel(p, p.h, [&](int64_t top, int64_t bottom) {
    double* const rows = failure.happened ? nullptr : thread_scratch().get(rows_size);
    if (!rows) return void(failure.happened = BOX_NO_MEMORY);
    for (int64_t number = 0; number < groups; ++number) {
      Box boxes[MOST];
      double* integrals[MOST];
      boxes_of(boxes, number * group, group);
      for (int64_t k = 0; k < planes; ++k) integrals[k] = memory + (number * planes + k) * size;
      fixed_rows(image, number, boxes, units + number * planes, integrals, top, bottom, rows);
    }
    if (streams) finish_streams();
  });
  return true;
}
