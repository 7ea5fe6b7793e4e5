// What a box is to a kernel: pixel numbers, and weights that depend on the box alone.

// One axis of a box. With n the position of an output pixel, the integral from the low to the high edge of an image with
// running sums S is  (high0 * S[n + high] + high1 * S[n + high + 1]) - (low0 * S[n + low] + low1 * S[n + low + 1]).
struct Span {
  int64_t low, high;  // the pixels that the edges of output 0 lie in
  double low0, low1, high0, high1;
  double inverse;    // of the length: 1 where not normalised, 0 for length 0
  bool whole_pixel;  // one pixel from border to border
  bool nan;

  Span() = default;
  Span(double low_edge, double high_edge, int64_t size, bool normalize) {
    const double length = low_edge == high_edge ? 0.0 : high_edge - low_edge;
    inverse = 0;
    whole_pixel = false;
    nan = length != length;
    if (nan) return;
    inverse = !normalize ? 1.0 : length == 0 ? 0.0 : 1.0 / length;
    // Beyond these bounds no output can see a pixel border, and a conversion to int64 could overflow.
    const double limit = double(size) + 1;
    const double low_at = min(max(low_edge + 0.5, -limit), limit), high_at = min(max(high_edge + 0.5, -limit), limit);
    const double low_floor = floor(low_at), high_floor = floor(high_at);
    low = int64_t(low_floor);
    high = int64_t(high_floor);
    const double low_part = low_at - low_floor, high_part = high_at - high_floor;
    whole_pixel = length == 1 && high == low + 1 && low_part == 0 && high_part == 0;
    low0 = 1 - low_part, low1 = low_part;
    high0 = 1 - high_part, high1 = high_part;
    // A thin box is a sum of parts of one or two pixels. Spelt so, it keeps its digits however thin it is.
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

// An axis of a box, for rows (or columns) of running sums. From differences alone, not from the sums themselves: where there
// is nothing between the edges, the result is 0 to the last bit.
struct Weights {
  double here, next, rise;

  Weights(const Span& span, double factor)
      : here(span.low0 * factor), next(span.low1 * factor), rise((span.high1 - span.low1) * factor) {}

  // ``between``: the sums at the high less those at the low edge, and the same one row further; ``ahead``: how much the sums
  // at the high edge grow from the one to the other. V is a number or a vector of them.
  template <typename V>
  inline V of(V between, V next_between, V ahead) const {
    return here * between + next * next_between + rise * ahead;
  }
};
