// Boxes whose edges lie on borders of pixels, as those of deployed networks, over float32 planes: from integral images of 32-bit
// integers, half the memory of float64 and twice as many numbers in a vector. For AVX-512, where nothing else is computed in
// fixed point. Included by kernels.inl.
//
// An integral image is summed in float64, and its numbers are rounded to units of which the sum in no box has 2^31. Integers
// wrap around, so only the sums in boxes must fit into 32 bits. A box is a difference of four numbers of the integral image,
// so that its sum is wrong by at most 2 units, whatever its size.

constexpr int64_t MOST_AREAS = 4096;  // of the largest box in a plane; so float64 has digits below a unit

// Units in 1 for the sums of these boxes over a plane, a power of two; 0 if they or the plane are unfit. ``scale``: of each
// box's average, or NULL.
inline double units_for(const float* input, int64_t stride_h, const Box* boxes, const float* scale, const BoxProblem& p) {
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
  const FloatPlane<float> plane(input, stride_h, 1, p.h, p.w, nullptr);
  const Magnitude magnitude = magnitude_of(Team{p, false}, plane, p.h, p.w);
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
  const uint32_t* clamped(int64_t p) const { return row(min(max<int64_t>(p, 0), h)); }

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

// Differences of two rows of an integral image, from column ``at`` on, WIDE columns at a time. Whole cache lines are loaded and
// shifted into place, because a load across two lines takes twice as long.
struct RowDifference {
  const uint32_t *bottom, *top;
  const int64_t last;  // rows do not change beyond the vectors at -WIDE and ``last``
  int64_t at;
  const Words places;
  Words line;

  RowDifference(const uint32_t* bottom, const uint32_t* top, int64_t at, int64_t last)
      : bottom(bottom), top(top), last(last), at(at - (at & (WIDE - 1))),
        places(Words{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} + uint32_t(at & (WIDE - 1))), line(read()) {}

  inline Words read() const {
    const int64_t place = min(max(at, -WIDE), last);
    return load_words(bottom + place) - load_words(top + place);
  }

  inline Words next() {
    at += WIDE;
    const Words later = read(), value = Words(_mm512_permutex2var_epi32(__m512i(line), __m512i(places), __m512i(later)));
    line = later;
    return value;
  }
};

// A box over integral images of one size: scale * average + shift.
struct BoxOnBorders {
  const Box* box;
  float factor, shift;

  BoxOnBorders() = default;
  BoxOnBorders(const Box& box, double units, const Epilogue& epilogue)
      : box(&box), factor(float(box.inverse / units * epilogue.scale)), shift(float(epilogue.shift)) {}

  // Calls write(j, vector) with columns j..j+WIDE-1 of output row i, for begin <= j < end.
  template <typename Write>
  inline void row(const FixedIntegral& integral, int64_t i, int64_t begin, int64_t end, const Write& write) const {
    const uint32_t* const bottom = integral.clamped(i + box->rows.high);
    const uint32_t* const top = integral.clamped(i + box->rows.low);
    RowDifference right(bottom, top, begin + box->columns.high - 1, integral.end);
    RowDifference left(bottom, top, begin + box->columns.low - 1, integral.end);
    for (int64_t j = begin; j < end; j += WIDE) write(j, to_floats(right.next() - left.next()) * factor + shift);
  }
};

template <typename T>
bool Forward<T>::fixed_plane(int64_t plane, bool, Failure& failure) const {
  if constexpr (sizeof(T) != sizeof(float)) {
    return false;
  } else {
    // Whatever the size of the batch, by_rows works without fixed point.
    if (p.channels < ENOUGH_PLANES || !fixed_point<T>(p, p.input_strides[3])) return false;
    const int64_t integral_size = FixedIntegral::size(p.h, p.w), above = FixedIntegral::above_size(p.w);
    double* memory = thread_scratch().get(integral_size + above + p.per_channel * int64_t(sizeof(Box) / sizeof(double)));
    if (!memory) return failure.happened = BOX_NO_MEMORY, true;
    Box* const boxes = reinterpret_cast<Box*>(memory + integral_size + above);
    for (int64_t m = 0; m < p.per_channel; ++m)
      boxes[m] = Box(p.boxes + 4 * (plane % p.channels * p.per_channel + m), p.h, p.w, p.normalize);
    const float* const scale = call.scale ? call.scale + plane % p.channels * p.per_channel : nullptr;
    const double units = units_for(input(plane), p.input_strides[2], boxes, scale, p);
    if (units == 0) return false;
    const FixedIntegral integral(memory, p.h, p.w);
    integral.build(input(plane), p.input_strides[2], units, memory + integral_size);
    for (int64_t m = 0; m < p.per_channel; ++m)
      channel(plane, m, [&](const Box& box, T* out, const T* residual, const Epilogue& epilogue) {
        if (simple_part(box, input(plane), p, {0, p.h, 0, p.w}, out, p.w, residual, epilogue)) return;
        const BoxOnBorders fixed(box, units, epilogue);
        for (int64_t i = 0; i < p.h; ++i)
          fixed.row(integral, i, 0, p.w, [&](int64_t j, Floats value) {
            const int64_t at = i * p.w + j, count = min(WIDE, p.w - j);
            if (residual) value += count == WIDE ? load_floats(residual + at) : read_floats(residual + at, count);
            if (epilogue.relu) value = value < 0 ? Floats{} : value;
            count == WIDE ? store_floats(out + at, value) : write_floats(out + at, value, count);
          });
      });
    return true;
  }
}

inline bool NhwcForward::fixed_group(int64_t image, int64_t number, const Box* boxes, Failure& failure) const {
  // NCHW has no fixed point for few channels; results must not depend on the memory format.
  if (!fixed_point<float>(p, p.input_strides[3]) || p.channels < ENOUGH_PLANES) return false;
  double units[MOST];
  int64_t size = 0, at[MOST], unfit = 0;  // of integral images: all sizes, places, and how many are in float64
  for (int64_t k = 0; k < planes; ++k) {
    const float* const scale = call.scale ? call.scale + number * group + k * p.per_channel : nullptr;
    units[k] = units_for(input(image, number, k), p.input_strides[2], boxes + k * p.per_channel, scale, p);
    unfit += units[k] == 0;
    at[k] = size;
    size += units[k] == 0 ? IntegralImage::size(p.h, p.w) : FixedIntegral::size(p.h, p.w);
  }
  if (unfit == planes) return false;
  const int64_t row_size = max(FixedIntegral::above_size(p.w), PaddedRows::size(p.w));
  const int64_t columns = unfit ? p.w : min<int64_t>(p.w, 256);  // float64 computes whole rows
  const int64_t channel_pitch = Tile::channel_pitch_of(columns);
  double* memory = thread_scratch().get(size + row_size + group * channel_pitch / 2);
  if (!memory) return failure.happened = BOX_NO_MEMORY, true;
  double* const row_memory = memory + size;
  for (int64_t k = 0; k < planes; ++k) {
    const float* const from = input(image, number, k);
    if (units[k] == 0)
      build_integral_image(IntegralImage(memory + at[k], p.h, p.w), from, p.input_strides[2], p.input_strides[3]);
    else
      FixedIntegral(memory + at[k], p.h, p.w).build(from, p.input_strides[2], units[k], row_memory);
  }
  BoxOnBorders fixed[MOST];
  for (int64_t c = 0; c < group; ++c)
    fixed[c] = BoxOnBorders(boxes[c], units[c / p.per_channel], epilogue(number * group + c));
  const PaddedRows padded(row_memory, p.w);
  const Tile tile{reinterpret_cast<float*>(row_memory + row_size), 0, channel_pitch};
  // A row or a part of it at a time, which stays in the first-level cache.
  for (int64_t i = 0; i < p.h; ++i)
    for (int64_t begin = 0; begin < p.w; begin += columns) {
      const Part part{i, i + 1, begin, min(begin + columns, p.w)};
      for (int64_t c = 0; c < group; ++c) {
        const int64_t k = c / p.per_channel;
        const Epilogue epilogue = this->epilogue(number * group + c);
        float* const out = tile.origin(c, part);
        if (simple_part<float>(boxes[c], input(image, number, k), p, part, out, 0, nullptr, epilogue)) continue;
        if (units[k] != 0)
          fixed[c].row(FixedIntegral(memory + at[k], p.h, p.w), i, begin, part.end,
                       [&](int64_t j, Floats value) { store_floats(out + j, value); });
        else
          forward_box<float, false>(IntegralImage(memory + at[k], p.h, p.w), boxes[c], padded, out - i * p.w, nullptr, p.w,
                                    1, i, i + 1, epilogue);
      }
      write(tile, image, number, part);
    }
  return true;
}
