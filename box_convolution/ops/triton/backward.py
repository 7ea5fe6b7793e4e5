"""Triton kernels of the backward pass: the forward walk, over grad_output, by lanes that own a column of pixels.

The adjoint of a box filter is a box filter. With g a box's grad_output, G its integral image, and for pixel (p, q) the
columns r = q - right and l = q - left of g, write  C[k] = G[k][l + 1] - G[k][r + 1]  for the whole columns of k rows.
Row i's share of the pixel is  H[i] = C[i + 1] - C[i] + right_part * g[i, r] - left_part * g[i, l].  At the rows
t = p - top and b = p - bottom, with V_right the sum of g[i, r] over b < i <= t, times whole_rows, plus
bottom_part * g[b, r] - top_part * g[t, r], and V_left likewise,

    A = whole_rows * (C[t + 1] - C[b + 1]) + bottom_part * (C[b + 1] - C[b]) - top_part * (C[t + 1] - C[t])
        + right_part * V_right - left_part * V_left

is what the pixel's gradient gets, divided by the box's area. A box's edges get sums over all pixels of products with x:
of H[b] for the bottom, H[t] for the top, V_right, V_left, and A for the area. So nothing of x is integrated, and sums
stay in a lane's registers until its plane ends. With a stride, r, l, t and b are divided by it, and whole ones count.
"""

import triton
import triton.language as tl

