"""Triton: grad_output as seen from the input's pixels, which the backward pass walks along.

An output is a sum over the four corners of its box, each of which lies in a pixel (p, q), or beyond the plane. All that
the gradients need of a box are the values of grad_output at the outputs that have a corner in a pixel. Corners above or
left of the plane act as if they were at its border; those below or right of it do not act.
"""

import triton
import triton.language as tl

from .triton_tables import span

# What a box's spans are in memory, float64: low, high, low_part, high_part, whole, inverse of rows, then of columns.
SPAN_SIZE = tl.constexpr(12)


@triton.jit
def store_spans(p_spans, p_boxes, count, h, w, NORMALIZE: tl.constexpr, MB: tl.constexpr):
    """Spans of ``count`` boxes, once for all tiles of a plane."""
    for start in range(0, count, MB):
        m = start + tl.arange(0, MB)
        mask = m < count
        p_box = p_boxes + m * 4
        p_to = p_spans + m * SPAN_SIZE
        for axis in tl.static_range(2):
            low_edge = tl.load(p_box + 2 * axis, mask=mask, other=0.0).to(tl.float64)
            high_edge = tl.load(p_box + 2 * axis + 1, mask=mask, other=0.0).to(tl.float64)
            low, high, low_part, high_part, whole, inverse = span(low_edge, high_edge, h if axis == 0 else w, NORMALIZE)
            tl.store(p_to + 6 * axis, low.to(tl.float64), mask=mask)
            tl.store(p_to + 6 * axis + 1, high.to(tl.float64), mask=mask)
            tl.store(p_to + 6 * axis + 2, low_part, mask=mask)
            tl.store(p_to + 6 * axis + 3, high_part, mask=mask)
            tl.store(p_to + 6 * axis + 4, whole, mask=mask)
            tl.store(p_to + 6 * axis + 5, inverse, mask=mask)
    tl.debug_barrier()


@triton.jit
def load_span(p_span):
    low = tl.load(p_span).to(tl.int32)
    high = tl.load(p_span + 1).to(tl.int32)
    return low, high, tl.load(p_span + 2), tl.load(p_span + 3), tl.load(p_span + 4), tl.load(p_span + 5)


@triton.jit
def at_outputs(p_grad, i, j, inside_rows, inside_columns, row_stride):
    """grad_output at rows ``i`` (R) and columns ``j`` (CW), zero where not inside: (R, CW) float64."""
    mask = inside_rows[:, None] & inside_columns[None, :]
    return tl.load(p_grad + (i[:, None] * row_stride + j[None, :]), mask=mask, other=0.0).to(tl.float64)


@triton.jit
def outputs_at(n, edge, size, size_in, stride, DENSE: tl.constexpr):
    """Outputs whose ``edge`` is in the pixels ``n``, and whether there are such."""
    distance = n - edge
    if DENSE:
        return distance, (distance >= 0) & (distance < size) & (n < size_in)
    else:
        number = distance // stride
        return number, (distance >= 0) & (number < size) & (number * stride == distance) & (n < size_in)


@triton.jit
def outputs_before(edge, size, stride):
    """How many of the first outputs have their ``edge`` before the plane."""
    return tl.minimum(size, (tl.maximum(-edge, 0) + stride - 1) // stride)


@triton.jit
def corner(
    p_grad, p, q, edge_row, edge_column, h, w, h_out, w_out, row_stride, stride,
    ABOVE: tl.constexpr, DENSE: tl.constexpr, R: tl.constexpr, CW: tl.constexpr,
):  # fmt: skip
    """grad_output at the outputs with a corner in pixels ``p``, ``q``: (R, CW). ABOVE: its sum over all rows above the
    plane, (1, CW)."""
    j, inside_columns = outputs_at(q, edge_column, w_out, w, stride, DENSE)
    if ABOVE:
        count = outputs_before(edge_row, h_out, stride)
        sums = tl.zeros([R, CW], tl.float64)
        for r in range(0, count, R):
            i = r + tl.arange(0, R)
            sums += at_outputs(p_grad, i, j, i < count, inside_columns, row_stride)
        return tl.sum(sums, 0)[None, :]
    else:
        i, inside_rows = outputs_at(p, edge_row, h_out, h, stride, DENSE)
        return at_outputs(p_grad, i, j, inside_rows, inside_columns, row_stride)


@triton.jit
def add_corners_before(
    sums, p_grad, i, inside_rows, left, right, w_out, row_stride, stride, CW: tl.constexpr
):  # fmt: skip
    """To ``sums`` (R, CW), those of grad_output's rows ``i`` over outputs whose right edge is left of the plane, less
    those whose left edge is there; a row's sum is spread over its CW places."""
    rights = outputs_before(right, w_out, stride)
    lefts = outputs_before(left, w_out, stride)
    for c in range(tl.minimum(rights, lefts) // CW * CW, tl.maximum(rights, lefts), CW):
        j = c + tl.arange(0, CW)
        # Where both edges are left of the plane, they cancel.
        g = at_outputs(p_grad, i, j, inside_rows, (j < rights) != (j < lefts), row_stride)
        sums += tl.where(rights > lefts, g, -g)
    return sums


@triton.jit
def corners_before(
    p_grad, p, edge_row, left, right, h, h_out, w_out, row_stride, stride,
    ABOVE: tl.constexpr, DENSE: tl.constexpr, R: tl.constexpr, CW: tl.constexpr,
):  # fmt: skip
    """What `add_corners_before` adds up for rows ``p`` (R, CW), or, ABOVE, for all rows above the plane (1, CW)."""
    sums = tl.zeros([R, CW], tl.float64)
    if ABOVE:
        count = outputs_before(edge_row, h_out, stride)
        for r in range(0, count, R):
            i = r + tl.arange(0, R)
            sums = add_corners_before(sums, p_grad, i, i < count, left, right, w_out, row_stride, stride, CW)
        return tl.sum(sums, 0)[None, :]
    else:
        i, inside_rows = outputs_at(p, edge_row, h_out, h, stride, DENSE)
        return add_corners_before(sums, p_grad, i, inside_rows, left, right, w_out, row_stride, stride, CW)
