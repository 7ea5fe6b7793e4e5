"""The Triton kernel of the forward pass: programs walk down output rows, each warp along the rows of one box.

With spans as in spans.py, S the sum of the rows n + top <= p < n + bottom of each column q, and n = i * stride, the
part of column q within the rows of a box at output row i is

    r[q] = S[q] + bottom_part * x[n + bottom, q] - top_part * x[n + top, q].

One row down, S gains x[n + bottom] and loses x[n + top], whose values are the same as when they were gained: only
float64's rounding accumulates. Each column of x is read twice for each output, in order; rows.py makes an output of r.
"""

import triton
import triton.language as tl

from .rows import (
    BORDERS,
    E,
    by_groups,
    columns,
    index,
    load_pairs,
    load_row,
    multiple,
    place,
    plane_offset,
    spread,
    store_as,
    sum_rows,
)
from .spans import load_box


@triton.jit
def walk_row(
    p_plane, p_slot, sums, carry, n, rows_of_box, whole, h_top, h_bottom, w, stride, row_stride, q, last,
    DENSE: tl.constexpr, LONG: tl.constexpr, STEP: tl.constexpr, PITCH: tl.constexpr,
    N: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """One output row of each box into scratch, and the column sums of the next row."""
    top, bottom, top_part, bottom_part, whole_rows = rows_of_box
    entering = load_row(p_plane, n + bottom, h_bottom, row_stride, q, w, STEP).to(tl.float64)
    leaving = load_row(p_plane, n + top, h_top, row_stride, q, w, STEP).to(tl.float64)
    row = sums + bottom_part * entering - top_part * leaving
    carry = spread(p_slot, row, carry, whole, q, last, PITCH, LONG, N, C, K)
    sums += tl.where(whole_rows != 0, entering - leaving, 0.0)
    if not DENSE:
        for s in range(1, stride):
            entering = load_row(p_plane, n + s + bottom, h_bottom, row_stride, q, w, STEP).to(tl.float64)
            leaving = load_row(p_plane, n + s + top, h_top, row_stride, q, w, STEP).to(tl.float64)
            sums += tl.where(whole_rows != 0, entering - leaving, 0.0)
    return sums, carry


@triton.jit
def load_edge_columns(
    p_slot, n, fifth, edge, part, whole, w, PITCH: tl.constexpr,
    DENSE: tl.constexpr, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """For outputs at columns ``n``, what makes up the sum left of an edge: of column n + edge, and of the next."""
    size = tl.where((whole != 0) | (part != 0), w, 0)  # what has no weight is not read: it may be a NaN
    at, after = load_pairs(p_slot, n + edge, fifth + edge, size, PITCH, DENSE, N, C, K)
    return tl.where(whole != 0, 1 - part, part) * at, part * after


@triton.jit
def write_row(p_output, p_residual, at, value, shift, inside, RELU: tl.constexpr, STEP: tl.constexpr):
    """relu(residual + value + shift), of which all but the value may be absent."""
    if shift is not None:
        value += shift
    if p_residual is not None:
        value += tl.load(by_groups(p_residual, at, STEP), mask=inside, other=0.0).to(tl.float64)
    if RELU:
        value = tl.where(value < 0, 0.0, value)  # NaN stays
    store_as(by_groups(p_output, at, STEP), value, inside)


_SIZES = ["items", "channels", "per_channel", "h", "w", "h_out", "w_out", "stride", "together", "strips", "strip"]
_STRIDES = ["batch_stride", "channel_stride", "row_stride"]


@triton.jit(do_not_specialize=[*_SIZES, *_STRIDES])
def box_rows(
    p_image, p_boxes, p_output, p_scale, p_shift, p_residual, p_scratch,
    items, channels, per_channel, h, w, h_out, w_out, stride, together, strips, strip,
    batch_stride, channel_stride, row_stride,
    NORMALIZE: tl.constexpr, DENSE: tl.constexpr, RELU: tl.constexpr, WIDE: tl.constexpr, LONG: tl.constexpr,
    STEP: tl.constexpr, STEP_OUT: tl.constexpr, ROWS: tl.constexpr, PITCH: tl.constexpr,
    N: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """An item is C boxes of one of ``together`` groups, in a plane, and a strip of ``strip`` of its output rows.

    Rows are walked down ROWS at a time. Where they are LONG, a tile is a part of them, and S stays in scratch, too.
    """
    RUNNING: tl.constexpr = E * PITCH + BORDERS  # the place of S
    SLOT: tl.constexpr = RUNNING + (E * PITCH if LONG else 0)
    NEXT: tl.constexpr = C * SLOT  # the next row's
    WIDTH: tl.constexpr = N * K * E
    first, q = columns(N, K)
    c = tl.arange(0, C)[None, :, None, None]
    row_stride = index(row_stride, WIDE)
    p_slots = p_scratch + tl.program_id(0).to(tl.int64) * ROWS * NEXT + c.to(tl.int64) * SLOT
    for r in tl.static_range(ROWS):
        tl.store(p_slots + (r * NEXT + E * PITCH), tl.zeros([1, C, 1, 1], tl.float64))
    for item in range(tl.program_id(0).to(tl.int64), items.to(tl.int64), tl.num_programs(0)):
        plane = item // strips // together
        begin = (item % strips).to(tl.int32) * strip
        end = tl.minimum(begin + strip, h_out)
        m = (item // strips % together).to(tl.int32) * C + c
        box = (plane % channels) * per_channel + m
        wanted = m < per_channel
        real = wanted
        shift = None if p_shift is None else tl.load(p_shift + box, mask=real, other=0.0).to(tl.float64)
        scale = 1.0 if p_scale is None else tl.load(p_scale + box, mask=real, other=0.0).to(tl.float64)
        if p_scale is not None:
            wanted &= scale != 0  # nothing is read for the others
        (
            top, bottom, top_part, bottom_part, whole_rows, inverse_rows,
            left, right, left_part, right_part, whole, inverse,
        ) = load_box(p_boxes + box * 4, wanted, h, w, NORMALIZE)  # fmt: skip
        weight = inverse_rows * inverse * scale
        # What has no weight is not read: it may be a NaN.
        h_bottom = tl.where((whole_rows != 0) | (bottom_part != 0), h, 0)
        h_top = tl.where((whole_rows != 0) | (top_part != 0), h, 0)
        rows_of_box = top, bottom, top_part, bottom_part, whole_rows
        p_plane = p_image + plane_offset(plane, channels, batch_stride, channel_stride, STEP)
        low = tl.minimum(tl.maximum(begin * stride + top, 0), h)
        high = tl.where(whole_rows != 0, tl.minimum(tl.maximum(begin * stride + bottom, 0), h), low)
        first_out = (plane * per_channel + m) * multiple(h_out.to(tl.int64) * w_out, STEP_OUT)
        sums = tl.zeros([N, C, K, E], tl.float64)
        for tile in range(0, w if LONG else WIDTH, WIDTH):
            sums = sum_rows(p_plane, low, high, row_stride, tile + q, w, STEP, N, C, K)
            if LONG:
                tl.store(by_groups(p_slots, place(tile + q, PITCH) + RUNNING), sums)
        for start in range(begin, end, ROWS):
            for r in tl.static_range(ROWS):
                if LONG:
                    tl.debug_barrier()  # S may be read by other threads than wrote it
                carry = tl.zeros([C], tl.float64)
                for tile in range(0, w if LONG else WIDTH, WIDTH):
                    if LONG:
                        sums = tl.load(by_groups(p_slots, place(tile + q, PITCH) + RUNNING))
                    sums, carry = walk_row(
                        p_plane, p_slots + r * NEXT, sums, carry, (start + r) * stride, rows_of_box, whole,
                        h_top, h_bottom, w, stride, row_stride, tile + q, tile + (WIDTH - 1),
                        DENSE, LONG, STEP, PITCH, N, C, K,
                    )  # fmt: skip
                    if LONG:
                        tl.store(by_groups(p_slots, place(tile + q, PITCH) + RUNNING), sums)
            tl.debug_barrier()
            for r in tl.static_range(ROWS):
                i = start + r
                p_slot = p_slots + r * NEXT
                at_row = first_out + multiple(i.to(row_stride.dtype) * w_out, STEP_OUT)
                for tile in range(0, w_out if LONG else WIDTH, WIDTH):
                    n = (tile + q) * stride
                    fifth = (tile + first + E) * stride
                    plus, plus_after = load_edge_columns(
                        p_slot, n, fifth, right, right_part, whole, w, PITCH, DENSE, N, C, K
                    )
                    minus, minus_after = load_edge_columns(
                        p_slot, n, fifth, left, left_part, whole, w, PITCH, DENSE, N, C, K
                    )
                    value = plus - minus + tl.where(whole != 0, plus_after - minus_after, 0.0)
                    inside = real & (i < end) & (tile + q < multiple(w_out, STEP_OUT))
                    write_row(p_output, p_residual, at_row + (tile + q), value * weight, shift, inside, RELU, STEP_OUT)
            tl.debug_barrier()
