"""Box convolutions in standard operations, for exported graphs that must run without this package.

Each is two products with matrices of overlaps: how much of an input row (or column) lies in the box of an output row.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..ops.epilogue import Epilogue, fused_arguments


def decompositions() -> dict[Any, Callable[..., Tensor]]:
    """For `ExportedProgram.run_decompositions`: each operator of this package, and the function that replaces it."""
    operators = torch.ops.box_convolution
    return {operators.box_conv2d_fused.default: box_conv2d_fused, operators.box_conv2d.default: box_conv2d}


def box_conv2d(input: Tensor, boxes: Tensor, normalize: bool = True, stride: int = 1) -> Tensor:
    """See :func:`box_convolution.box_conv2d`; in float32.

    It needs memory for two matrices per box, (H', H) and (W', W). float32 is precise enough for boxes of at least one
    pixel. The definition in :mod:`box_convolution.ops.reference` needs float64, because it is for every box.
    """
    return box_conv2d_fused(input, boxes, normalize=normalize, stride=stride)


def box_conv2d_fused(input: Tensor, boxes: Tensor, *rest: Any, **named: Any) -> Tensor:
    """See :mod:`box_convolution.ops.fused`."""
    epilogue, normalize, stride = fused_arguments(*rest, **named)
    rows, columns = matrices(boxes, epilogue.scale, normalize, stride, input.shape[2], input.shape[3])
    return products(input, rows, columns, epilogue)


def matrices(
    boxes: Tensor, scale: Tensor | None, normalize: bool, stride: int, h: int, w: int
) -> tuple[Tensor, Tensor]:
    """Overlap matrices for `products`, (C, M * H', H) and (C * M, W, W'); area and scale are factors of the first."""
    c, m = boxes.shape[:2]
    h_out, w_out = (h + stride - 1) // stride, (w + stride - 1) // stride
    top, bottom, left, right = boxes.float().reshape(c * m, 1, 1, 4).unbind(-1)
    rows, columns = overlap(top, bottom, h_out, h, stride), overlap(left, right, w_out, w, stride)
    factor = 1 / ((bottom - top) * (right - left)) if normalize else None
    if scale is not None:
        factor = scale.reshape(-1, 1, 1) if factor is None else factor * scale.reshape(-1, 1, 1)
    if factor is not None:
        rows = rows * factor
    return rows.reshape(c, m * h_out, h), columns.transpose(1, 2)


def overlap(low: Tensor, high: Tensor, size_out: int, size_in: int, stride: int) -> Tensor:
    """Length of each input pixel between two edges: (C*M, 1, 1) each -> (C*M, size_out, size_in)."""
    ahead = (torch.arange(size_out, device=low.device) * stride)[:, None] - torch.arange(size_in, device=low.device)
    ahead = ahead.to(low.dtype)
    # Where nothing is clamped, a sum is exact: the edge and the whole number then differ at most by a factor of 2.
    return (ahead + high).clamp(-0.5, 0.5) - (ahead + low).clamp(-0.5, 0.5)


def products(input: Tensor, rows: Tensor, columns: Tensor, epilogue: Epilogue) -> Tensor:
    """(B, C, H, W) and the `matrices` -> (B, C*M, H', W'): equation (4), and what follows it."""
    b, w, boxes = input.shape[0], input.shape[3], columns.shape[0]
    output = torch.matmul(rows, input.float()).reshape(b, boxes, rows.shape[1] * rows.shape[0] // boxes, w)
    return epilogue.after_scale(torch.matmul(output, columns)).to(input.dtype)
