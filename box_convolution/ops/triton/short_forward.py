"""The Triton kernel of the forward pass for short rows: as in forward.py, but with shifts.py for the rows."""

import triton
import triton.language as tl

from .forward import SIZES, STRIDES, load_item, load_residual, write_row
from .rows import E, index, load_row, multiple, plane_offset, sum_rows
from .shifts import find_edge, left_of_edges, like_rows, moved


@triton.jit
def read_rows(
    p_plane, start, rows_of_box, h_top, h_bottom, row_stride, q, w,
    STEP: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """What enters and leaves boxes with ROWS output rows, of N pieces each."""
    top, bottom, _, _, _ = rows_of_box
    rows = ()
    for r in tl.static_range(ROWS):
        for n in tl.static_range(N):
            entering = load_row(p_plane, start + r + bottom, h_bottom, row_stride, q + n * E, w, STEP)
            leaving = load_row(p_plane, start + r + top, h_top, row_stride, q + n * E, w, STEP)
            rows += ((entering, leaving),)
    return rows


@triton.jit
def enter_rows(read, sums, rows_of_box, ROWS: tl.constexpr, N: tl.constexpr):
    """r of these output rows, and S of the next one, by pieces."""
    _, _, top_part, bottom_part, whole_rows = rows_of_box
    rows = ()
    for r in tl.static_range(ROWS):
        next_sums = ()
        for n in tl.static_range(N):
            entering, leaving = read[r * N + n]
            entering = entering.to(tl.float64)
            leaving = leaving.to(tl.float64)
            rows += (sums[n] + bottom_part * entering - top_part * leaving,)
            next_sums += (sums[n] + tl.where(whole_rows != 0, entering - leaving, 0.0),)
        sums = next_sums
    return rows, sums


@triton.jit(do_not_specialize=[*SIZES, *STRIDES])
def box_short_rows(
    p_image, p_boxes, p_output, p_scale, p_shift, p_residual,
    items, channels, per_channel, h, w, h_out, w_out, together, strips, strip,
    batch_stride, channel_stride, row_stride,
    NORMALIZE: tl.constexpr, RELU: tl.constexpr, WIDE: tl.constexpr, STEP: tl.constexpr, STEP_OUT: tl.constexpr,
    ROWS: tl.constexpr, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """An item is C boxes of one of ``together`` groups, in a plane, and a strip of ``strip`` of its output rows.

    Rows are walked down ROWS at a time.
    """
    q = tl.arange(0, K)[None, None, :, None] * (N * E) + tl.arange(0, E)[None, None, None, :]
    c = tl.arange(0, C)[None, :, None, None]
    row_stride = index(row_stride, WIDE)
    for item in range(tl.program_id(0).to(tl.int64), items.to(tl.int64), tl.num_programs(0)):
        plane, begin, end, m, real, weight, rows_of_box, heights, first_rows, columns_of_box = load_item(
            item, p_boxes, p_scale, per_channel, channels, h, w, h_out, 1, together, strips, strip, NORMALIZE, C
        )
        h_top, h_bottom = heights
        low, high = first_rows
        left, right, left_part, right_part, whole = columns_of_box
        box = (plane % channels) * per_channel + m
        shift = None if p_shift is None else tl.load(p_shift + box, mask=real, other=0.0).to(tl.float64)
        p_plane = p_image + plane_offset(plane, channels, batch_stride, channel_stride, STEP)
        first_out = (plane * per_channel + m) * multiple(h_out.to(tl.int64) * w_out, STEP_OUT)
        has_right = (whole != 0) | (right_part != 0)
        has_left = (whole != 0) | (left_part != 0)
        sums = ()
        at_right = ()
        at_left = ()
        of_right = ()
        of_left = ()
        of_total = ()
        for n in tl.static_range(N):
            sums += (sum_rows(p_plane, low, high, row_stride, q + n * E, w, STEP, 1, C, K),)
            true = like_rows(sums[n])
            at, of_edge, right_total = find_edge(c, q + n * E + right, w, has_right, weight, true, N, C, K)
            at_right += (at,)
            of_right += (of_edge,)
            at, of_edge, left_total = find_edge(c, q + n * E + left, w, has_left, weight, true, N, C, K)
            at_left += (at,)
            of_left += (of_edge,)
            of_total += (right_total - left_total,)
        read = read_rows(p_plane, begin, rows_of_box, h_top, h_bottom, row_stride, q, w, STEP, ROWS, N)
        for start in range(begin, end, ROWS):
            residuals = ()
            for t in tl.static_range(ROWS * N):
                i = start + t // N
                column = q + (t % N) * E
                at_row = first_out + multiple(i.to(row_stride.dtype) * w_out, STEP_OUT)
                inside = real & (i < end) & (column < multiple(w_out, STEP_OUT))
                if p_residual is not None:
                    residuals += (load_residual(p_residual, at_row + column, inside, STEP_OUT),)
            rows, sums = enter_rows(read, sums, rows_of_box, ROWS, N)
            read = read_rows(p_plane, start + ROWS, rows_of_box, h_top, h_bottom, row_stride, q, w, STEP, ROWS, N)
            rights, lefts, totals = left_of_edges(rows, right_part, left_part, whole, True, ROWS, N, C, K)
            rights, lefts = moved(rights, lefts, at_right, at_left, ROWS, N, C, K)
            for t in tl.static_range(ROWS * N):
                i = start + t // N
                column = q + (t % N) * E
                value = of_right[t % N] * rights[t] - of_left[t % N] * lefts[t] + of_total[t % N] * totals[t // N]
                at_row = first_out + multiple(i.to(row_stride.dtype) * w_out, STEP_OUT)
                inside = real & (i < end) & (column < multiple(w_out, STEP_OUT))
                residual = residuals[t] if p_residual is not None else None
                write_row(p_output, at_row + column, value, shift, residual, inside, RELU, STEP_OUT)
