"""Triton kernels of the forward pass: every lane owns an output column of a box and walks down its rows.

With spans as in integral.py, write  C[k] = P[k][j + right] - P[k][j + left]  for the whole columns above row k, and
f[p] = right_part * x[p, j + right] - left_part * x[p, j + left]  for the parts of pixels. Then row p of the image adds
D[p] = C[p + 1] - C[p] + f[p]  to a box that reaches over it, and the box at output row i, n = i * stride, is

    whole_rows * (sum of D[p] over n + top <= p < n + bottom) + bottom_part * D[n + bottom] - top_part * D[n + top].

One row down, the sum gains D[n + bottom] and loses D[n + top]: four numbers of the integral image and four pixels an
output, no barrier, nothing shared. It starts from the integral image, at any row. A lane is (chunk of rows, column) in
one dimension: neighbouring threads have neighbouring columns, whatever layout a compiler prefers.
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


@triton.jit
def finish(p_output, p_residual, at, value, shift, inside, RELU: tl.constexpr):
    """relu(residual + value + shift), of which all but the value may be absent."""
    if shift is not None:
        value += shift
    if p_residual is not None:
        value += tl.load(p_residual + at, mask=inside, other=0.0).to(tl.float64)
    if RELU:
        value = tl.where(value < 0, 0.0, value)  # NaN stays
    store_as(p_output + at, value, inside)


@triton.jit
def write_box(
    p_output, p_residual, p_scale, p_shift, p_boxes, p_plane, p_integral, plane, channels, per_channel, m, begin, end,
    h, w, h_out, w_out, stride, chunks, row_stride, pitch,
    NORMALIZE: tl.constexpr, DENSE: tl.constexpr, RELU: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Output rows begin..end-1 of box ``m`` in ``chunks`` of rows: relu(residual + scale * box + shift).

    Where the stride is 1 (DENSE), a row shares what it has read with the next one. A box with scale 0 is not computed.
    """
    box = (plane % channels) * per_channel + m
    offset = (plane * per_channel + m) * h_out * w_out
    p_output += offset
    if p_residual is not None:
        p_residual += offset
    shift = None if p_shift is None else tl.load(p_shift + box).to(tl.float64)
    scale = 1.0 if p_scale is None else tl.load(p_scale + box).to(tl.float64)
    if p_scale is not None and scale == 0:
        write_shift(p_output, p_residual, shift, begin, end, w_out, RELU, LANES)
    else:
        walk_box(
            p_output, p_residual, p_boxes + box * 4, p_plane, p_integral, scale, shift, begin, end,
            h, w, w_out, stride, chunks, row_stride, pitch, NORMALIZE, DENSE, RELU, LANES,
        )  # fmt: skip


@triton.jit
def write_shift(p_output, p_residual, shift, begin, end, w_out, RELU: tl.constexpr, LANES: tl.constexpr):
    last = end.to(tl.int64) * w_out
    for start in range(begin.to(tl.int64) * w_out, last, LANES):
        at = start + tl.arange(0, LANES)
        finish(p_output, p_residual, at, tl.zeros([LANES], tl.float64), shift, at < last, RELU)


@triton.jit
def start_walk(
    p_plus, p_minus, p_integral, at_right, at_left, inside_right, inside_left, right_part, left_part,
    bottom, top, h_bottom, h_top, pitch,
):  # fmt: skip
    """C[bottom], C[top], and the sum of D over the rows between, from the integral image alone."""
    to_bottom = across(p_plus, p_minus, bottom, h_bottom, pitch)
    to_top = across(p_plus, p_minus, top, h_top, pitch)
    # A column of parts of pixels that is not inside has no width.
    p_right = p_integral + tl.where(inside_right, at_right, 0)
    p_left = p_integral + tl.where(inside_left, at_left, 0)
    p_right_end = p_integral + tl.where(inside_right, at_right + 1, 0)
    p_left_end = p_integral + tl.where(inside_left, at_left + 1, 0)
    in_right = across(p_right_end, p_right, bottom, h_bottom, pitch) - across(p_right_end, p_right, top, h_top, pitch)
    in_left = across(p_left_end, p_left, bottom, h_bottom, pitch) - across(p_left_end, p_left, top, h_top, pitch)
    return to_bottom, to_top, to_bottom - to_top + (right_part * in_right - left_part * in_left)


