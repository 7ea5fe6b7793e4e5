"""Triton kernels of the forward pass.

A plane's table P[p][q] = sum of the input above row p and left of column q is built in scratch memory, which stays in a
near cache, and then read by all boxes of the channel. `box_planes` does both in one launch, a plane to a program; where
planes are too few or their tables too large for that, `build_bands` and `box_bands` share them out by bands of rows.
"""

import triton
import triton.language as tl

from .triton_tables import build_table, fill_row, plane_offset, span, store_as


@triton.jit
def between_edges(
    p_table, k, h, pitch, right0, right1, left0, left1, live, live_right, live_left, high_part, low_part, whole
):  # fmt: skip
    """Sums of the rows above ``k`` (G), clamped to the plane, from the left to the right edge of a box: (G, CW)."""
    p_row = p_table + (tl.minimum(tl.maximum(k, 0), h) * pitch + 1)[:, None]
    at_right = tl.load(p_row + right0[None, :], mask=live[None, :], other=0.0)
    at_left = tl.load(p_row + left0[None, :], mask=live[None, :], other=0.0)
    after_right = tl.load(p_row + right1[None, :], mask=live_right[None, :], other=0.0)
    after_left = tl.load(p_row + left1[None, :], mask=live_left[None, :], other=0.0)
    return ((whole - high_part) * at_right + high_part * after_right) - (
        (whole - low_part) * at_left + low_part * after_left
    )


@triton.jit
def write_box(
    p_output, p_residual, p_scale, p_shift, p_boxes, p_table, plane, channels, per_channel, m, begin, end,
    h, w, h_out, w_out, stride, pitch,
    NORMALIZE: tl.constexpr, DENSE: tl.constexpr, RELU: tl.constexpr, G: tl.constexpr, CW: tl.constexpr,
):  # fmt: skip
    """Output rows begin..end-1 of box ``m``: relu(residual + scale * box + shift), all but the box optional.

    The tile's G rows are ``chunk`` rows apart and walk down together. Where the stride is 1 (DENSE), an output row
    shares a row of the table with the next one.
    """
    box = (plane % channels) * per_channel + m
    p_box = p_boxes + box * 4
    top, bottom, top_part, bottom_part, whole_rows, inverse_rows = span(
        tl.load(p_box).to(tl.float64), tl.load(p_box + 1).to(tl.float64), h, NORMALIZE
    )
    left, right, left_part, right_part, whole, inverse = span(
        tl.load(p_box + 2).to(tl.float64), tl.load(p_box + 3).to(tl.float64), w, NORMALIZE
    )
    inverse = inverse_rows * inverse
    scale = inverse * 0 + 1
    shift = inverse * 0
    if p_scale is not None:
        scale = tl.load(p_scale + box).to(tl.float64)
    if p_shift is not None:
        shift = tl.load(p_shift + box).to(tl.float64)
    output_plane = (plane * per_channel + m) * h_out * w_out
    chunk = (end - begin + G - 1) // G
    first = begin + tl.arange(0, G) * chunk
    for c in range(0, w_out, CW):
        j = c + tl.arange(0, CW)
        live = j < w_out
        # An edge on a pixel border needs half the loads.
        live_right = j < tl.where(right_part != 0, w_out, 0)
        live_left = j < tl.where(left_part != 0, w_out, 0)
        n = tl.minimum(j, w_out - 1) * stride
        right0 = tl.minimum(tl.maximum(n + right, 0), w)
        right1 = tl.minimum(tl.maximum(n + right + 1, 0), w)
        left0 = tl.minimum(tl.maximum(n + left, 0), w)
        left1 = tl.minimum(tl.maximum(n + left + 1, 0), w)
        to_bottom = between_edges(
            p_table, first * stride + bottom, h, pitch, right0, right1, left0, left1, live, live_right, live_left,
            right_part, left_part, whole,
        )  # fmt: skip
        to_top = between_edges(
            p_table, first * stride + top, h, pitch, right0, right1, left0, left1, live, live_right, live_left,
            right_part, left_part, whole,
        )  # fmt: skip
        for s in range(0, chunk):
            i = first + s
            k = i * stride
            if not DENSE:
                to_bottom = between_edges(
                    p_table, k + bottom, h, pitch, right0, right1, left0, left1, live, live_right, live_left,
                    right_part, left_part, whole,
                )  # fmt: skip
                to_top = between_edges(
                    p_table, k + top, h, pitch, right0, right1, left0, left1, live, live_right, live_left,
                    right_part, left_part, whole,
                )  # fmt: skip
            past_bottom = between_edges(
                p_table, k + bottom + 1, h, pitch, right0, right1, left0, left1, live, live_right, live_left,
                right_part, left_part, whole,
            )  # fmt: skip
            past_top = between_edges(
                p_table, k + top + 1, h, pitch, right0, right1, left0, left1, live, live_right, live_left,
                right_part, left_part, whole,
            )  # fmt: skip
            value = ((whole_rows - bottom_part) * to_bottom + bottom_part * past_bottom) - (
                (whole_rows - top_part) * to_top + top_part * past_top
            )
            value = value * inverse
            inside = (i < end)[:, None] & live[None, :]
            offset = output_plane + i.to(tl.int64)[:, None] * w_out + j[None, :]
            if p_scale is not None:
                value = value * scale
            if p_shift is not None:
                value = value + shift
            if p_residual is not None:
                value = value + tl.load(p_residual + offset, mask=inside, other=0.0).to(tl.float64)
            if RELU:
                value = tl.where(value < 0, 0.0, value)  # NaN stays
            store_as(p_output + offset, value, inside)
            to_bottom = past_bottom
            to_top = past_top


