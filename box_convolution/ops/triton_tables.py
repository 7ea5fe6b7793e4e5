"""What the Triton kernels share: the two spans of a box, and running sums of planes.

Everything is summed in float64, as in the C++ kernels (cpu/table.inl, where the reasons are told): a float32 running
sum of a large plane has lost the digits of a small box. Names: ``p_`` a pointer, ``h`` and ``w`` a plane's size, ``p``
and ``q`` rows and columns of the input, ``i`` and ``j`` those of the output; a tile is (rows R, columns CW).
"""

import triton
import triton.language as tl


@triton.jit
def span(low_edge, high_edge, size, NORMALIZE: tl.constexpr):
    """One axis of a box: edges (float64) -> low, high, low_part, high_part, whole, inverse.

    With n the position of an output and S the running sums of an image of ``size`` pixels x (zero outside), the
    integral from edge to edge is  whole * (S[n + high] - S[n + low]) + high_part * x[n + high] - low_part * x[n + low];
    ``inverse`` of the length is 1 where not normalised, 0 for length 0 and NaN for an edge that is NaN.
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
def load_tile(p_plane, p, q, h, w, row_stride):
    """Pixels of rows ``p`` and columns ``q`` as float64 (R, CW), zero outside the plane. ``row_stride`` is int64."""
    inside = ((p >= 0) & (p < h))[:, None] & ((q >= 0) & (q < w))[None, :]
    return tl.load(p_plane + (p[:, None] * row_stride + q[None, :]), mask=inside, other=0.0).to(tl.float64)


@triton.jit
def store_as(pointer, value, mask):
    """Float64 to the pointer's dtype; to half precision by way of float32, as the C++ kernels do."""
    dtype: tl.constexpr = pointer.dtype.element_ty
    if dtype == tl.float16 or dtype == tl.bfloat16:
        value = value.to(tl.float32)
    tl.store(pointer, value.to(dtype), mask=mask)


@triton.jit
def plane_offset(plane, channels, batch_stride, channel_stride):
    return (plane // channels) * batch_stride.to(tl.int64) + (plane % channels) * channel_stride.to(tl.int64)


@triton.jit
def sum_columns(p_sums, p_plane, begin, end, w, row_stride, R: tl.constexpr, CW: tl.constexpr):
    """Sums over rows begin..end-1 of every column into ``p_sums`` (w); returns the sum of all."""
    total = tl.zeros([1], tl.float64)
    for c in range(0, w, CW):
        q = c + tl.arange(0, CW)
        sums = tl.zeros([R, CW], tl.float64)
        for r in range(begin, end, R):
            sums += load_tile(p_plane, r + tl.arange(0, R), q, end, w, row_stride)
        columns = tl.sum(sums, 0)
        tl.store(p_sums + q, columns, mask=q < w)
        total += tl.sum(columns, 0)
    return total


@triton.jit
def build_table(p_table, p_above, p_plane, begin, end, w, row_stride, pitch, R: tl.constexpr, CW: tl.constexpr):
    """Rows begin+1..end of the table P[p][q] = sum of the plane above row p and left of column q.

    ``p_above`` holds row ``begin``. Column q of a table's row lies at place q + 1, so that pixels' sums are aligned.
    ``row_stride`` and ``pitch`` are int64.
    """
    above = p_above
    for r in range(begin, end, R):
        p = r + tl.arange(0, R)
        left = tl.zeros([R], tl.float64)
        p_row = p_table + (p + 1) * pitch
        tl.store(p_row + 1, left, mask=p < end)
        for c in range(0, w, CW):
            q = c + tl.arange(0, CW)
            x = load_tile(p_plane, p, q, end, w, row_stride)
            sums = tl.cumsum(tl.cumsum(x, 1) + left[:, None], 0)
            sums += tl.load(above + q + 2, mask=q < w, other=0.0)[None, :]
            left += tl.sum(x, 1)
            tl.store(p_row[:, None] + (q + 2)[None, :], sums, mask=(p < end)[:, None] & (q < w)[None, :])
        # The next rows add the last of these, which other threads have written.
        tl.debug_barrier()
        above = p_table + (r + R) * pitch


@triton.jit
def fill_row(p_row, w, value, CW: tl.constexpr):
    for c in range(0, w, CW):
        q = c + tl.arange(0, CW)
        tl.store(p_row + q, tl.full([CW], value, tl.float64), mask=q < w)


@triton.jit(do_not_specialize=["channels", "h", "w", "bands", "band", "batch_stride", "channel_stride", "row_stride"])
def sum_bands(
    p_input, p_sums, channels, h, w, bands, band, batch_stride, channel_stride, row_stride,
    R: tl.constexpr, CW: tl.constexpr,
):  # fmt: skip
    """Column sums of every band of ``band`` rows of every plane: (planes, bands, w)."""
    item = tl.program_id(0).to(tl.int64)
    plane = item // bands
    begin = (item % bands).to(tl.int32) * band
    p_plane = p_input + plane_offset(plane, channels, batch_stride, channel_stride)
    sum_columns(p_sums + item * w, p_plane, begin, tl.minimum(begin + band, h), w, row_stride.to(tl.int64), R, CW)
