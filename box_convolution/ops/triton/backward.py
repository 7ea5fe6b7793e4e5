"""The Triton kernels of the backward pass: the forward walk, over grad_output, and what boxes' edges get on the way.

The adjoint of a box filter is a box filter. With g a box's grad_output, at pixel row p the rows t = p - top of g enters
and b = p - bottom leaves, S is the sum of the rows b < i <= t of each column, and

    v[c] = S[c] + bottom_part * g[b, c] - top_part * g[t, c]

is what the columns c of g give to row p; rows.py makes of it what each pixel gets, to be divided by the box's area.
An edge's gradient is a sum over all pixels x of products with parts of that adjoint, which equals a sum over g of
products with parts of the filter. With P the sums along row p of x, in which x[p, q] is P[q + 1] - P[q], and

    X[c] = whole * (P[c + right] - P[c + left]) + right_part * x[p, c + right] - left_part * x[p, c + left],

a box gets the sums over p and c of v * X for its area, g[b] * X for its bottom, g[t] * X for its top,
v * x[p, c + right] for its right and v * x[p, c + left] for its left edge. With a stride, a row of g enters or leaves,
and a column has a part in a pixel, only where that is a multiple.
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

SUMS = tl.constexpr(5)  # of a box and plane: for the area, bottom, top, right, left


@triton.jit
def output_at(n, edge, stride, DENSE: tl.constexpr):
    """The last output whose edge is not beyond pixel ``n``, negative for none."""
    distance = n - edge
    if DENSE:
        return distance
    else:
        return tl.where(distance < 0, -1, tl.maximum(distance, 0) // stride)


@triton.jit
def where_hit(n, edge, output, size, stride, DENSE: tl.constexpr):
    """``size`` where that output's edge is in pixel ``n``, else 0: no other output's is."""
    if DENSE:
        return size
    else:
        return tl.where(output * stride == n - edge, size, 0)


@triton.jit
def edge_weights(edge, part, whole, weight):
    """An edge; the weights of what `load_pairs` finds there, at and after; and of what is after where no edge is."""
    return edge, weight * tl.where(whole != 0, part, -part), weight * whole * (1 - part), weight * whole


@triton.jit
def add_edge_columns(
    gradient, p_slot, q, fifth, edge_and_weights, w_out, stride, PITCH: tl.constexpr,
    DENSE: tl.constexpr, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Add what pixel columns ``q`` get from all columns of g up to the one whose edge is there."""
    edge, of_at, of_after, elsewhere = edge_and_weights
    n = output_at(q, edge, stride, DENSE)
    size = tl.where((of_at != 0) | (of_after != 0), w_out, 0)
    if not DENSE:
        there = n * stride == q - edge
        of_at = tl.where(there, of_at, 0.0)
        of_after = tl.where(there, of_after, elsewhere)
    at, after = load_pairs(p_slot, n, fifth - edge, size, PITCH, DENSE, N, C, K)
    return gradient + of_at * at + of_after * after


@triton.jit
def read_row(
    p_grad, p, rows_of_box, h_out, w_out, stride, row_stride, columns_of_grad, DENSE: tl.constexpr, STEP: tl.constexpr
):  # fmt: skip
    """The rows of g at the boxes' bottoms and tops in pixel row ``p``."""
    top, bottom, _, _, _ = rows_of_box
    t = output_at(p, top, stride, DENSE)
    b = output_at(p, bottom, stride, DENSE)
    h_top = where_hit(p, top, t, h_out, stride, DENSE)
    h_bottom = where_hit(p, bottom, b, h_out, stride, DENSE)
    at_bottom = load_row(p_grad, b, h_bottom, row_stride, columns_of_grad, w_out, STEP)
    at_top = load_row(p_grad, t, h_top, row_stride, columns_of_grad, w_out, STEP)
    return at_bottom, at_top


