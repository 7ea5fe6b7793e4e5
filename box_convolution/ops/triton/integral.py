"""What the Triton kernels of both directions share: a box's spans, and a plane's integral image, built and read.

The integral image P[k][q] = sum of the plane above row k and left of column q stands in scratch memory, in float64: a
float32 running sum of a large plane has lost the digits of a small box, and fixed point those of all pixels beside one
huge one. With float64 an error is some 2^-53 of the sum of all |pixels|: for n pixels, n * 2^-53 of their root mean
square, whatever their range. Parts of pixels are read from the plane itself, so a box within a pixel is exact.

Names: ``p_`` a pointer, ``h`` and ``w`` a plane's size, ``p`` and ``q`` rows and columns of the input, ``i`` and ``j``
those of the output.
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
def load_box(p_box, h, w, NORMALIZE: tl.constexpr):
    """The spans of a box: of its rows (six numbers), then of its columns."""
    top, bottom, top_part, bottom_part, whole_rows, inverse_rows = span(
        tl.load(p_box).to(tl.float64), tl.load(p_box + 1).to(tl.float64), h, NORMALIZE
    )
    left, right, left_part, right_part, whole, inverse = span(
        tl.load(p_box + 2).to(tl.float64), tl.load(p_box + 3).to(tl.float64), w, NORMALIZE
    )
    return (
        top, bottom, top_part, bottom_part, whole_rows, inverse_rows,
        left, right, left_part, right_part, whole, inverse,
    )  # fmt: skip


@triton.jit
def across(p_plus, p_minus, k, h, pitch):
    """Sum of the rows above ``k``, clamped to 0..``h``, between the columns ``p_plus`` and ``p_minus`` of row 0.

    No mask: what is not wanted is read where an integral image is 0, in column 0 or, with ``h`` 0, in row 0.
    """
    row = clamped(k, h) * pitch
    return tl.load(p_plus + row) - tl.load(p_minus + row)


@triton.jit
def pixels(p_column, p, h, row_stride):
    """Row ``p`` of a column of ``h`` pixels, zero outside; ``h`` is 0 where nothing is wanted."""
    inside = p.to(tl.uint32) < h.to(tl.uint32)
    return tl.load(p_column + p * row_stride, mask=inside, other=0.0).to(tl.float64)


@triton.jit
def clamped(n, size):
    return tl.minimum(tl.maximum(n, 0), size)


@triton.jit
def store_as(pointer, value, mask):
    """Float64 to the pointer's dtype; to half precision by way of float32, as the C++ kernels do."""
    dtype: tl.constexpr = pointer.dtype.element_ty
    if dtype == tl.float16 or dtype == tl.bfloat16:
        value = value.to(tl.float32)
    tl.store(pointer, value.to(dtype), mask=mask, eviction_policy="evict_first")