from .integral import (
    across,
    build_integral_image,
    clamped,
    clear_borders,
    index,
    load_box,
    multiple,
    pixels,
    plane_offset,
    store_as,
)

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
def walk_box(
    p_grad, p_integral, p_plane, p_box, p_partial, p_grad_input, p_sums, m, per_channel, begin, end,
    h, w, h_out, w_out, stride, chunks, grad_row_stride, row_stride, pitch,
    NORMALIZE: tl.constexpr, DENSE: tl.constexpr, BY_INPUT: tl.constexpr, BY_BOXES: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Pixel rows begin..end-1 of a plane, as far as box ``m`` goes.

    The sum over boxes stands in ``p_partial`` (h, w) until the last box, and for that goes to ``p_grad_input``.
    """
    (
        top, bottom, top_part, bottom_part, whole_rows, inverse_rows,
        left, right, left_part, right_part, whole, inverse,
    ) = load_box(p_box, h, w, NORMALIZE)  # fmt: skip
    weight = inverse_rows * inverse
    w_whole = tl.where(whole != 0, w_out, 0)
    by_area = tl.zeros([LANES], tl.float64)
    by_bottom = tl.zeros([LANES], tl.float64)
    by_top = tl.zeros([LANES], tl.float64)
    by_right = tl.zeros([LANES], tl.float64)
    by_left = tl.zeros([LANES], tl.float64)
    rows = (end - begin + chunks - 1) // chunks
    for start in range(0, chunks * w, LANES):
        lane = start + tl.arange(0, LANES)
        q = lane % w
        chunk = lane // w
        first = begin + chunk * rows
        last = tl.where(chunk < chunks, tl.minimum(first + rows, end), begin)
        at_right = output_at(q, right, stride, DENSE)
        at_left = output_at(q, left, stride, DENSE)
        p_plus = p_integral + clamped(at_left + 1, w_whole)
        p_minus = p_integral + clamped(at_right + 1, w_whole)
        p_right = p_grad + at_right
        p_left = p_grad + at_left
        inside_right = (at_right >= 0) & (at_right < where_hit(q, right, at_right, w_out, stride, DENSE))
        inside_left = (at_left >= 0) & (at_left < where_hit(q, left, at_left, w_out, stride, DENSE))
        h_right = tl.where(inside_right, h_out, 0)
        h_left = tl.where(inside_left, h_out, 0)
        t = output_at(first - 1, top, stride, DENSE) + 1
        b = output_at(first - 1, bottom, stride, DENSE) + 1
        to_top = across(p_plus, p_minus, t, h_out, pitch)
        to_bottom = across(p_plus, p_minus, b, h_out, pitch)
        p_column = p_integral + tl.where(inside_right, at_right, 0)
        right_sum = across(p_column + 1, p_column, t, h_right, pitch) - across(
            p_column + 1, p_column, b, h_right, pitch
        )
        p_column = p_integral + tl.where(inside_left, at_left, 0)
        left_sum = across(p_column + 1, p_column, t, h_left, pitch) - across(p_column + 1, p_column, b, h_left, pitch)
        for s in range(0, rows):
            p = first + s
            inside = p < last
            t = output_at(p, top, stride, DENSE)
            b = output_at(p, bottom, stride, DENSE)
            past_top = across(p_plus, p_minus, t + 1, h_out, pitch)
            past_bottom = across(p_plus, p_minus, b + 1, h_out, pitch)
            t_right = where_hit(p, top, t, h_right, stride, DENSE)
            t_left = where_hit(p, top, t, h_left, stride, DENSE)
            b_right = where_hit(p, bottom, b, h_right, stride, DENSE)
            b_left = where_hit(p, bottom, b, h_left, stride, DENSE)
            top_right = pixels(p_right, t, t_right, grad_row_stride)
            top_left = pixels(p_left, t, t_left, grad_row_stride)
            bottom_right = pixels(p_right, b, b_right, grad_row_stride)
            bottom_left = pixels(p_left, b, b_left, grad_row_stride)
            right_sum += top_right - bottom_right
            left_sum += top_left - bottom_left
            top_row = past_top - to_top
            bottom_row = past_bottom - to_bottom
            to_top = past_top
            to_bottom = past_bottom
            along_right = whole_rows * right_sum + bottom_part * bottom_right - top_part * top_right
            along_left = whole_rows * left_sum + bottom_part * bottom_left - top_part * top_left
            area = whole_rows * (to_top - to_bottom) + bottom_part * bottom_row - top_part * top_row
            area += right_part * along_right - left_part * along_left
            if BY_BOXES:
                x = tl.load(p_plane + p * row_stride + q, mask=inside, other=0.0).to(tl.float64)
                by_area += x * area
                by_bottom += x * (bottom_row + right_part * bottom_right - left_part * bottom_left)
                by_top += x * (top_row + right_part * top_right - left_part * top_left)
                by_right += x * along_right
                by_left += x * along_left
            if BY_INPUT:
                at = p.to(row_stride.dtype) * w + q
                gradient = area * weight
                gradient += tl.load(p_partial + at, mask=inside & (m > 0), other=0.0).to(tl.float64)
                store_as(p_partial + at, gradient, inside & (m + 1 < per_channel))
                store_as(p_grad_input + at, gradient, inside & (m + 1 == per_channel))
    if BY_BOXES:
        tl.store(p_sums, tl.sum(by_area, 0))
        tl.store(p_sums + 1, tl.sum(by_bottom, 0))
        tl.store(p_sums + 2, tl.sum(by_top, 0))
        tl.store(p_sums + 3, tl.sum(by_right, 0))
        tl.store(p_sums + 4, tl.sum(by_left, 0))


_SIZES = ["channels", "per_channel", "h", "w", "h_out", "w_out", "stride", "sixteenths", "chunks"]
_STRIDES = [f"{of}_{axis}_stride" for of in ("grad", "input") for axis in ("batch", "channel", "row")]


@triton.jit(do_not_specialize=["planes", *_SIZES, *_STRIDES])
def grad_planes(
    p_grad, p_image, p_boxes, p_partial, p_grad_input, p_sums, p_integrals,
    planes, channels, per_channel, h, w, h_out, w_out, stride, sixteenths, chunks,
    grad_batch_stride, grad_channel_stride, grad_row_stride, input_batch_stride, input_channel_stride, input_row_stride,
    NORMALIZE: tl.constexpr, DENSE: tl.constexpr, BY_INPUT: tl.constexpr, BY_BOXES: tl.constexpr, WIDE: tl.constexpr,
    STEP: tl.constexpr, G: tl.constexpr, K: tl.constexpr, E: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Gradients of whole planes: a program integrates and walks down one box's grad_output after the other, in scratch
    of its own (h_out + 1, pitch); then it goes on to another plane. ``p_sums`` (planes, M, 5) are for `edge_gradients`.
    """
    pitch = sixteenths.to(tl.int64) * 16
    first = tl.program_id(0).to(tl.int64)
    p_integral = p_integrals + first * (h_out + 1) * pitch
    clear_borders(p_integral, 0, h_out + 1, w_out, pitch, G * K)
    tl.debug_barrier()
    for plane in range(first, planes.to(tl.int64), tl.num_programs(0)):
        channel = plane % channels
        p_plane = p_image + plane_offset(plane, channels, input_batch_stride, input_channel_stride, 1)
        for m in range(0, per_channel):
            p_plane_grad = p_grad + plane_offset(
                plane * per_channel + m, channels * per_channel, grad_batch_stride, grad_channel_stride, STEP
            )
            build_integral_image(
                p_integral, p_integral, 0, p_plane_grad, 0, h_out, h_out, w_out, multiple(grad_row_stride, STEP), pitch,
                STEP, G, K, E,
            )  # fmt: skip
            walk_box(
                p_plane_grad, p_integral + 1, p_plane, p_boxes + (channel * per_channel + m) * 4,
                p_partial + plane * h * w, p_grad_input + plane * h * w,
                p_sums + (plane * per_channel + m) * SUMS, m, per_channel, h * 0, h, h, w, h_out, w_out,
                stride, chunks, index(grad_row_stride, WIDE), index(input_row_stride, WIDE), index(pitch, WIDE),
                NORMALIZE, DENSE, BY_INPUT, BY_BOXES, LANES,
            )  # fmt: skip
            tl.debug_barrier()


@triton.jit(do_not_specialize=["first_plane", "planes", *_SIZES, *_STRIDES, "strips", "strip"])
def grad_bands(
    p_grad, p_image, p_boxes, p_partial, p_grad_input, p_sums, p_integrals,
    first_plane, planes, channels, per_channel, h, w, h_out, w_out, stride, sixteenths, chunks,
    grad_batch_stride, grad_channel_stride, grad_row_stride, input_batch_stride, input_channel_stride, input_row_stride,
    strips, strip,
    NORMALIZE: tl.constexpr, DENSE: tl.constexpr, BY_INPUT: tl.constexpr, BY_BOXES: tl.constexpr, WIDE: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    """One strip of ``strip`` pixel rows to a program, from the integral images of `build_bands`.

    ``p_sums`` (strips, planes, M, 5) are for `edge_gradients`.
    """
    item = tl.program_id(0).to(tl.int64)
    local = item // strips
    plane = first_plane + local
    number = item % strips
    begin = number.to(tl.int32) * strip
    channel = plane % channels
    pitch = sixteenths.to(tl.int64) * 16
    p_plane = p_image + plane_offset(plane, channels, input_batch_stride, input_channel_stride, 1)
    for m in range(0, per_channel):
        p_plane_grad = p_grad + plane_offset(
            plane * per_channel + m, channels * per_channel, grad_batch_stride, grad_channel_stride, 1
        )
        walk_box(
            p_plane_grad, p_integrals + (local * per_channel + m) * (h_out + 1) * pitch + 1, p_plane,
            p_boxes + (channel * per_channel + m) * 4, p_partial + plane * h * w, p_grad_input + plane * h * w,
            p_sums + ((number * planes + plane) * per_channel + m) * SUMS, m, per_channel,
            begin, tl.minimum(begin + strip, h), h, w, h_out, w_out,
            stride, chunks, index(grad_row_stride, WIDE), index(input_row_stride, WIDE), index(pitch, WIDE),
            NORMALIZE, DENSE, BY_INPUT, BY_BOXES, LANES,
        )  # fmt: skip
        tl.debug_barrier()


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
    _, _, _, _, _, inverse_rows, _, _, _, _, _, inverse_columns = load_box(p_boxes + box * 4, h, w, NORMALIZE)
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
