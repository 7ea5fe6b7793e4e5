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
def enter_row(
    p_plane, sums, i, end, rows_of_box, h_top, h_bottom, w, stride, row_stride, q,
    DENSE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """r of output row ``i``, and S of the next one, if that comes before ``end``."""
    n = i * stride
    top, bottom, top_part, bottom_part, whole_rows = rows_of_box
    entering = load_row(p_plane, n + bottom, h_bottom, row_stride, q, w, STEP).to(tl.float64)
    leaving = load_row(p_plane, n + top, h_top, row_stride, q, w, STEP).to(tl.float64)
    row = sums + bottom_part * entering - top_part * leaving
    sums += tl.where(whole_rows != 0, entering - leaving, 0.0)
    if not DENSE:
        for s in range(1, tl.minimum(stride, 1 + tl.maximum(end - 1 - i, 0) * stride)):
            entering = load_row(p_plane, n + s + bottom, h_bottom, row_stride, q, w, STEP).to(tl.float64)
            leaving = load_row(p_plane, n + s + top, h_top, row_stride, q, w, STEP).to(tl.float64)
            sums += tl.where(whole_rows != 0, entering - leaving, 0.0)
    return row, sums


@triton.jit
def enter_rows(
    p_plane, sums, start, end, rows_of_box, h_top, h_bottom, w, stride, row_stride, q,
    DENSE: tl.constexpr, STEP: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The same of ROWS output rows, before anything is written: what is read is then on its way at the same time."""
    rows = ()
    for r in tl.static_range(ROWS):
        row, sums = enter_row(
            p_plane, sums, start + r, end, rows_of_box, h_top, h_bottom, w, stride, row_stride, q, DENSE, STEP
        )
        rows += (row,)
    return rows, sums


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
def between_edges(
    p_slot, q, fifth, columns_of_box, w, stride, PITCH: tl.constexpr,
    DENSE: tl.constexpr, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """For outputs at ``q``, what lies between their left and right edges."""
    left, right, left_part, right_part, whole = columns_of_box
    n = q * stride
    plus, plus_after = load_edge_columns(p_slot, n, fifth * stride, right, right_part, whole, w, PITCH, DENSE, N, C, K)
    minus, minus_after = load_edge_columns(p_slot, n, fifth * stride, left, left_part, whole, w, PITCH, DENSE, N, C, K)
    return plus - minus + tl.where(whole != 0, plus_after - minus_after, 0.0)


@triton.jit
def load_residual(p_residual, at, inside, STEP: tl.constexpr):
    """Best read long before the row is written: that hides how long memory takes."""
    return tl.load(by_groups(p_residual, at, STEP), mask=inside, other=0.0)


@triton.jit
def write_row(p_output, at, value, shift, residual, inside, RELU: tl.constexpr, STEP: tl.constexpr):
    """relu(residual + value + shift), of which all but the value may be absent."""
    if shift is not None:
        value += shift
    if residual is not None:
        value += residual.to(tl.float64)
    if RELU:
        value = tl.where(value < 0, 0.0, value)  # NaN stays
    store_as(by_groups(p_output, at, STEP), value, inside)


@triton.jit
def load_item(
    item, p_boxes, p_scale, per_channel, channels, h, w, h_out, stride, together, strips, strip,
    NORMALIZE: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """A plane, its output rows from begin to end, and for C of its boxes: numbers, whether there are such, weights;
    spans of rows; the heights of the image where what enters and what leaves is read; the rows in S at first; columns.
    """
    plane = item // strips // together
    begin = (item % strips).to(tl.int32) * strip
    m = (item // strips % together).to(tl.int32) * C + tl.arange(0, C)[None, :, None, None]
    box = (plane % channels) * per_channel + m
    real = m < per_channel
    wanted = real
    scale = 1.0 if p_scale is None else tl.load(p_scale + box, mask=real, other=0.0).to(tl.float64)
    if p_scale is not None:
        wanted &= scale != 0  # nothing is read for the others
    (
        top, bottom, top_part, bottom_part, whole_rows, inverse_rows,
        left, right, left_part, right_part, whole, inverse,
    ) = load_box(p_boxes + box * 4, wanted, h, w, NORMALIZE)  # fmt: skip
    # What has no weight is not read: it may be a NaN.
    h_bottom = tl.where((whole_rows != 0) | (bottom_part != 0), h, 0)
    h_top = tl.where((whole_rows != 0) | (top_part != 0), h, 0)
    low = tl.minimum(tl.maximum(begin * stride + top, 0), h)
    high = tl.where(whole_rows != 0, tl.minimum(tl.maximum(begin * stride + bottom, 0), h), low)
    return (
        plane, begin, tl.minimum(begin + strip, h_out), m, real, inverse_rows * inverse * scale,
        (top, bottom, top_part, bottom_part, whole_rows), (h_top, h_bottom), (low, high),
        (left, right, left_part, right_part, whole),
    )  # fmt: skip


SIZES = ["items", "channels", "per_channel", "h", "w", "h_out", "w_out", "together", "strips", "strip"]
STRIDES = ["batch_stride", "channel_stride", "row_stride"]


@triton.jit(do_not_specialize=[*SIZES, *STRIDES, "stride"])
def box_rows(
    p_image, p_boxes, p_output, p_scale, p_shift, p_residual, p_scratch,
    items, channels, per_channel, h, w, h_out, w_out, together, strips, strip,
    batch_stride, channel_stride, row_stride, stride,
    NORMALIZE: tl.constexpr, RELU: tl.constexpr, WIDE: tl.constexpr, STEP: tl.constexpr, STEP_OUT: tl.constexpr,
    ROWS: tl.constexpr, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
    DENSE: tl.constexpr, LONG: tl.constexpr, PITCH: tl.constexpr,
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
        plane, begin, end, m, real, weight, rows_of_box, heights, first_rows, columns_of_box = load_item(
            item, p_boxes, p_scale, per_channel, channels, h, w, h_out, stride, together, strips, strip, NORMALIZE, C
        )
        h_top, h_bottom = heights
        low, high = first_rows
        _, _, _, _, whole = columns_of_box
        box = (plane % channels) * per_channel + m
        shift = None if p_shift is None else tl.load(p_shift + box, mask=real, other=0.0).to(tl.float64)
        p_plane = p_image + plane_offset(plane, channels, batch_stride, channel_stride, STEP)
        first_out = (plane * per_channel + m) * multiple(h_out.to(tl.int64) * w_out, STEP_OUT)
        sums = tl.zeros([N, C, K, E], tl.float64)
        for tile in range(0, w if LONG else WIDTH, WIDTH):
            sums = sum_rows(p_plane, low, high, row_stride, tile + q, w, STEP, N, C, K)
            if LONG:
                tl.store(by_groups(p_slots, place(tile + q, PITCH) + RUNNING), sums)
        if LONG:
            for start in range(begin, end, ROWS):
                for r in tl.static_range(ROWS):
                    tl.debug_barrier()  # S may be read by other threads than wrote it
                    carry = tl.zeros([C], tl.float64)
                    for tile in range(0, w, WIDTH):
                        p_running = by_groups(p_slots, place(tile + q, PITCH) + RUNNING)
                        row, sums = enter_row(
                            p_plane, tl.load(p_running), start + r, end, rows_of_box, h_top, h_bottom, w, stride,
                            row_stride, tile + q, DENSE, STEP,
                        )  # fmt: skip
                        tl.store(p_running, sums)
                        carry = spread(
                            p_slots + r * NEXT, row, carry, whole, tile + q, tile + (WIDTH - 1), PITCH, LONG, N, C, K
                        )
                tl.debug_barrier()
                for r in tl.static_range(ROWS):
                    i = start + r
                    at_row = first_out + multiple(i.to(row_stride.dtype) * w_out, STEP_OUT)
                    for tile in range(0, w_out, WIDTH):
                        value = between_edges(
                            p_slots + r * NEXT, tile + q, tile + first + E, columns_of_box, w, stride,
                            PITCH, DENSE, N, C, K,
                        )  # fmt: skip
                        at = at_row + (tile + q)
                        inside = real & (i < end) & (tile + q < multiple(w_out, STEP_OUT))
                        residual = None
                        if p_residual is not None:
                            residual = load_residual(p_residual, at, inside, STEP_OUT)
                        write_row(p_output, at, value * weight, shift, residual, inside, RELU, STEP_OUT)
                tl.debug_barrier()
        else:
            nothing = tl.zeros([C], tl.float64)
            rows, sums = enter_rows(
                p_plane, sums, begin, end, rows_of_box, h_top, h_bottom, w, stride, row_stride, q, DENSE, STEP, ROWS
            )
            for start in range(begin, end, ROWS):
                residuals = ()
                for r in tl.static_range(ROWS):
                    i = start + r
                    at_row = first_out + multiple(i.to(row_stride.dtype) * w_out, STEP_OUT)
                    inside = real & (i < end) & (q < multiple(w_out, STEP_OUT))
                    if p_residual is not None:
                        residuals += (load_residual(p_residual, at_row + q, inside, STEP_OUT),)
                for r in tl.static_range(ROWS):
                    spread(p_slots + r * NEXT, rows[r], nothing, whole, q, WIDTH - 1, PITCH, LONG, N, C, K)
                tl.debug_barrier()
                rows, sums = enter_rows(
                    p_plane, sums, start + ROWS, end, rows_of_box, h_top, h_bottom, w, stride, row_stride, q,
                    DENSE, STEP, ROWS,
                )  # fmt: skip
                values = ()
                for r in tl.static_range(ROWS):
                    p_slot = p_slots + r * NEXT
                    values += (between_edges(p_slot, q, first + E, columns_of_box, w, stride, PITCH, DENSE, N, C, K),)
                for r in tl.static_range(ROWS):
                    i = start + r
                    at_row = first_out + multiple(i.to(row_stride.dtype) * w_out, STEP_OUT)
                    inside = real & (i < end) & (q < multiple(w_out, STEP_OUT))
                    residual = residuals[r] if p_residual is not None else None
                    write_row(p_output, at_row + q, values[r] * weight, shift, residual, inside, RELU, STEP_OUT)
                tl.debug_barrier()
