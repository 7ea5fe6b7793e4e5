// Whole planes in fixed point, for nchw_forward.inl, nchw_backward.inl and nhwc_forward.inl. Included by kernels.inl.

// Doubles of working memory for the running sums of a strip of columns.
inline int64_t column_sums_size(int64_t h) { return in_doubles((h + 1) * STRIP * WIDE); }

template <typename T>
bool Forward<T>::fixed_plane(int64_t plane, bool all_threads, Failure& failure) const {
  if constexpr (sizeof(T) == 8) {
    return false;
  } else {
    if (!fixed_point<T>(p, p.input_strides[3])) return false;
    const int64_t floats = FloatPlane<T>::size(p.h, p.w), row_sums = RowSums::size(p.h, p.w);
    double* memory = (all_threads ? shared_scratch() : thread_scratch()).get(floats + row_sums + column_sums_size(p.h));
    if (!memory) {
      failure.happened = 1;
      return true;
    }
    const FloatPlane<T> image(input(plane), p.input_strides[2], p.input_strides[3], p.h, p.w, memory);
    RowSums sums(memory + floats, p.h, p.w);
    const Team team{p, all_threads};
    const BoxMagnitude magnitude = call.magnitudes ? call.magnitudes[plane] : magnitude_of(team, image, p.h, p.w);
    if (!holds(magnitude, p.h, p.w) || !integers_hold(magnitude, p.h, p.w)) return false;
    sums.fill(team, image, scale_of(double(p.w), magnitude.largest));
    const int64_t width = all_threads ? STRIP * WIDE : p.w, strips = (p.w + width - 1) / width;
    team.share(strips * p.per_channel, [&](int64_t begin, int64_t end) {
      double* own = all_threads ? thread_scratch().get(column_sums_size(p.h)) : memory + floats + row_sums;
      if (!own) return void(failure.happened = 1);
      for (int64_t task = begin; task < end; ++task) {
        const Part part{0, p.h, task % strips * width, min(p.w, (task % strips + 1) * width)};
        channel(plane, task / strips, [&](const Box& box, T* out, const T* residual, const Epilogue& epilogue) {
          if (simple_part(box, input(plane), p, part, out, p.w, residual, epilogue)) return;
          const FixedBox fixed(box, sums, magnitude.largest, epilogue.scale);
          uint32_t* column_sums = reinterpret_cast<uint32_t*>(own);
          const T* from = residual ? residual + part.begin : nullptr;
          if (plain())
            fixed_columns<T, true>(sums, fixed, column_sums, part.begin, part.end, out + part.begin, p.w, from, epilogue);
          else
            fixed_columns<T, false>(sums, fixed, column_sums, part.begin, part.end, out + part.begin, p.w, from, epilogue);
        });
      }
    });
    return true;
  }
}

template <typename T>
typename Backward<T>::Done Backward<T>::fixed_plane(int64_t plane, bool all_threads, double* edges,
                                                  Failure& failure) const {
  if constexpr (sizeof(T) == 8) {
    return NOTHING;
  } else {
    if (!fixed_point<T>(p, p.input_strides[3]) || !fixed_point<T>(p, call.grad_output_strides[3])) return NOTHING;
    const int64_t boxes = p.per_channel, floats = FloatPlane<T>::size(p.h, p.w), rows = MarginRows::size(p.h, p.w);
    const int64_t targets = all_threads ? boxes : 1;  // threads add to separate differences
    const int64_t working_size = floats + rows + 2 * column_sums_size(p.h);
    const Team team{p, all_threads};
    double* memory = (all_threads ? shared_scratch() : thread_scratch())
                         .get(in_doubles(boxes) + floats + rows * (1 + targets) + working_size);
    if (!memory) {
      failure.happened = 1;
      return EVERYTHING;
    }
    float* largest_grads = reinterpret_cast<float*>(memory);
    double* const image_memory = memory + in_doubles(boxes);
    double* const targets_memory = image_memory + floats + rows;
    double* const working = targets_memory + rows * targets;
    const FloatPlane<T> image(input(plane), p.input_strides[2], p.input_strides[3], p.h, p.w, image_memory);
    const BoxMagnitude magnitude = magnitude_of(team, image, p.h, p.w);
    const float largest = magnitude.largest;
    bool with_edges = call.grad_boxes && holds(magnitude, p.h, p.w), finite = true;
    GradientRange range;
    for (int64_t m = 0; m < boxes; ++m) {
      const FloatPlane<T> grad(grad_output(plane, m), call.grad_output_strides[2], call.grad_output_strides[3], p.h, p.w,
                               working);
      const BoxMagnitude of_grad = magnitude_of(team, grad, p.h, p.w);
      if (!holds(of_grad, p.h, p.w)) return NOTHING;
      largest_grads[m] = of_grad.largest;
      const double product = double(largest) * largest_grads[m];
      with_edges &= product == 0 || (product > 1e-25 && product < 1e25);
      const Box box = box_of(plane, m);
      if (box.nan)
        finite = false;
      else
        range.see(box, p.h, p.w, largest_grads[m]);
    }
    with_edges &= range.keeps_digits(magnitude);
    const Done done = with_edges || !call.grad_boxes ? EVERYTHING : GRAD_INPUT;
    if (done == GRAD_INPUT && !call.grad_input) return NOTHING;
    const double scale = range.scale(double((p.w + 2 * WIDE) * boxes));
    RowSums sums(image_memory + floats, p.h, p.w);
    if (with_edges) sums.fill(team, image, scale_of(range.length, largest));
    if (!all_threads) memset(targets_memory, 0, sizeof(double) * size_t(rows));
    const auto box_in_fixed_point = [&](const MarginRows& differences, int64_t m, double* own) {
      const FloatPlane<T> grad(grad_output(plane, m), call.grad_output_strides[2], call.grad_output_strides[3], p.h, p.w, own);
      const MarginRows averages(own + floats, p.h, p.w);
      averages.clear_margins();
      uint32_t* column_sums = reinterpret_cast<uint32_t*>(own + floats + rows);
      const Box box = box_of(plane, m);
      const FixedBackward fixed(box, sums, p.normalize, largest, largest_grads[m], scale);
      const auto run = with_edges ? fixed_backward_box<T, true> : fixed_backward_box<T, false>;
      run(sums, box, fixed, column_sums, grad, averages, call.grad_input ? &differences : nullptr, edges + m * 4);
    };
    team.share(boxes, [&](int64_t begin, int64_t end) {
      double* own = all_threads ? thread_scratch().get(working_size) : working;
      if (!own) return void(failure.happened = 1);
      for (int64_t m = begin; m < end; ++m) {
        const MarginRows target(targets_memory + (all_threads ? m * rows : 0), p.h, p.w);
        if (all_threads) memset(target.data, 0, sizeof(double) * size_t(rows));
        if (box_of(plane, m).nan)
          fill(edges + m * 4, edges + m * 4 + 4, double(NAN));
        else
          box_in_fixed_point(target, m, own);
      }
    });
    if (!call.grad_input || failure.happened) return done;
    if (!finite) {
      fill(grad_input(plane), grad_input(plane) + p.h * p.w, from_double<T>(NAN));
      return done;
    }
    const MarginRows sum(targets_memory, p.h, p.w);
    team.share((p.h + 3) / 4, [&](int64_t begin, int64_t end) {
      for (int64_t m = 1; m < targets; ++m)
        sum.add(MarginRows(targets_memory + m * rows, p.h, p.w), 4 * begin, min(4 * end, p.h));
      integrate_rows(sum, scale, grad_input(plane), 4 * begin, min(4 * end, p.h));
    });
    return done;
  }
}

