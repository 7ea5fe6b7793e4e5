// A box as the kernels use it: pixel offsets, and weights that are the same for all output pixels.

// One axis of a box. With n the position of an output pixel, and S[k] the sum of all pixels before pixel k, the integral
// from the low to the high edge is
//     (high0 * S[n + high] + high1 * S[n + high + 1]) - (low0 * S[n + low] + low1 * S[n + low + 1]).
struct Span {
  int64_t low, high;  // the pixels in which the edges lie for output pixel 0
  double low0, low1, high0, high1;
  double inverse;    // 1 / length; 1 without normalisation, 0 for length 0
  bool whole_pixel;  // one pixel from border to border
  bool on_borders;   // both edges lie on borders of pixels
  bool nan;

  Span() = default;
  Span(double low_edge, double high_edge, int64_t size, bool normalize) {
    const double length = low_edge == high_edge ? 0.0 : high_edge - low_edge;
    inverse = 0;
    whole_pixel = on_borders = false;
    nan = length != length;
    if (nan) return;
    inverse = !normalize ? 1.0 : length == 0 ? 0.0 : 1.0 / length;
    // An edge beyond these bounds is outside the image for every output; clamped, it cannot overflow an int64.
    const double limit = double(size) + 1;
    const double low_at = min(max(low_edge + 0.5, -limit), limit), high_at = min(max(high_edge + 0.5, -limit), limit);
    const double low_floor = floor(low_at), high_floor = floor(high_at);
    low = int64_t(low_floor);
    high = int64_t(high_floor);
    const double low_part = low_at - low_floor, high_part = high_at - high_floor;
    on_borders = low_part == 0 && high_part == 0;
    whole_pixel = on_borders && length == 1 && high == low + 1;
    low0 = 1 - low_part, low1 = low_part;
    high0 = 1 - high_part, high1 = high_part;
    // If both edges lie in one pixel, or in adjacent ones, the integral is a weighted sum of these pixels. Weights that say
    // so lose no digits, however thin the box is.
    if (high == low) {
      const bool clamped = low_at != low_edge + 0.5 || high_at != high_edge + 0.5;
      low0 = low1 = 0;
      high1 = clamped ? high_part - low_part : length;
      high0 = -high1;
    } else if (high == low + 1) {
      low1 = -low0;
      high0 = -high1;
    } else if (high == low - 1) {
      high1 = -high0;
      low0 = -low1;
    }
  }
};

struct Box {
  Span rows, columns;
  double inverse;
  bool whole_pixel;
  bool nan;

  Box() = default;
  Box(const double* edges, int64_t h, int64_t w, bool normalize)
      : rows(edges[0], edges[1], h, normalize), columns(edges[2], edges[3], w, normalize) {
    nan = rows.nan || columns.nan;
    whole_pixel = !nan && rows.whole_pixel && columns.whole_pixel;
    inverse = rows.inverse * columns.inverse;
  }
};

// A Span's formula, written with differences of running sums alone: if the image is 0 between the edges, the result is
// exactly 0.
struct Weights {
  double here, next, rise;

  Weights(const Span& span, double factor)
      : here(span.low0 * factor), next(span.low1 * factor), rise((span.high1 - span.low1) * factor) {}

  // Whether both edges lie on borders of pixels, at least two pixels apart; or no pixel has a weight.
  bool on_borders() const { return next == 0 && rise == 0; }

  // ``between``: the sum at the high edge minus that at the low edge; ``next_between``: the same one row (or column) further;
  // ``ahead``: what the sum at the high edge gains by this step. V is a number or a vector of them.
  template <typename V>
  inline V of(V between, V next_between, V ahead) const {
    return here * between + next * next_between + rise * ahead;
  }
};
