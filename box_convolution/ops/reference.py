"""The definition of the box convolution in plain PyTorch, for any device; traceable and differentiable.

A box average is separable. For output row i (centred on input row i*stride) the weight of input row p is the length of
the overlap of the pixel ``[p - 1/2, p + 1/2]`` and the box ``[i*stride + top, i*stride + bottom]``; the same holds for
columns. With those weights in two matrices, R (H' x H) and Q (W' x W), equation (4) of the paper is
``output = R @ image @ Q.T``, and every gradient is a product of the same matrices. Without an integral image, no digit
is lost to cancellation. But the cost of an output pixel grows with H + W.
"""

import torch
from torch import Tensor

from .epilogue import Epilogue


def accumulation_dtype(input: Tensor) -> torch.dtype:
    """Return the dtype of all sums: float64 for every input, or float32 if the device has no float64."""
    return torch.float32 if input.device.type == "mps" else torch.float64


# Known before tracing, because up to PyTorch 2.9 torch.compile cannot trace is_autocast_available.
_WITH_AUTOCAST = frozenset(kind for kind in ("cpu", "cuda", "mps", "xpu") if torch.amp.is_autocast_available(kind))


def autocast_is_on(tensor: Tensor) -> bool:
    """Whether autocast is enabled for the device of ``tensor``; False for devices without autocast, such as meta."""
    device_type = tensor.device.type
    there = device_type in _WITH_AUTOCAST or (
        not torch.compiler.is_compiling() and torch.amp.is_autocast_available(device_type)
    )
    return there and torch.is_autocast_enabled(device_type)


def antiderivative(edge: Tensor, size_out: int, size_in: int, stride: int) -> Tensor:
    """Length of the part of each input pixel that lies before an edge, minus 1/2.

    ``edge`` (C, M), in pixels relative to the output pixel -> (C, M, size_out, size_in), entries in [-1/2, 1/2].
    """
    pixel, within = _locate(edge)
    ahead = _ahead(pixel, size_out, size_in, stride)
    return torch.where(ahead > 0, 0.5, torch.where(ahead < 0, -0.5, within[..., None, None]))


def antiderivative_slope(edge: Tensor, size_out: int, size_in: int, stride: int) -> Tensor:
    """Derivative of `antiderivative` by ``edge``: 1 for the pixel that the edge is in, else 0.

    On a pixel border the edge counts as being in the pixel after it (the right-hand derivative).
    """
    pixel, _ = _locate(edge)
    slope = (_ahead(pixel, size_out, size_in, stride) == 0).to(edge.dtype)
    return torch.where(edge.isnan()[..., None, None], edge[..., None, None], slope)


