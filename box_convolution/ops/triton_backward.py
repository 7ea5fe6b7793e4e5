"""Triton kernels of the backward pass.

- The gradient by the input is what the corners of all boxes leave behind (triton_corners.py), summed over boxes first
  and integrated once, row by row down the plane.
- The gradients by the edges are sums of products of grad_output at the corners with the input's running sums there,
  which the same walk carries along: there is no table. These sums are taken from below and from the right, where they
  vanish beyond the plane.
"""

import triton
import triton.language as tl

from .triton_corners import SPAN_SIZE, corner, corners_before, load_span, store_spans
from .triton_tables import load_tile, plane_offset, span, store_as, sum_columns

# Sums over a box's outputs that its edges' gradients are made of: total (of whole rows), bottom, top, right, left.
SUMS = tl.constexpr(5)


@triton.jit
def store_sum(p_sum, products, GROUPS: tl.constexpr):
    """Sum of ``products`` (T, CW) in GROUPS parts: one a warp, so that none waits for another."""
    T: tl.constexpr = products.shape[0]
    CW: tl.constexpr = products.shape[1]
    folded = tl.sum(tl.reshape(products, [T // GROUPS, GROUPS, CW]), 0)
    tl.store(p_sum + tl.arange(0, GROUPS), tl.sum(folded, 1))


@triton.jit
def rows_of_plane(
    p_grad, p_input, p_spans, p_below, p_below_next, p_carry, p_carry_next, p_grad_input, p_sums,
    p, remaining, per_channel, h, w, h_out, w_out, stride, grad_channel_stride, grad_row_stride, row_stride, slots,
    ABOVE: tl.constexpr, DENSE: tl.constexpr, BY_INPUT: tl.constexpr, BY_BOXES: tl.constexpr,
    T: tl.constexpr, GROUPS: tl.constexpr, R: tl.constexpr, CW: tl.constexpr,
):  # fmt: skip
    """One tile of T = R rows ``p``, or (ABOVE, T = 1, p = -1) all that is above the plane.

    ``p_below`` (w): column sums of the input from the first of the rows down, ``remaining`` their sum; ``p_carry`` (w):
    what the rows before add to each row of the gradient by the input. Both are written anew for the next tile, to other
    memory, because threads that are ahead must not change what others have yet to read. ``p_sums``: where the tile's
    sums for the edges of the first box begin, GROUPS for each block of columns and for what is left of the plane; box m
    and sum s are 5 * m + s times ``slots`` further on. Strides and ``slots`` are int64. Returns the rows' pixels' sum.
    """
    in_rows = tl.zeros([T], tl.float64)  # sums of the rows' pixels
    if BY_BOXES and not ABOVE:
        for c in range(0, w, CW):
            in_rows += tl.sum(load_tile(p_input, p, c + tl.arange(0, CW), h, w, row_stride), 1)
    from_rows = remaining - (tl.cumsum(in_rows, 0) - in_rows)  # sums of the rows and all below

    # What is left of the plane. There, sums over columns are sums over whole rows.
    corners = tl.zeros([T, CW], tl.float64)
    over_columns = tl.zeros([T, CW], tl.float64)
    for m in range(0, per_channel):
        top, bottom, top_part, bottom_part, whole_rows, inverse_rows = load_span(p_spans + m * SPAN_SIZE)
        left, right, left_part, right_part, whole, inverse = load_span(p_spans + m * SPAN_SIZE + 6)
        p_plane = p_grad + m * grad_channel_stride
        at_bottom = corners_before(
            p_plane, p, bottom, left, right, h, h_out, w_out, grad_row_stride, stride, ABOVE, DENSE, R, CW
        )
        at_top = corners_before(
            p_plane, p, top, left, right, h, h_out, w_out, grad_row_stride, stride, ABOVE, DENSE, R, CW
        )
        if BY_INPUT:
            weight = inverse_rows * inverse * whole
            corners += (weight * whole_rows) * (at_bottom - at_top)
            over_columns += (weight * bottom_part) * at_bottom - (weight * top_part) * at_top
        if BY_BOXES:
            p_sum = p_sums + m * SUMS * slots
            store_sum(p_sum, whole * (at_bottom - at_top) * from_rows[:, None], GROUPS)
            store_sum(p_sum + slots, -whole * at_bottom * in_rows[:, None], GROUPS)
            store_sum(p_sum + 2 * slots, -whole * at_top * in_rows[:, None], GROUPS)
            nothing = tl.zeros([GROUPS], tl.float64)
            tl.store(p_sum + 3 * slots + tl.arange(0, GROUPS), nothing)
            tl.store(p_sum + 4 * slots + tl.arange(0, GROUPS), nothing)

    left_corners = tl.sum(corners, 1)  # here and below: the same of all columns before this block
    left_over_columns = tl.sum(over_columns, 1)
    left_rows = tl.zeros([T], tl.float64)
    left_from = tl.zeros([T], tl.float64)
    for c in range(0, w, CW):
        q = c + tl.arange(0, CW)
        inside_q = q < w
        # The input's running sums from the far end: in both axes, along rows, along columns, and pixels themselves.
        both = tl.zeros([T, CW], tl.float64)
        along_columns = tl.zeros([T, CW], tl.float64)
        along_rows = tl.zeros([T, CW], tl.float64)
        x = tl.zeros([T, CW], tl.float64)
        if BY_BOXES:
            below = tl.load(p_below + q, mask=inside_q, other=0.0)
            along_columns += below[None, :]
            if not ABOVE:
                x = load_tile(p_input, p, q, h, w, row_stride)
                along_columns -= tl.cumsum(x, 0) - x
                along_rows = (in_rows - left_rows)[:, None] - (tl.cumsum(x, 1) - x)
                left_rows += tl.sum(x, 1)
            both = (from_rows - left_from)[:, None] - (tl.cumsum(along_columns, 1) - along_columns)
            left_from += tl.sum(along_columns, 1)
            tl.store(p_below_next + q, below - tl.sum(x, 0), mask=inside_q)

        # What the corners leave behind: to be integrated over both axes, over rows, over columns, over neither.
        corners = tl.zeros([T, CW], tl.float64)
        over_rows = tl.zeros([T, CW], tl.float64)
        over_columns = tl.zeros([T, CW], tl.float64)
        pixels = tl.zeros([T, CW], tl.float64)
        for m in range(0, per_channel):
            top, bottom, top_part, bottom_part, whole_rows, inverse_rows = load_span(p_spans + m * SPAN_SIZE)
            left, right, left_part, right_part, whole, inverse = load_span(p_spans + m * SPAN_SIZE + 6)
            p_plane = p_grad + m * grad_channel_stride
            bottom_right = corner(
                p_plane, p, q, bottom, right, h, w, h_out, w_out, grad_row_stride, stride, ABOVE, DENSE, R, CW
            )
            bottom_left = corner(
                p_plane, p, q, bottom, left, h, w, h_out, w_out, grad_row_stride, stride, ABOVE, DENSE, R, CW
            )
            top_right = corner(
                p_plane, p, q, top, right, h, w, h_out, w_out, grad_row_stride, stride, ABOVE, DENSE, R, CW
            )
            top_left = corner(
                p_plane, p, q, top, left, h, w, h_out, w_out, grad_row_stride, stride, ABOVE, DENSE, R, CW
            )
            at_right = bottom_right - top_right
            at_left = bottom_left - top_left
            part_right = bottom_part * bottom_right - top_part * top_right
            part_left = bottom_part * bottom_left - top_part * top_left
            if BY_INPUT:
                inverse *= inverse_rows
                weight = inverse * whole_rows
                corners += (weight * whole) * (at_right - at_left)
                over_rows += (weight * right_part) * at_right - (weight * left_part) * at_left
                over_columns += (inverse * whole) * (part_right - part_left)
                pixels += (inverse * right_part) * part_right - (inverse * left_part) * part_left
            if BY_BOXES:
                p_sum = p_sums + m * SUMS * slots + (c // CW + 1) * GROUPS
                to_right = right_part * x - whole * along_rows
                to_left = left_part * x - whole * along_rows
                parts = right_part * at_right - left_part * at_left
                store_sum(p_sum, whole * (at_right - at_left) * both - parts * along_columns, GROUPS)
                store_sum(p_sum + slots, bottom_right * to_right - bottom_left * to_left, GROUPS)
                store_sum(p_sum + 2 * slots, top_right * to_right - top_left * to_left, GROUPS)
                store_sum(p_sum + 3 * slots, part_right * x - whole_rows * at_right * along_columns, GROUPS)
                store_sum(p_sum + 4 * slots, part_left * x - whole_rows * at_left * along_columns, GROUPS)
        if BY_INPUT:
            down = tl.cumsum(corners, 1) + left_corners[:, None] - over_rows
            left_corners += tl.sum(corners, 1)
            carry = tl.load(p_carry + q, mask=inside_q, other=0.0)
            if not ABOVE:
                across = tl.cumsum(over_columns, 1) + left_over_columns[:, None]
                left_over_columns += tl.sum(over_columns, 1)
                gradient = (tl.cumsum(down, 0) + carry[None, :]) - across + pixels
                store_as(
                    p_grad_input + p.to(tl.int64)[:, None] * w + q[None, :],
                    gradient,
                    (p < h)[:, None] & inside_q[None, :],
                )
            tl.store(p_carry_next + q, carry + tl.sum(down, 0), mask=inside_q)
    return tl.sum(in_rows, 0)


_SIZES = ["channels", "per_channel", "h", "w", "h_out", "w_out", "stride", "planes", "bands", "band"]
_STRIDES = [f"{of}_{axis}_stride" for of in ("grad", "input") for axis in ("batch", "channel", "row")]


@triton.jit(do_not_specialize=[*_SIZES, *_STRIDES, "slots"])
def walk_bands(
    p_grad, p_input, p_boxes, p_band_sums, p_scratch, p_grad_input, p_carries, p_sums,
    planes, channels, per_channel, h, w, h_out, w_out, stride, bands, band, slots,
    grad_batch_stride, grad_channel_stride, grad_row_stride, input_batch_stride, input_channel_stride, input_row_stride,
    NORMALIZE: tl.constexpr, DENSE: tl.constexpr, BY_INPUT: tl.constexpr, BY_BOXES: tl.constexpr,
    BANDED: tl.constexpr, GROUPS: tl.constexpr, R: tl.constexpr, CW: tl.constexpr, MB: tl.constexpr,
):  # fmt: skip
    """Gradients of whole planes, or (BANDED) of bands of rows: a program does one, then goes on to another.

    ``p_scratch`` has 12 * per_channel + 4 * w numbers a program, ``p_sums`` (planes, M, 5, slots) takes the tiles'
    sums for the edges: those of what is above the plane first. BANDED: ``p_band_sums`` are those of `sum_bands`;
    ``p_grad_input`` (planes, h, w), float64, and ``p_carries`` (planes, bands, w) are for `add_bands` to finish.
    """
    grad_channel_stride = grad_channel_stride.to(tl.int64)
    grad_row_stride = grad_row_stride.to(tl.int64)
    row_stride = input_row_stride.to(tl.int64)
    slots = slots.to(tl.int64)
    first = tl.program_id(0).to(tl.int64)
    p_spans = p_scratch + first * (per_channel * SPAN_SIZE + 4 * w)
    p_below = p_spans + per_channel * SPAN_SIZE
    p_carry = p_below + 2 * w
    blocks = (w + CW - 1) // CW + 1
    for item in range(first, planes * bands.to(tl.int64), tl.num_programs(0)):
        plane = item // bands
        channel = plane % channels
        begin = item % bands * band
        end = tl.minimum(begin + band, h)
        p_plane = p_input + plane_offset(plane, channels, input_batch_stride, input_channel_stride)
        p_plane_grad = p_grad + (
            plane // channels * grad_batch_stride.to(tl.int64) + channel * per_channel * grad_channel_stride
        )
        p_plane_sums = p_sums + plane * per_channel * SUMS * slots
        p_plane_out = p_grad_input + plane * h * w
        store_spans(p_spans, p_boxes + channel * per_channel * 4, per_channel, h, w, NORMALIZE, MB)
        remaining = tl.zeros([1], tl.float64)
        if BY_BOXES:
            if BANDED:
                for c in range(0, w, CW):
                    q = c + tl.arange(0, CW)
                    columns = tl.zeros([CW], tl.float64)
                    for number in range(item % bands, bands):
                        columns += tl.load(p_band_sums + (plane * bands + number) * w + q, mask=q < w, other=0.0)
                    tl.store(p_below + q, columns, mask=q < w)
                    remaining += tl.sum(columns, 0)
            else:
                remaining = sum_columns(p_below, p_plane, 0, h, w, row_stride, R, CW)
        for c in range(0, w, CW):
            q = c + tl.arange(0, CW)
            tl.store(p_carry + q, tl.zeros([CW], tl.float64), mask=q < w)
        tl.debug_barrier()
        now = begin * 0
        if begin == 0:
            rows_of_plane(
                p_plane_grad, p_plane, p_spans, p_below, p_below + w, p_carry, p_carry + w, p_plane_out, p_plane_sums,
                tl.zeros([1], tl.int32) - 1, remaining, per_channel, h, w, h_out, w_out, stride,
                grad_channel_stride, grad_row_stride, row_stride, slots,
                True, DENSE, BY_INPUT, BY_BOXES, 1, 1, R, CW,
            )  # fmt: skip
            tl.debug_barrier()
            now = 1 - now
        for r in range(begin, end, R):
            done = rows_of_plane(
                p_plane_grad, p_plane, p_spans, p_below + now * w, p_below + (1 - now) * w,
                p_carry + now * w, p_carry + (1 - now) * w, p_plane_out,
                p_plane_sums + blocks + r // R * blocks * GROUPS,
                (r + tl.arange(0, R)).to(tl.int32), remaining, per_channel, h, w, h_out, w_out, stride,
                grad_channel_stride, grad_row_stride, row_stride, slots,
                False, DENSE, BY_INPUT, BY_BOXES, R, GROUPS, R, CW,
            )  # fmt: skip
            remaining -= done
            tl.debug_barrier()
            now = 1 - now
        if BANDED and BY_INPUT:
            for c in range(0, w, CW):
                q = c + tl.arange(0, CW)
                carry = tl.load(p_carry + now * w + q, mask=q < w, other=0.0)
                tl.store(p_carries + item * w + q, carry, mask=q < w)
        tl.debug_barrier()


@triton.jit(do_not_specialize=["h", "w", "bands", "band"])
def add_bands(
    p_bands, p_carries, p_grad_input, h, w, bands, band, R: tl.constexpr, CW: tl.constexpr
):  # fmt: skip
    """To each band's part of the gradient by the input, what the bands above it add to rows; a band to a program."""
    item = tl.program_id(0).to(tl.int64)
    plane = item // bands
    begin = (item % bands).to(tl.int32) * band
    end = tl.minimum(begin + band, h)
    p_to = p_grad_input + plane * h * w
    p_from = p_bands + plane * h * w
    for c in range(0, w, CW):
        q = c + tl.arange(0, CW)
        carry = tl.zeros([CW], tl.float64)
        for number in range(plane * bands, item):
            carry += tl.load(p_carries + number * w + q, mask=q < w, other=0.0)
        for r in range(begin, end, R):
            p = r + tl.arange(0, R)
            offset = p.to(tl.int64)[:, None] * w + q[None, :]
            inside = (p < end)[:, None] & (q < w)[None, :]
            store_as(p_to + offset, tl.load(p_from + offset, mask=inside, other=0.0) + carry[None, :], inside)


@triton.jit(do_not_specialize=["batch", "boxes", "h", "w", "slots"])
def edge_gradients(
    p_sums, p_boxes, p_grad_boxes, batch, boxes, h, w, slots, NORMALIZE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Gradients of a box's four edges, equation (6), from its sums in all planes; a box to a program."""
    box = tl.program_id(0).to(tl.int64)
    total = tl.zeros([BLOCK], tl.float64)
    by_bottom = tl.zeros([BLOCK], tl.float64)
    by_top = tl.zeros([BLOCK], tl.float64)
    by_right = tl.zeros([BLOCK], tl.float64)
    by_left = tl.zeros([BLOCK], tl.float64)
    for b in range(0, batch):
        p_plane = p_sums + (boxes.to(tl.int64) * b + box) * SUMS * slots
        for start in range(0, slots, BLOCK):
            slot = start + tl.arange(0, BLOCK)
            mask = slot < slots
            total += tl.load(p_plane + slot, mask=mask, other=0.0)
            by_bottom += tl.load(p_plane + slots + slot, mask=mask, other=0.0)
            by_top += tl.load(p_plane + 2 * slots + slot, mask=mask, other=0.0)
            by_right += tl.load(p_plane + 3 * slots + slot, mask=mask, other=0.0)
            by_left += tl.load(p_plane + 4 * slots + slot, mask=mask, other=0.0)
    p_box = p_boxes + box * 4
    top, bottom, top_part, bottom_part, whole_rows, inverse_rows = span(
        tl.load(p_box).to(tl.float64), tl.load(p_box + 1).to(tl.float64), h, NORMALIZE
    )
    left, right, left_part, right_part, whole, inverse_columns = span(
        tl.load(p_box + 2).to(tl.float64), tl.load(p_box + 3).to(tl.float64), w, NORMALIZE
    )
    inverse = inverse_rows * inverse_columns
    bottom_sum = tl.sum(by_bottom, 0)
    top_sum = tl.sum(by_top, 0)
    by_height = inverse * 0
    by_width = inverse * 0
    if NORMALIZE:
        total_sum = whole_rows * tl.sum(total, 0) + bottom_part * bottom_sum - top_part * top_sum
        by_height = total_sum * inverse * inverse_rows
        by_width = total_sum * inverse * inverse_columns
    p_to = p_grad_boxes + box * 4
    store_as(p_to, by_height - inverse * top_sum, None)
    store_as(p_to + 1, inverse * bottom_sum - by_height, None)
    store_as(p_to + 2, by_width - inverse * tl.sum(by_left, 0), None)
    store_as(p_to + 3, inverse * tl.sum(by_right, 0) - by_width, None)
