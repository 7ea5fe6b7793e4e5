"""The Triton kernel of the backward pass for short rows: as in backward.py, but with shifts.py for the rows.

What pixel q gets from a box is, with Q of v in place of r and with parts 1 - part, what lies left of column q - left of
g less what lies left of q - right. The K threads of a box make this for C rows, and then add up one row for all boxes.

What a box gets needs x and its sums P on both sides of an edge: its threads make them for a row, and read all rows.
"""

import triton
import triton.language as tl

from .backward import SIZES, STRIDES, SUMS, read_rows
from .rows import E, by_groups, columns, index, load_row, multiple, plane_offset, store_as, sum_rows
from .shifts import columns_of_groups, find_edge, left_of_edges, like_rows, moved, place_of, stack, sum_row, unstack
from .spans import load_box


@triton.jit
def find_pixels(n, w, part, whole, true, C: tl.constexpr, K: tl.constexpr):
    """For an edge in pixel columns ``n`` of a row of ``w`` columns: the place of P and x; and x's weight beside P,
    which makes the whole row's sum of them if the edge is right of it.
    """
    inside = (n.to(tl.uint32) < w.to(tl.uint32)) & true
    at = place_of(0, tl.minimum(tl.maximum(n, 0), w - 1), 1, C, K)
    return tl.broadcast_to(at, [1, C, K, E]), tl.where(inside, part, tl.where((n >= w) & true, whole, 0.0))


@triton.jit
def move_pixels(pixels, at_right, at_left, C: tl.constexpr, K: tl.constexpr):
    """P and x of C rows at the right edges of C boxes, and at their left edges. The threads of a box read one row."""
    SIZE: tl.constexpr = C * K * E
    sums, _ = sum_row((pixels,), 1, C, K)
    tile = tl.reshape(tl.permute(tl.join(sums[0], pixels), [0, 4, 1, 3, 2]), [2 * SIZE])
    at = tl.join(at_right, at_left)[:, :, :, :, None, :, None]
    at = at + (tl.arange(0, C)[:, None, None] * (K * E) + tl.arange(0, 2) * SIZE)
    found = tl.gather(tile, tl.reshape(at, [4 * C * SIZE]), 0)
    sums, pixels = tl.split(tl.reshape(found, [1, C, K, E, C, 2, 2]))
    sums_right, sums_left = tl.split(sums)
    right, left = tl.split(pixels)
    return unstack(sums_right, C, C, K), unstack(right, C, C, K), unstack(sums_left, C, C, K), unstack(left, C, C, K)


@triton.jit
def add_up_boxes(rows, true, C: tl.constexpr, K: tl.constexpr):
    """C rows of C boxes, a box to K threads, as one row to K threads, added up over the boxes."""
    SIZE: tl.constexpr = C * K * E
    _, q = columns(1, K)
    row = tl.arange(0, C)[None, :, None, None, None]
    tile = tl.reshape(tl.permute(stack(rows, C, C, K), [0, 4, 1, 3, 2]), [C * SIZE])
    at = tl.where(true[:, :, :, :, None], place_of(row * C + tl.arange(0, C), q[:, :, :, :, None], 1, C, K), 0)
    found = unstack(tl.reshape(tl.gather(tile, tl.reshape(at, [C * SIZE]), 0), [1, C, K, E, C]), C, C, K)
    total = found[0]
    for m in tl.static_range(1, C):
        total += found[m]
    return total


@triton.jit
def sum_groups(tile, C: tl.constexpr, K: tl.constexpr):
    first, second, third, fourth = columns_of_groups(tile, C, K)
    return (first + second) + (third + fourth)