@triton.jit
def walk_box(
    p_output, p_residual, p_box, p_plane, p_integral, scale, shift, begin, end,
    h, w, w_out, stride, chunks, row_stride, pitch,
    NORMALIZE: tl.constexpr, DENSE: tl.constexpr, RELU: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    (
        top, bottom, top_part, bottom_part, whole_rows, inverse_rows,
        left, right, left_part, right_part, whole, inverse,
    ) = load_box(p_box, h, w, NORMALIZE)  # fmt: skip
    weight = inverse_rows * inverse * scale
    # What has no weight is not read: it may be a NaN. So rows and columns end at 0 where they have none.
    h_bottom = tl.where((whole_rows != 0) | (bottom_part != 0), h, 0)
    h_top = tl.where((whole_rows != 0) | (top_part != 0), h, 0)
    w_whole = tl.where(whole != 0, w, 0)
    w_right = tl.where(right_part != 0, w, 0)
    w_left = tl.where(left_part != 0, w, 0)
    rows = (end - begin + chunks - 1) // chunks
    for start in range(0, chunks * w_out, LANES):
        lane = start + tl.arange(0, LANES)
        j = lane % w_out
        chunk = lane // w_out
        first = begin + chunk * rows
        last = tl.where(chunk < chunks, tl.minimum(first + rows, end), begin)
        at_right = j * stride + right
        at_left = j * stride + left
        p_plus = p_integral + clamped(at_right, w_whole)
        p_minus = p_integral + clamped(at_left, w_whole)
        p_right = p_plane + at_right
        p_left = p_plane + at_left
        inside_right = (at_right >= 0) & (at_right < w_right)
        inside_left = (at_left >= 0) & (at_left < w_left)
        bottom_right = tl.where(inside_right, h_bottom, 0)
        bottom_left = tl.where(inside_left, h_bottom, 0)
        top_right = tl.where(inside_right, h_top, 0)
        top_left = tl.where(inside_left, h_top, 0)
        to_bottom, to_top, inner = start_walk(
            p_plus, p_minus, p_integral, at_right, at_left, inside_right, inside_left, right_part, left_part,
            first * stride + bottom, first * stride + top, h_bottom, h_top, pitch,
        )  # fmt: skip
        for s in range(0, rows):
            i = first + s
            n = i
            if not DENSE:
                n = i * stride
                to_bottom, to_top, inner = start_walk(
                    p_plus, p_minus, p_integral, at_right, at_left, inside_right, inside_left, right_part, left_part,
                    n + bottom, n + top, h_bottom, h_top, pitch,
                )  # fmt: skip
            past_bottom = across(p_plus, p_minus, n + bottom + 1, h_bottom, pitch)
            past_top = across(p_plus, p_minus, n + top + 1, h_top, pitch)
            entered = right_part * pixels(p_right, n + bottom, bottom_right, row_stride)
            entered -= left_part * pixels(p_left, n + bottom, bottom_left, row_stride)
            left_behind = right_part * pixels(p_right, n + top, top_right, row_stride)
            left_behind -= left_part * pixels(p_left, n + top, top_left, row_stride)
            entered += past_bottom - to_bottom
            left_behind += past_top - to_top
            value = tl.where(whole_rows != 0, inner, 0.0) + bottom_part * entered - top_part * left_behind
            finish(p_output, p_residual, i.to(row_stride.dtype) * w_out + j, value * weight, shift, i < last, RELU)
            inner += entered - left_behind
            to_bottom = past_bottom
            to_top = past_top


_SIZES = ["channels", "per_channel", "h", "w", "h_out", "w_out", "stride", "sixteenths", "chunks"]
_STRIDES = ["batch_stride", "channel_stride", "row_stride"]


@triton.jit(do_not_specialize=["planes", *_SIZES, *_STRIDES, "parts"])
def box_planes(
    p_image, p_boxes, p_output, p_scale, p_shift, p_residual, p_integrals,
    planes, channels, per_channel, h, w, h_out, w_out, stride, sixteenths, chunks,
    batch_stride, channel_stride, row_stride, parts,
    NORMALIZE: tl.constexpr, DENSE: tl.constexpr, RELU: tl.constexpr, WIDE: tl.constexpr,
    STEP: tl.constexpr, G: tl.constexpr, K: tl.constexpr, E: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Whole planes: a program builds a plane's integral image in scratch of its own (h + 1, pitch), and writes one of
    ``parts`` equal parts of the channel's boxes; then it goes on to another plane."""
    pitch = sixteenths.to(tl.int64) * 16
    first = tl.program_id(0).to(tl.int64)
    p_integral = p_integrals + first * (h + 1) * pitch
    clear_borders(p_integral, 0, h + 1, w, pitch, G * K)
    tl.debug_barrier()
    for item in range(first, planes * parts.to(tl.int64), tl.num_programs(0)):
        plane = item // parts
        p_plane = p_image + plane_offset(plane, channels, batch_stride, channel_stride, STEP)
        build_integral_image(
            p_integral, p_integral, 0, p_plane, 0, h, h, w, multiple(row_stride, STEP), pitch, STEP, G, K, E
        )  # fmt: skip
        for m in range((item % parts).to(tl.int32), per_channel, parts):
            write_box(
                p_output, p_residual, p_scale, p_shift, p_boxes, p_plane, p_integral + 1, plane, channels, per_channel,
                m, h_out * 0, h_out, h, w, h_out, w_out, stride, chunks, index(row_stride, WIDE), index(pitch, WIDE),
                NORMALIZE, DENSE, RELU, LANES,
            )  # fmt: skip
        tl.debug_barrier()


@triton.jit(do_not_specialize=["first_plane", *_SIZES, *_STRIDES, "strips", "strip"])
def box_bands(
    p_image, p_boxes, p_output, p_scale, p_shift, p_residual, p_integrals,
    first_plane, channels, per_channel, h, w, h_out, w_out, stride, sixteenths, chunks,
    batch_stride, channel_stride, row_stride, strips, strip,
    NORMALIZE: tl.constexpr, DENSE: tl.constexpr, RELU: tl.constexpr, WIDE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """One strip of ``strip`` output rows of one box to a program, from the integral images of `build_bands`."""
    item = tl.program_id(0).to(tl.int64)
    local = item // strips // per_channel
    plane = first_plane + local
    m = (item // strips % per_channel).to(tl.int32)
    pitch = sixteenths.to(tl.int64) * 16
    begin = (item % strips).to(tl.int32) * strip
    p_plane = p_image + plane_offset(plane, channels, batch_stride, channel_stride, 1)
    write_box(
        p_output, p_residual, p_scale, p_shift, p_boxes, p_plane, p_integrals + local * (h + 1) * pitch + 1, plane,
        channels, per_channel, m, begin, tl.minimum(begin + strip, h_out), h, w, h_out, w_out, stride, chunks,
        index(row_stride, WIDE), index(pitch, WIDE), NORMALIZE, DENSE, RELU, LANES,
    )  # fmt: skip