_SIZES = ["planes", "channels", "per_channel", "h", "w", "h_out", "w_out", "stride", "sixteenths"]
_STRIDES = ["batch_stride", "channel_stride", "row_stride"]


@triton.jit(do_not_specialize=[*_SIZES, *_STRIDES, "parts"])
def box_planes(
    p_input, p_boxes, p_output, p_scale, p_shift, p_residual, p_tables,
    planes, channels, per_channel, h, w, h_out, w_out, stride, sixteenths,
    batch_stride, channel_stride, row_stride, parts,
    NORMALIZE: tl.constexpr, DENSE: tl.constexpr, RELU: tl.constexpr,
    R: tl.constexpr, CW: tl.constexpr, G: tl.constexpr, CW_OUT: tl.constexpr,
):  # fmt: skip
    """Whole planes: a program builds a plane's table in scratch of its own (h + 1, pitch), and writes one of ``parts``
    equal parts of the channel's boxes; then it goes on to another plane."""
    pitch = sixteenths.to(tl.int64) * 16
    first = tl.program_id(0).to(tl.int64)
    p_table = p_tables + first * (h + 1) * pitch
    fill_row(p_table, w + 2, 0.0, CW)
    tl.debug_barrier()
    for item in range(first, planes * parts.to(tl.int64), tl.num_programs(0)):
        plane = item // parts
        p_plane = p_input + plane_offset(plane, channels, batch_stride, channel_stride)
        build_table(p_table, p_table, p_plane, 0, h, w, row_stride.to(tl.int64), pitch, R, CW)
        for m in range(item % parts, per_channel, parts):
            write_box(
                p_output, p_residual, p_scale, p_shift, p_boxes, p_table, plane, channels, per_channel, m, 0, h_out,
                h, w, h_out, w_out, stride, pitch, NORMALIZE, DENSE, RELU, G, CW_OUT,
            )  # fmt: skip
        tl.debug_barrier()


@triton.jit(do_not_specialize=["first_plane", "channels", "h", "w", "sixteenths", *_STRIDES, "bands", "band"])
def build_bands(
    p_input, p_sums, p_tables, p_above, first_plane, channels, h, w, sixteenths,
    batch_stride, channel_stride, row_stride, bands, band, R: tl.constexpr, CW: tl.constexpr,
):  # fmt: skip
    """Tables (planes, h + 1, pitch) of planes from ``first_plane`` on, one band of rows to a program.

    ``p_sums`` are the bands' column sums of `sum_bands`, from which each program makes its row to start from, in
    ``p_above`` (planes, bands, pitch).
    """
    pitch = sixteenths.to(tl.int64) * 16
    item = tl.program_id(0).to(tl.int64)
    local = item // bands
    plane = first_plane + local
    number = (item % bands).to(tl.int32)
    p_table = p_tables + local * (h + 1) * pitch
    p_row = p_above + item * pitch
    left = tl.zeros([1], tl.float64)
    tl.store(p_row + 1 + tl.arange(0, 1), left)
    for c in range(0, w, CW):
        q = c + tl.arange(0, CW)
        columns = tl.zeros([CW], tl.float64)
        for above in range(0, number):
            columns += tl.load(p_sums + (plane * bands + above) * w + q, mask=q < w, other=0.0)
        tl.store(p_row + q + 2, tl.cumsum(columns, 0) + left, mask=q < w)
        left += tl.sum(columns, 0)
    if number == 0:
        fill_row(p_table, w + 2, 0.0, CW)
    tl.debug_barrier()
    begin = number * band
    p_plane = p_input + plane_offset(plane, channels, batch_stride, channel_stride)
    build_table(p_table, p_row, p_plane, begin, tl.minimum(begin + band, h), w, row_stride.to(tl.int64), pitch, R, CW)


@triton.jit(do_not_specialize=["first_plane", *_SIZES[1:], "strips", "strip"])
def box_bands(
    p_boxes, p_output, p_scale, p_shift, p_residual, p_tables,
    first_plane, channels, per_channel, h, w, h_out, w_out, stride, sixteenths, strips, strip,
    NORMALIZE: tl.constexpr, DENSE: tl.constexpr, RELU: tl.constexpr, G: tl.constexpr, CW: tl.constexpr,
):  # fmt: skip
    """One strip of ``strip`` output rows of one box to a program, from the tables of `build_bands`."""
    item = tl.program_id(0).to(tl.int64)
    local = item // strips // per_channel
    m = (item // strips % per_channel).to(tl.int32)
    pitch = sixteenths.to(tl.int64) * 16
    begin = (item % strips).to(tl.int32) * strip
    write_box(
        p_output, p_residual, p_scale, p_shift, p_boxes, p_tables + local * (h + 1) * pitch, first_plane + local,
        channels, per_channel, m, begin, tl.minimum(begin + strip, h_out), h, w, h_out, w_out, stride, pitch,
        NORMALIZE, DENSE, RELU, G, CW,
    )  # fmt: skip