@triton.jit
def read_rows(
    p_grad, p, rows_of_box, h_out, w_out, stride, row_stride, columns_of_grad,
    DENSE: tl.constexpr, STEP: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    """The same of C pixel rows, before anything is written: what is read is then on its way at the same time."""
    rows = ()
    for r in tl.static_range(C):
        rows += (read_row(p_grad, p + r, rows_of_box, h_out, w_out, stride, row_stride, columns_of_grad, DENSE, STEP),)
    return rows


@triton.jit
def add_to_boxes(
    p_sums, v, at_bottom, at_top, by_area, by_bottom, by_top, by_right, by_left, n, fifth, columns_of_box, w,
    PITCH: tl.constexpr, DENSE: tl.constexpr, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """What one row of pixels adds to the five sums of each box, by columns of g at pixel columns ``n``."""
    left, right, left_part, right_part, whole = columns_of_box
    at_right, after = load_pairs(p_sums, n + right, fifth + right, w, PITCH, DENSE, N, C, K)
    x_right = after - at_right
    at_left, after = load_pairs(p_sums, n + left, fifth + left, w, PITCH, DENSE, N, C, K)
    x_left = after - at_left
    x = tl.where(whole != 0, at_right - at_left, 0.0) + right_part * x_right - left_part * x_left
    by_area += tl.sum(tl.sum(v * x, 3), 0)
    by_bottom += tl.sum(tl.sum(at_bottom * x, 3), 0)
    by_top += tl.sum(tl.sum(at_top * x, 3), 0)
    by_right += tl.sum(tl.sum(v * x_right, 3), 0)
    by_left += tl.sum(tl.sum(v * x_left, 3), 0)
    return by_area, by_bottom, by_top, by_right, by_left


@triton.jit
def walk_row(
    row, p_slot, p_sums, sums, carry, by_area, by_bottom, by_top, by_right, by_left,
    rows_of_box, columns_of_box, columns_of_grad, first, last, w, stride,
    DENSE: tl.constexpr, BY_INPUT: tl.constexpr, BY_BOXES: tl.constexpr, LONG: tl.constexpr,
    PITCH: tl.constexpr, N: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """A pixel row, as far as it goes by columns of g: S, v into scratch, and what boxes get."""
    _, _, top_part, bottom_part, whole_rows = rows_of_box
    at_bottom, at_top = row
    at_bottom = at_bottom.to(tl.float64)
    at_top = at_top.to(tl.float64)
    sums += tl.where(whole_rows != 0, at_top - at_bottom, 0.0)
    v = sums + bottom_part * at_bottom - top_part * at_top
    if BY_INPUT:
        _, _, _, _, whole = columns_of_box
        carry = spread(p_slot, v, carry, whole, columns_of_grad, last, PITCH, LONG, N, C, K)
    if BY_BOXES:
        by_area, by_bottom, by_top, by_right, by_left = add_to_boxes(
            p_sums, v, at_bottom, at_top, by_area, by_bottom, by_top, by_right, by_left,
            columns_of_grad * stride, (first + E) * stride, columns_of_box, w, PITCH, DENSE, N, C, K,
        )  # fmt: skip
    return sums, carry, by_area, by_bottom, by_top, by_right, by_left


@triton.jit
def write_pixels(
    p_slot, boxes, p_partial, p_grad_input, at, q, fifth, inside, w_out, stride, begun, last,
    DENSE: tl.constexpr, STEP: tl.constexpr, SLOT: tl.constexpr, PITCH: tl.constexpr,
    N: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Gradients of C rows of pixels, added up over C boxes, and what earlier groups of boxes have ``begun``."""
    gradient = tl.zeros([N, C, K, E], tl.float64)
    if begun:
        gradient += tl.load(by_groups(p_partial, at), mask=inside, other=0.0).to(tl.float64)
    for m in tl.static_range(C):
        for side in tl.static_range(2):
            gradient = add_edge_columns(
                gradient, p_slot + m * SLOT, q, fifth, boxes[m][side], w_out, stride, PITCH, DENSE, N, C, K
            )
    if last:
        store_as(by_groups(p_grad_input, at, STEP), gradient, inside)
    else:
        store_as(by_groups(p_partial, at), gradient, inside)


SIZES = ["items", "planes", "channels", "per_channel", "h", "w", "h_out", "w_out", "strips", "strip"]
STRIDES = [f"{of}_{axis}_stride" for of in ("grad", "input") for axis in ("batch", "channel", "row")]


@triton.jit(do_not_specialize=[*SIZES, *STRIDES, "stride"])
def grad_rows(
    p_grad, p_image, p_boxes, p_partial, p_grad_input, p_by_box, p_scratch,
    items, planes, channels, per_channel, h, w, h_out, w_out, strips, strip,
    grad_batch_stride, grad_channel_stride, grad_row_stride, input_batch_stride, input_channel_stride, input_row_stride,
    stride,
    NORMALIZE: tl.constexpr, BY_INPUT: tl.constexpr, BY_BOXES: tl.constexpr, WIDE: tl.constexpr,
    STEP: tl.constexpr, STEP_OUT: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
    DENSE: tl.constexpr, LONG: tl.constexpr, PITCH: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """An item is a strip of ``strip`` pixel rows of a plane: C rows at a time, for C boxes after the other.

    ``p_by_box`` (strips, planes, M, 5) are for `edge_gradients`.
    """
    RUNNING: tl.constexpr = E * PITCH + BORDERS  # the place of S
    SLOT: tl.constexpr = RUNNING + (E * PITCH if LONG else 0)
    NEXT: tl.constexpr = C * SLOT  # the next row's
    PIXELS: tl.constexpr = E * PITCH + BORDERS
    WIDTH: tl.constexpr = N * K * E
    first, q = columns(N, K)
    c = tl.arange(0, C)[None, :, None, None]
    program = tl.program_id(0).to(tl.int64)
    grad_row_stride = index(grad_row_stride, WIDE)
    input_row_stride = index(input_row_stride, WIDE)
    p_slots = p_scratch + program * (C * (NEXT + PIXELS))
    p_sums = p_slots + C * NEXT
    nothing = tl.zeros([1, C, 1, 1], tl.float64)
    for r in tl.static_range(C):
        tl.store(p_slots + (r * NEXT + E * PITCH) + c * SLOT, nothing)
    tl.store(p_sums + E * PITCH + c * PIXELS, nothing)
    for item in range(program, items.to(tl.int64), tl.num_programs(0)):
        plane = item // strips
        number = item % strips
        begin = number.to(tl.int32) * strip
        end = tl.minimum(begin + strip, h)
        first_pixel = plane * multiple(h.to(tl.int64) * w, STEP)
        p_plane = p_image + plane_offset(plane, channels, input_batch_stride, input_channel_stride, STEP)
        for first_m in range(0, per_channel, C):
            m = first_m + c
            real = m < per_channel
            box = (plane % channels) * per_channel + first_m
            boxes = ()
            for n in tl.static_range(C):
                _, _, _, _, _, inverse_rows, left, right, left_part, right_part, whole, inverse = load_box(
                    p_boxes + (box + n) * 4, first_m + n < per_channel, h, w, NORMALIZE
                )
                weight = inverse_rows * inverse
                boxes += (
                    (edge_weights(left, left_part, whole, weight), edge_weights(right, right_part, whole, -weight)),
                )
            (
                top, bottom, top_part, bottom_part, whole_rows, inverse_rows,
                left, right, left_part, right_part, whole, inverse,
            ) = load_box(p_boxes + (box + c) * 4, real, h, w, NORMALIZE)  # fmt: skip
            rows_of_box = top, bottom, top_part, bottom_part, whole_rows
            columns_of_box = left, right, left_part, right_part, whole
            p_box_grad = p_grad + plane_offset(
                plane * per_channel + tl.minimum(m, per_channel - 1), channels * per_channel,
                grad_batch_stride, grad_channel_stride, STEP_OUT,
            )  # fmt: skip
            h_real = tl.where(real, h_out, 0)
            by_area = tl.zeros([C, K], tl.float64)
            by_bottom = tl.zeros([C, K], tl.float64)
            by_top = tl.zeros([C, K], tl.float64)
            by_right = tl.zeros([C, K], tl.float64)
            by_left = tl.zeros([C, K], tl.float64)
            # The rows of g that are in the boxes of the row before the first one.
            high = tl.minimum(tl.maximum(output_at(begin - 1, top, stride, DENSE) + 1, 0), h_real)
            low = tl.minimum(tl.maximum(output_at(begin - 1, bottom, stride, DENSE) + 1, 0), h_real)
            low = tl.where(whole_rows != 0, low, high)
            sums = tl.zeros([N, C, K, E], tl.float64)
            for tile in range(0, w_out if LONG else WIDTH, WIDTH):
                sums = sum_rows(p_box_grad, low, high, grad_row_stride, tile + q, w_out, STEP_OUT, N, C, K)
                if LONG:
                    tl.store(by_groups(p_slots + c * SLOT, place(tile + q, PITCH) + RUNNING), sums)
            if not LONG:
                x = load_row(p_plane, begin + c, end, input_row_stride, q, w, STEP)
                rows = read_rows(
                    p_box_grad, begin, rows_of_box, h_real, w_out, stride, grad_row_stride, q, DENSE, STEP_OUT, C
                )
            for start in range(begin, end, C):
                if BY_BOXES:
                    carry = tl.zeros([C], tl.float64)
                    for tile in range(0, w if LONG else WIDTH, WIDTH):
                        if LONG:
                            x = load_row(p_plane, start + c, end, input_row_stride, tile + q, w, STEP)
                        carry = spread(
                            p_sums + c * PIXELS, x.to(tl.float64), carry, 1, tile + q, tile + (WIDTH - 1),
                            PITCH, LONG, N, C, K,
                        )  # fmt: skip
                    tl.debug_barrier()
                for r in tl.static_range(C):
                    if LONG:
                        tl.debug_barrier()  # S may be read by other threads than wrote it
                    carry = tl.zeros([C], tl.float64)
                    for tile in range(0, w_out if LONG else WIDTH, WIDTH):
                        if LONG:
                            p_running = by_groups(p_slots + c * SLOT, place(tile + q, PITCH) + RUNNING)
                            sums = tl.load(p_running)
                            row = read_row(
                                p_box_grad, start + r, rows_of_box, h_real, w_out, stride, grad_row_stride, tile + q,
                                DENSE, STEP_OUT,
                            )  # fmt: skip
                        else:
                            row = rows[r]
                        sums, carry, by_area, by_bottom, by_top, by_right, by_left = walk_row(
                            row, p_slots + r * NEXT + c * SLOT, p_sums + r * PIXELS, sums, carry,
                            by_area, by_bottom, by_top, by_right, by_left,
                            rows_of_box, columns_of_box, tile + q, tile + first, tile + (WIDTH - 1), w, stride,
                            DENSE, BY_INPUT, BY_BOXES, LONG, PITCH, N, C, K,
                        )  # fmt: skip
                        if LONG:
                            tl.store(p_running, sums)
                if not LONG:
                    x = load_row(p_plane, start + C + c, end, input_row_stride, q, w, STEP)
                    rows = read_rows(
                        p_box_grad, start + C, rows_of_box, h_real, w_out, stride, grad_row_stride, q,
                        DENSE, STEP_OUT, C,
                    )  # fmt: skip
                tl.debug_barrier()
                if BY_INPUT:
                    for tile in range(0, w if LONG else WIDTH, WIDTH):
                        p = start + c
                        at = multiple(p.to(input_row_stride.dtype) * w, STEP) + (tile + q)
                        write_pixels(
                            p_slots + c * NEXT, boxes, p_partial + first_pixel, p_grad_input + first_pixel, at,
                            tile + q, tile + first + E, (p < end) & (tile + q < multiple(w, STEP)), w_out, stride,
                            first_m > 0, first_m + C >= per_channel, DENSE, STEP, SLOT, PITCH, N, C, K,
                        )  # fmt: skip
                    tl.debug_barrier()
            if BY_BOXES:
                lane = tl.arange(0, C)
                p_to = p_by_box + ((number * planes + plane) * per_channel + first_m + lane) * SUMS
                real = first_m + lane < per_channel
                tl.store(p_to, tl.sum(by_area, 1), mask=real)
                tl.store(p_to + 1, tl.sum(by_bottom, 1), mask=real)
                tl.store(p_to + 2, tl.sum(by_top, 1), mask=real)
                tl.store(p_to + 3, tl.sum(by_right, 1), mask=real)
                tl.store(p_to + 4, tl.sum(by_left, 1), mask=real)


@triton.jit(do_not_specialize=["count", "boxes", "h", "w"])
def edge_gradients(p_sums, p_boxes, p_grad_boxes, count, boxes, h, w, NORMALIZE: tl.constexpr, BLOCK: tl.constexpr):
    """Gradients of a box's four edges, equation (6), from its sums (count, boxes, 5); a box to a program."""
    box = tl.program_id(0).to(tl.int64)
    by_area = tl.zeros([BLOCK], tl.float64)
    by_bottom = tl.zeros([BLOCK], tl.float64)
    by_top = tl.zeros([BLOCK], tl.float64)
    by_right = tl.zeros([BLOCK], tl.float64)
    by_left = tl.zeros([BLOCK], tl.float64)
    for start in range(0, count, BLOCK):
        n = start + tl.arange(0, BLOCK)
        p_sum = p_sums + (n.to(tl.int64) * boxes + box) * SUMS
        mask = n < count
        by_area += tl.load(p_sum, mask=mask, other=0.0)
        by_bottom += tl.load(p_sum + 1, mask=mask, other=0.0)
        by_top += tl.load(p_sum + 2, mask=mask, other=0.0)
        by_right += tl.load(p_sum + 3, mask=mask, other=0.0)
        by_left += tl.load(p_sum + 4, mask=mask, other=0.0)
    _, _, _, _, _, inverse_rows, _, _, _, _, _, inverse_columns = load_box(p_boxes + box * 4, True, h, w, NORMALIZE)
    inverse = inverse_rows * inverse_columns
    by_height = inverse * 0
    by_width = inverse * 0
    if NORMALIZE:
        mean = tl.sum(by_area, 0) * inverse
        by_height = mean * inverse_rows
        by_width = mean * inverse_columns
    p_to = p_grad_boxes + box * 4
    store_as(p_to, by_height - inverse * tl.sum(by_top, 0), None)
    store_as(p_to + 1, inverse * tl.sum(by_bottom, 0) - by_height, None)
    store_as(p_to + 2, by_width - inverse * tl.sum(by_left, 0), None)
    store_as(p_to + 3, inverse * tl.sum(by_right, 0) - by_width, None)