inline bool NhwcForward::fixed_group(int64_t image, int64_t number, const Box* boxes, Failure& failure) const {
  if (!fixed_point<float>(p, p.input_strides[3])) return false;
  float largest[MOST];
  bool fit[MOST];
  int64_t unfit = 0;
  for (int64_t k = 0; k < planes; ++k) {
    const BoxMagnitude magnitude = this->magnitude(image, number, k);
    fit[k] = holds(magnitude, p.h, p.w) && integers_hold(magnitude, p.h, p.w);
    unfit += !fit[k];
    largest[k] = magnitude.largest;
  }
  if (unfit == planes) return false;
  // Usually some columns of all channels at a time. If a plane is unfit, whole channels: it is summed in float64, as in NCHW, so
  // that results depend neither on the memory format nor on the group.
  const int64_t columns = unfit ? p.w : STRIP * WIDE;
  const int64_t row_sums = RowSums::size(p.h, p.w), channel_pitch = Tile::channel_pitch_of(p.h * columns);
  const int64_t integral_size = unfit ? IntegralImage::size(p.h, p.w) + PaddedRows::size(p.w) : 0;
  double* memory =
      thread_scratch().get(planes * row_sums + group * channel_pitch / 2 + column_sums_size(p.h) + integral_size);
  if (!memory) {
    failure.happened = BOX_NO_MEMORY;
    return true;
  }
  const Tile tile{reinterpret_cast<float*>(memory + planes * row_sums), columns, channel_pitch};
  double* const after_tile = memory + planes * row_sums + group * channel_pitch / 2;
  uint32_t* const column_sums = reinterpret_cast<uint32_t*>(after_tile);
  double* const integral_memory = after_tile + column_sums_size(p.h);
  double scales[MOST];
  for (int64_t k = 0; k < planes; ++k) {
    if (!fit[k]) continue;
    RowSums sums(memory + k * row_sums, p.h, p.w);
    const FloatPlane<float> plane(input(image, number, k), p.input_strides[2], p.input_strides[3], p.h, p.w, nullptr);
    sums.fill(Team{p, false}, plane, scale_of(double(p.w), largest[k]));
    scales[k] = sums.scale;
  }
  for (int64_t begin = 0; begin < p.w; begin += columns) {
    const Part part{0, p.h, begin, min(begin + columns, p.w)};
    for (int64_t c = 0; c < group; ++c) {
      const int64_t k = c / p.per_channel, channel = number * group + c;
      const Box& box = boxes[c];
      const Epilogue epilogue = this->epilogue(channel);
      float* out = tile.origin(c, part);
      if (!fit[k]) {
        const IntegralImage integral(integral_memory, p.h, p.w);
        if (c % p.per_channel == 0)
          build_integral_image(integral, input(image, number, k), p.input_strides[2], p.input_strides[3]);
        const PaddedRows padded(integral_memory + IntegralImage::size(p.h, p.w), p.w);
        float64_channel(box, integral, padded, image, number, k, part, out, epilogue);
        continue;
      }
      if (simple_part<float>(box, input(image, number, k), p, part, out, tile.pitch, nullptr, epilogue)) continue;
      RowSums sums(memory + k * row_sums, p.h, p.w);
      sums.scale = scales[k];
      const FixedBox fixed(box, sums, largest[k], epilogue.scale);
      const auto strips = epilogue.shift == 0 ? fixed_columns<float, true> : fixed_columns<float, false>;
      strips(sums, fixed, column_sums, part.begin, part.end, out + begin, tile.pitch, nullptr, epilogue);
    }
    write(tile, image, number, part);
  }
  return true;
}
