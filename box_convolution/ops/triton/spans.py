"""The coordinates of a box, for the Triton kernels: which whole pixels and which parts of pixels it covers.

Names: ``p_`` a pointer, ``h`` and ``w`` a plane's size, ``p`` and ``q`` rows and columns of the input, ``i`` and ``j``
those of the output.
"""

import triton
import triton.language as tl


@triton.jit
def span(low_edge, high_edge, size, NORMALIZE: tl.constexpr):
    """One axis of a box: edges (float64) -> low, high, low_part, high_part, whole, inverse.

    With n the position of an output and S[k] the sum of the first k of ``size`` pixels x (zero outside), the integral
    from edge to edge is  whole * (S[n + high] - S[n + low]) + high_part * x[n + high] - low_part * x[n + low];
    ``inverse`` of the length is 1 where not normalised, 0 for length 0 and NaN for an edge that is NaN, as is
    ``high_part`` then: every output, even one that sees no pixel, is made from it.
    """
    length = tl.where(low_edge == high_edge, 0.0, high_edge - low_edge)
    nan = length != length
    # Beyond this no output can see a pixel border, and a conversion to an integer could overflow.
    limit = (size + 1).to(tl.float64)
    low_at = tl.where(nan, 0.0, low_edge) + 0.5
    high_at = tl.where(nan, 0.0, high_edge) + 0.5
    low_near = tl.minimum(tl.maximum(low_at, -limit), limit)
    high_near = tl.minimum(tl.maximum(high_at, -limit), limit)
    low_floor = tl.floor(low_near)
    high_floor = tl.floor(high_near)
    low = low_floor.to(tl.int32)
    high = high_floor.to(tl.int32)
    low_part = low_near - low_floor
    high_part = high_near - high_floor
    # A thin box is a sum of parts of one or two pixels. Spelt so, it keeps its digits however thin it is.
    distance = high - low
    clamped = (low_near != low_at) | (high_near != high_at)
    whole = tl.where((distance < -1) | (distance > 1), 1.0, 0.0)
    in_one = tl.where(clamped, high_part - low_part, length)
    high_part = tl.where(distance == 0, in_one, tl.where(distance == -1, high_part - 1, high_part))
    low_part = tl.where(distance == 0, 0.0, tl.where(distance == 1, low_part - 1, low_part))
    if NORMALIZE:
        empty = length == 0
        inverse = tl.where(empty, 0.0, 1.0 / tl.where(empty, 1.0, length))
    else:
        inverse = tl.where(nan, length, 1.0)
    return low, high, low_part, high_part, whole, inverse


@triton.jit
def load_box(p_box, wanted, h, w, NORMALIZE: tl.constexpr):
    """The spans of boxes: of their rows (six numbers), then of their columns. One not ``wanted`` has no extent."""
    top, bottom, top_part, bottom_part, whole_rows, inverse_rows = span(
        load_edge(p_box, wanted), load_edge(p_box + 1, wanted), h, NORMALIZE
    )
    left, right, left_part, right_part, whole, inverse = span(
        load_edge(p_box + 2, wanted), load_edge(p_box + 3, wanted), w, NORMALIZE
    )
    return (
        top, bottom, top_part, bottom_part, whole_rows, inverse_rows,
        left, right, left_part, right_part, whole, inverse,
    )  # fmt: skip


@triton.jit
def load_edge(p_edge, wanted):
    return tl.load(p_edge, mask=wanted, other=0.0).to(tl.float64)
