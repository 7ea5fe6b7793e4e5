"""What the Triton kernels of both directions share: rows of pixels, read, summed up along the row, and left in scratch.

A box filter is separable. Down the rows, a running sum of each column gains the row that enters the box and loses the
one that leaves it. Along a row of those sums r, with P[q] the sum of all r left of column q, what lies left of an edge
within column n is  (1 - part) * P[n] + part * P[n + 1].  So a row needs one prefix sum, in registers, and one number of
scratch memory a column, read a shift away. What is written there goes on to the second-level cache: hence only one.
Short rows are read a shift away in another memory: shifts.py.

Everything is summed in float64: a float32 sum of a large plane has lost the digits of a small box, and fixed point
those of all pixels beside one huge one. An error is then some 2^-53 of what was summed, whatever its range. A thin box
(``whole`` 0) has parts of one or two pixels only, and takes them from r itself: so a box within a pixel is exact.

A row is a tile [N, C, K, E]: E neighbouring columns to a thread, K such groups side by side, N (1 or 2) pieces of a row
one after the other, and C rows at a time, of one box each. In scratch, columns with the same remainder modulo E are
neighbours: so threads side by side read places side by side, however far the row is shifted.
"""

import triton
import triton.language as tl

E = tl.constexpr(4)
AT_ONCE = tl.constexpr(16)  # rows that are read at a time as a strip starts
BORDERS = tl.constexpr(16)  # places of scratch after the columns: the first two for what is left and right of them


@triton.jit
def columns(N: tl.constexpr, K: tl.constexpr):
    """The first column of each group, and all of them."""
    n = tl.arange(0, N)[:, None, None, None]
    k = tl.arange(0, K)[None, None, :, None]
    first = (n * K + k) * E
    return first, first + tl.arange(0, E)[None, None, None, :]


@triton.jit
def multiple(number, STEP: tl.constexpr):
    """``number``, which is a multiple of STEP, in a way that tells the compiler: so it reads 16 bytes at a time."""
    return number // STEP * STEP


@triton.jit
def index(number, WIDE: tl.constexpr):
    """A distance in memory: 32 bits, half the price, where a plane allows it."""
    if WIDE:
        return number.to(tl.int64)
    else:
        return number.to(tl.int32)


@triton.jit
def plane_offset(plane, channels, batch_stride, channel_stride, STEP: tl.constexpr):
    batch_stride = multiple(batch_stride.to(tl.int64), STEP)
    return (plane // channels) * batch_stride + (plane % channels) * multiple(channel_stride.to(tl.int64), STEP)


@triton.jit
def by_groups(pointer, offset, STEP: tl.constexpr = 1):
    """Pointers, and hints that give each thread a group of E columns, also where these are not read together (STEP 1),
    and threads side by side groups side by side. The numbers say only which axis comes before which.
    """
    if STEP == 1:
        return tl.max_contiguous(tl.multiple_of(pointer + offset, [1, 1, 1, 1]), [2, 4, 8, 1])
    else:
        return tl.max_contiguous(pointer + offset, [2, 4, 8, 16])


@triton.jit
def load_row(p_plane, p, h, row_stride, q, w, STEP: tl.constexpr):
    """Columns ``q`` of row ``p``, zero outside of ``h`` rows and ``w`` columns."""
    inside = (p.to(tl.uint32) < h.to(tl.uint32)) & (q < multiple(w, STEP))
    offset = p.to(row_stride.dtype) * multiple(row_stride, STEP) + q
    return tl.load(by_groups(p_plane, offset, STEP), mask=inside, other=0.0)


@triton.jit
def sum_rows(
    p_plane, low, high, row_stride, q, w, STEP: tl.constexpr, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr
):
    """Sums of each column over rows low..high-1, or minus those over high..low-1."""
    first = tl.minimum(low, high)
    last = tl.maximum(low, high)
    sums = tl.zeros([N, C, K, E], tl.float64)
    for s in range(0, tl.max(last - first), AT_ONCE):
        rows = ()
        for r in tl.static_range(AT_ONCE):
            rows += (load_row(p_plane, first + s + r, last, row_stride, q, w, STEP),)
        for r in tl.static_range(AT_ONCE):
            sums += rows[r].to(tl.float64)
    return tl.where(low > high, -sums, sums)


@triton.jit
def sum_along(row, carry, LONG: tl.constexpr, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr):
    """Of each column, the sum of all columns before it; and the sum of all. ``carry`` is that of earlier tiles."""
    even, odd = tl.split(tl.reshape(row, [N, C, K, 2, 2]))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    two = first + second
    three = two + third
    groups = three + fourth
    before = tl.cumsum(groups, 2) - groups
    if N > 1:  # 2
        left, _ = tl.split(tl.permute(groups, [1, 2, 0]))
        of_left = tl.sum(left, 1)
        before += tl.permute(tl.join(of_left * 0, of_left), [1, 0])[:, :, None]
    if LONG:
        before += carry[None, :, None]
        carry += tl.sum(tl.sum(groups, 2), 0)
    pairs = tl.join(tl.join(before, before + two), tl.join(before + first, before + three))
    return tl.reshape(pairs, [N, C, K, E]), carry


@triton.jit
def place(n, pitch):
    """Where scratch has column ``n``, counted from the first column."""
    return (n % E) * pitch + n // E


@triton.jit
def place_or_border(n, size, pitch):
    """Where to read column ``n``, or what is left or right of ``size`` columns."""
    inside = n.to(tl.uint32) < size.to(tl.uint32)
    at = place(tl.where(inside, n, 0), pitch)
    return tl.where(inside, at, E * pitch + tl.where(n < 0, 0, 1))


@triton.jit
def load_pairs(
    p_slot, n, fifth, size, pitch, TOGETHER: tl.constexpr, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr
):
    """Columns ``n`` and n + 1. Where a thread's are TOGETHER, it reads a ``fifth`` beside its four."""
    at = tl.load(by_groups(p_slot, place_or_border(n, size, pitch)))
    if TOGETHER:
        at = tl.broadcast_to(at, [N, C, K, E])
        even, odd = tl.split(tl.reshape(at, [N, C, K, 2, 2]))
        _, third = tl.split(even)
        second, fourth = tl.split(odd)
        last = tl.load(by_groups(p_slot, place_or_border(fifth, size, pitch)))
        last = tl.reshape(tl.broadcast_to(last, [N, C, K, 1]), [N, C, K])
        after = tl.reshape(tl.join(tl.join(second, fourth), tl.join(third, last)), [N, C, K, E])
    else:
        after = tl.load(by_groups(p_slot, place_or_border(n + 1, size, pitch)))
    return at, after


@triton.jit
def store_as(pointer, value, mask):
    """Float64 to the pointer's dtype; to half precision by way of float32, as the C++ kernels do."""
    dtype: tl.constexpr = pointer.dtype.element_ty
    if dtype == tl.float16 or dtype == tl.bfloat16:
        value = value.to(tl.float32)
    tl.store(pointer, value.to(dtype), mask=mask, eviction_policy="evict_first")


@triton.jit
def spread(
    p_slot, row, carry, whole, q, last, pitch,
    LONG: tl.constexpr, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Leave the sums along a row of column sums in scratch; or, for a thin box, the row itself."""
    sums, carry = sum_along(row, carry, LONG, N, C, K)
    at = place(q, pitch)
    tl.store(by_groups(p_slot, at), tl.where(whole != 0, sums, row))
    right_of_all = E * pitch + 1
    total = tl.where(whole != 0, sums + row, 0.0)
    tl.store(by_groups(p_slot, at + (right_of_all - place(last, pitch))), total, mask=q == last)
    return carry