@triton.jit
def multiple(number, STEP: tl.constexpr):
    """``number``, which is a multiple of STEP, in a way that tells the compiler: so it reads 16 bytes at a time."""
    return (number // STEP).to(tl.int64) * STEP


@triton.jit
def plane_offset(plane, channels, batch_stride, channel_stride, STEP: tl.constexpr):
    return (plane // channels) * multiple(batch_stride, STEP) + (plane % channels) * multiple(channel_stride, STEP)


@triton.jit
def index(number, WIDE: tl.constexpr):
    """A distance in memory: 32 bits, half the price, where a plane and its integral image allow it."""
    if WIDE:
        return number.to(tl.int64)
    else:
        return number.to(tl.int32)


@triton.jit
def build_integral_image(
    p_integral, p_sums, bands_above, p_plane, begin, end, h, w, row_stride, pitch,
    STEP: tl.constexpr, G: tl.constexpr, K: tl.constexpr, E: tl.constexpr,
):  # fmt: skip
    """Rows begin+1..end of the integral image; ``p_sums`` (bands_above, w) add up to all columns above row ``begin``.

    G chunks of rows are walked down side by side, K groups of E neighbouring pixels at a time: first to sum up columns,
    so that each chunk knows what is above it, and again to write columns summed along the row. Sums within a group stay
    in a thread, and those of groups go through a scan. Column q of a row lies at place q + 1, so that pixels' sums are
    aligned. ``row_stride`` and ``pitch`` are int64.
    """
    width = multiple(w, STEP)
    rows = (end - begin + G - 1) // G
    first = begin + tl.arange(0, G) * rows
    last = tl.minimum(first + rows, end)
    for c in range(0, w, K * E):
        q = c + (tl.arange(0, K) * E)[None, :, None] + tl.arange(0, E)[None, None, :]
        p_column = p_plane + q
        columns = tl.zeros([G, K, E], tl.float64)
        for s in range(0, rows):
            p = (first + s)[:, None, None]
            inside = (p < last[:, None, None]) & (q < width)
            columns += tl.load(p_column + p * row_stride, mask=inside, other=0.0).to(tl.float64)
        columns = tl.cumsum(columns, 0) - columns
        for above in range(0, bands_above):
            columns += tl.load(p_sums + above * w + q, mask=q < width, other=0.0)
        for s in range(0, rows):
            p = (first + s)[:, None, None]
            inside = (p < last[:, None, None]) & (q < width)
            columns += tl.load(p_column + p * row_stride, mask=inside, other=0.0).to(tl.float64)
            groups = tl.sum(columns, 2)
            p_row = p_integral + (p + 1) * pitch
            # What is left of the block: the last sum before it, or the zero that a row begins with.
            left = tl.load(p_row + c + 1, mask=(p < last[:, None, None]) & (c > 0), other=0.0)
            sums = tl.cumsum(columns, 2) + ((tl.cumsum(groups, 1) - groups)[:, :, None] + left)
            tl.store(p_row + (q + 2), sums, mask=inside)
        tl.debug_barrier()


@triton.jit
def clear_borders(p_integral, begin, end, w, pitch, BLOCK: tl.constexpr):
    """Nothing is left of column 0, or, in row 0, above. Rows begin..end-1."""
    for r in range(begin, end, BLOCK):
        k = r + tl.arange(0, BLOCK)
        tl.store(p_integral + k * pitch + 1, tl.zeros([BLOCK], tl.float64), mask=k < end)
    for c in range(0, tl.where(begin == 0, w, 0), BLOCK):
        q = c + tl.arange(0, BLOCK)
        tl.store(p_integral + q + 2, tl.zeros([BLOCK], tl.float64), mask=q < w)


_STRIDES = ["batch_stride", "channel_stride", "row_stride"]


@triton.jit(do_not_specialize=["first_plane", "channels", "h", "w", "bands", "band", *_STRIDES])
def sum_bands(
    p_image, p_sums, first_plane, channels, h, w, bands, band, batch_stride, channel_stride, row_stride,
    STEP: tl.constexpr, R: tl.constexpr, CW: tl.constexpr,
):  # fmt: skip
    """Column sums of every band of ``band`` rows of planes from ``first_plane`` on: (planes, bands, w)."""
    item = tl.program_id(0).to(tl.int64)
    begin = (item % bands).to(tl.int32) * band
    end = tl.minimum(begin + band, h)
    p_plane = p_image + plane_offset(first_plane + item // bands, channels, batch_stride, channel_stride, STEP)
    for c in range(0, w, CW):
        q = c + tl.arange(0, CW)
        sums = tl.zeros([R, CW], tl.float64)
        for r in range(begin, end, R):
            p = r + tl.arange(0, R)
            inside = (p < end)[:, None] & (q < multiple(w, STEP))[None, :]
            at = p[:, None] * multiple(row_stride, STEP) + q[None, :]
            sums += tl.load(p_plane + at, mask=inside, other=0.0).to(tl.float64)
        tl.store(p_sums + item * w + q, tl.sum(sums, 0), mask=q < w)


@triton.jit(do_not_specialize=["first_plane", "channels", "h", "w", "sixteenths", "bands", "band", *_STRIDES])
def build_bands(
    p_image, p_sums, p_integrals, first_plane, channels, h, w, sixteenths, bands, band,
    batch_stride, channel_stride, row_stride, STEP: tl.constexpr, G: tl.constexpr, K: tl.constexpr, E: tl.constexpr,
):  # fmt: skip
    """Integral images (planes, h + 1, pitch) of planes from ``first_plane`` on, one band of rows to a program, from the
    bands' column sums of `sum_bands`."""
    pitch = sixteenths.to(tl.int64) * 16
    item = tl.program_id(0).to(tl.int64)
    local = item // bands
    number = (item % bands).to(tl.int32)
    begin = number * band
    end = tl.minimum(begin + band, h)
    p_integral = p_integrals + local * (h + 1) * pitch
    p_plane = p_image + plane_offset(first_plane + local, channels, batch_stride, channel_stride, STEP)
    clear_borders(p_integral, begin + tl.where(number > 0, 1, 0), end + 1, w, pitch, G * K)
    build_integral_image(
        p_integral, p_sums + local * bands * w, number, p_plane, begin, end, h, w,
        multiple(row_stride, STEP), pitch, STEP, G, K, E,
    )  # fmt: skip