@triton.jit(do_not_specialize=[*SIZES, *STRIDES])
def grad_short_rows(
    p_grad, p_image, p_boxes, p_partial, p_grad_input, p_by_box,
    items, planes, channels, per_channel, h, w, h_out, w_out, strips, strip,
    grad_batch_stride, grad_channel_stride, grad_row_stride, input_batch_stride, input_channel_stride, input_row_stride,
    NORMALIZE: tl.constexpr, BY_INPUT: tl.constexpr, BY_BOXES: tl.constexpr, WIDE: tl.constexpr,
    STEP: tl.constexpr, STEP_OUT: tl.constexpr, C: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """An item is a strip of ``strip`` pixel rows of a plane: C rows at a time, for C boxes after the other.

    ``p_by_box`` (strips, planes, M, 5) are for `edge_gradients`.
    """
    _, q = columns(1, K)
    c = tl.arange(0, C)[None, :, None, None]
    grad_row_stride = index(grad_row_stride, WIDE)
    input_row_stride = index(input_row_stride, WIDE)
    for item in range(tl.program_id(0).to(tl.int64), items.to(tl.int64), tl.num_programs(0)):
        plane = item // strips
        number = item % strips
        begin = number.to(tl.int32) * strip
        end = tl.minimum(begin + strip, h)
        first_pixel = plane * multiple(h.to(tl.int64) * w, STEP)
        p_plane = p_image + plane_offset(plane, channels, input_batch_stride, input_channel_stride, STEP)
        for first_m in range(0, per_channel, C):
            m = first_m + c
            real = m < per_channel
            box = (plane % channels) * per_channel + m
            (
                top, bottom, top_part, bottom_part, whole_rows, inverse_rows,
                left, right, left_part, right_part, whole, inverse,
            ) = load_box(p_boxes + box * 4, real, h, w, NORMALIZE)  # fmt: skip
            weight = inverse_rows * inverse
            rows_of_box = top, bottom, top_part, bottom_part, whole_rows
            p_box_grad = p_grad + plane_offset(
                plane * per_channel + tl.minimum(m, per_channel - 1), channels * per_channel,
                grad_batch_stride, grad_channel_stride, STEP_OUT,
            )  # fmt: skip
            h_real = tl.where(real, h_out, 0)
            # The rows of g that are in the boxes of the row before the first one.
            high = tl.minimum(tl.maximum(begin - top, 0), h_real)
            low = tl.where(whole_rows != 0, tl.minimum(tl.maximum(begin - bottom, 0), h_real), high)
            sums = sum_rows(p_box_grad, low, high, grad_row_stride, q, w_out, STEP_OUT, 1, C, K)
            true = like_rows(sums)
            part_left = whole - left_part
            part_right = whole - right_part
            at_left, of_left, left_total = find_edge(c, q - left, w_out, part_left != 0, weight, true, 1, C, K)
            at_right, of_right, right_total = find_edge(c, q - right, w_out, part_right != 0, weight, true, 1, C, K)
            of_total = left_total - right_total
            x_at_right, of_x_right = find_pixels(q + right, w, right_part, whole, true, C, K)
            x_at_left, of_x_left = find_pixels(q + left, w, left_part, whole, true, C, K)
            by_area = tl.zeros([1, C, K], tl.float64)
            by_bottom = tl.zeros([1, C, K], tl.float64)
            by_top = tl.zeros([1, C, K], tl.float64)
            by_right = tl.zeros([1, C, K, E], tl.float64)
            by_left = tl.zeros([1, C, K, E], tl.float64)
            x = load_row(p_plane, begin + c, end, input_row_stride, q, w, STEP)
            read = read_rows(p_box_grad, begin, rows_of_box, h_real, w_out, 1, grad_row_stride, q, True, STEP_OUT, C)
            for start in range(begin, end, C):
                if BY_BOXES:
                    sums_right, x_right, sums_left, x_left = move_pixels(x.to(tl.float64), x_at_right, x_at_left, C, K)
                rows = ()
                for r in tl.static_range(C):
                    at_bottom, at_top = read[r]
                    at_bottom = at_bottom.to(tl.float64)
                    at_top = at_top.to(tl.float64)
                    sums += whole_rows * (at_top - at_bottom)
                    v = sums + bottom_part * at_bottom - top_part * at_top
                    rows += (v,)
                    if BY_BOXES:
                        between = of_x_right * x_right[r] - of_x_left * x_left[r]
                        between += whole * (sums_right[r] - sums_left[r])
                        by_area += sum_groups(v * between, C, K)
                        by_bottom += sum_groups(at_bottom * between, C, K)
                        by_top += sum_groups(at_top * between, C, K)
                        by_right += v * x_right[r]
                        by_left += v * x_left[r]
                x = load_row(p_plane, start + C + c, end, input_row_stride, q, w, STEP)
                read = read_rows(
                    p_box_grad, start + C, rows_of_box, h_real, w_out, 1, grad_row_stride, q, True, STEP_OUT, C
                )
                if BY_INPUT:
                    lefts, rights, totals = left_of_edges(rows, part_left, part_right, whole, False, C, 1, C, K)
                    lefts, rights = moved(lefts, rights, (at_left,), (at_right,), C, 1, C, K)
                    rows = ()
                    for r in tl.static_range(C):
                        rows += (of_left * lefts[r] - of_right * rights[r] + of_total * totals[r],)
                    gradient = add_up_boxes(rows, true, C, K)
                    p = start + c
                    inside = (p < end) & (q < multiple(w, STEP))
                    at = first_pixel + (multiple(p.to(input_row_stride.dtype) * w, STEP) + q)
                    if first_m > 0:
                        gradient += tl.load(by_groups(p_partial, at), mask=inside, other=0.0).to(tl.float64)
                    if first_m + C >= per_channel:
                        store_as(by_groups(p_grad_input, at, STEP), gradient, inside)
                    else:
                        store_as(by_groups(p_partial, at), gradient, inside)
            if BY_BOXES:
                # Where an edge was not in a pixel, another one was read.
                by_right = tl.where((q + right).to(tl.uint32) < w.to(tl.uint32), by_right, 0.0)
                by_left = tl.where((q + left).to(tl.uint32) < w.to(tl.uint32), by_left, 0.0)
                lane = first_m + tl.arange(0, C)[None, :]
                p_to = p_by_box + ((number * planes + plane) * per_channel + lane) * SUMS
                real = lane < per_channel
                tl.store(p_to, tl.sum(by_area, 2), mask=real)
                tl.store(p_to + 1, tl.sum(by_bottom, 2), mask=real)
                tl.store(p_to + 2, tl.sum(by_top, 2), mask=real)
                tl.store(p_to + 3, tl.sum(sum_groups(by_right, C, K), 2), mask=real)
                tl.store(p_to + 4, tl.sum(sum_groups(by_left, C, K), 2), mask=real)