def _locate(edge: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pixel that an edge is in, and the edge's position in that pixel, in [-1/2, 1/2). Both are exact.

    The weights of a box much thinner than a pixel are the difference of two such positions: they must lose no digit.
    """
    nearest = edge.round()
    pixel = nearest + (edge - nearest == 0.5)  # round() takes a border to the even pixel, not to the one after it
    return pixel, edge - pixel


def _ahead(pixel: Tensor, size_out: int, size_in: int, stride: int) -> Tensor:
    """How many pixels an edge is ahead of each input pixel, (C, M, size_out, size_in)."""
    centre_out = torch.arange(size_out, device=pixel.device) * stride
    index_in = torch.arange(size_in, device=pixel.device)
    return pixel[..., None, None] + (centre_out[:, None] - index_in)


def overlap(low: Tensor, high: Tensor, size_out: int, size_in: int, stride: int, normalize: bool) -> Tensor:
    """Weights of one axis: ``low``, ``high`` (C, M) -> (C, M, size_out, size_in).

    An interval with low > high has negative length, as in any definite integral. Length 0 averages to 0.
    """
    weights = antiderivative(high, size_out, size_in, stride) - antiderivative(low, size_out, size_in, stride)
    return weights * _inverse_length(low, high)[..., None, None] if normalize else weights


def _inverse_length(low: Tensor, high: Tensor) -> Tensor:
    empty = low == high  # also where both are the same infinity, whose difference is not a number
    return torch.where(empty, 0, 1 / torch.where(empty, 1, high - low))


def _edge_gradients(
    grad_weights: Tensor, weights: Tensor, low: Tensor, high: Tensor, stride: int, normalize: bool
) -> tuple[Tensor, Tensor]:
    """Chain rule from the weights of one axis (C, M, size_out, size_in) to its two edges (C, M): equation (6)."""
    size_out, size_in = weights.shape[-2:]
    grad_low = -(grad_weights * antiderivative_slope(low, size_out, size_in, stride)).sum((-2, -1))
    grad_high = (grad_weights * antiderivative_slope(high, size_out, size_in, stride)).sum((-2, -1))
    if normalize:
        inverse = _inverse_length(low, high)
        by_length = (grad_weights * weights).sum((-2, -1))
        grad_low = (grad_low + by_length) * inverse
        grad_high = (grad_high - by_length) * inverse
    return grad_low, grad_high


def box_conv2d(input: Tensor, boxes: Tensor, normalize: bool, stride: int) -> Tensor:
    """Equations (3)-(4): ``input`` (B, C, H, W), ``boxes`` (C, M, 4) -> (B, C*M, H', W'), dtype of ``input``."""
    return _contiguous(_averages(input, boxes, normalize, stride), input.dtype)


def _averages(input: Tensor, boxes: Tensor, normalize: bool, stride: int) -> Tensor:
    """Return the output (B, C*M, H', W') in `accumulation_dtype`, and in whatever memory format it comes."""
    b, c, h, w = input.shape
    m = boxes.shape[1]
    h_out, w_out = -(-h // stride), -(-w // stride)
    wide = accumulation_dtype(input)
    top, bottom, left, right = boxes.to(wide).unbind(-1)
    rows = overlap(top, bottom, h_out, h, stride, normalize)
    columns = overlap(left, right, w_out, w, stride, normalize)
    output = rows.reshape(c, m * h_out, h) @ _planes(input, wide).reshape(c, h, b * w)
    output = output.reshape(c * m, h_out * b, w) @ columns.reshape(c * m, w_out, w).mT
    return output.reshape(c * m, h_out, b, w_out).permute(2, 0, 1, 3)


def box_conv2d_fused(input: Tensor, boxes: Tensor, epilogue: Epilogue, normalize: bool, stride: int) -> Tensor:
    """The average and its epilogue, rounded once: see `fused`."""
    output = _averages(input, boxes, normalize, stride)
    if epilogue.scale is not None:
        scale = epilogue.scale[:, None, None]
        output = (output * scale).where(scale != 0, 0.0)
    return _contiguous(epilogue.after_scale(output), input.dtype)


def _planes(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, C, H, W) -> (C, H, B, W), always laid out alike: no memory format changes the order of a summation."""
    return tensor.to(dtype).permute(1, 2, 0, 3).contiguous()


def _contiguous(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert and make contiguous, with one copy at most: ``to`` reorders nothing if the dtype already fits."""
    return tensor.to(dtype, memory_format=torch.contiguous_format).contiguous()


def box_conv2d_backward(
    grad_output: Tensor, input: Tensor, boxes: Tensor, normalize: bool, stride: int, output_mask: list[bool]
) -> tuple[Tensor, Tensor]:
    """Equations (5) and (6): gradients by ``input`` and by ``boxes``; empty where ``output_mask`` is False."""
    b, c, h, w = input.shape
    m = boxes.shape[1]
    h_out, w_out = grad_output.shape[2:]
    wide = accumulation_dtype(input)
    top, bottom, left, right = boxes.to(wide).unbind(-1)
    rows = overlap(top, bottom, h_out, h, stride, normalize)
    columns = overlap(left, right, w_out, w, stride, normalize)
    grad = _planes(grad_output, wide).reshape(c * m, h_out * b, w_out)
    spread = (grad @ columns.reshape(c * m, w_out, w)).reshape(c, m * h_out, b * w)

    if output_mask[0]:
        grad_input = rows.reshape(c, m * h_out, h).mT @ spread
        grad_input = _contiguous(grad_input.reshape(c, h, b, w).permute(2, 0, 1, 3), input.dtype)
    else:
        grad_input = input.new_empty(0)
    if output_mask[1]:
        planes = _planes(input, wide).reshape(c, h, b * w)
        grad_rows = (spread @ planes.mT).reshape(c, m, h_out, h)
        averaged = (rows.reshape(c, m * h_out, h) @ planes).reshape(c * m, h_out * b, w)
        grad_columns = (grad.mT @ averaged).reshape(c, m, w_out, w)
        grad_boxes = torch.stack(
            _edge_gradients(grad_rows, rows, top, bottom, stride, normalize)
            + _edge_gradients(grad_columns, columns, left, right, stride, normalize),
            dim=-1,
        ).to(boxes.dtype)
    else:
        grad_boxes = boxes.new_empty(0)
    return grad_input, grad_boxes
