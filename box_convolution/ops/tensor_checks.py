"""What the operators accept. Every error names the argument, what came and what was expected."""

import torch
from torch import Tensor

from .epilogue import Epilogue

FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_forward(input: Tensor, boxes: Tensor, stride: int) -> None:
    """Raise TypeError or ValueError unless ``box_conv2d(input, boxes, stride=stride)`` is defined."""
    for name, tensor in (("input", input), ("boxes", boxes)):
        if tensor.dtype not in FLOATING:
            raise TypeError(f"{name} must be float16, bfloat16, float32 or float64, got {_describe(tensor)}")
        if tensor.layout != torch.strided:
            raise TypeError(f"{name} must be a dense tensor, got layout {tensor.layout}")
    shape, of_boxes = input.shape, boxes.shape
    if len(shape) != 4:
        raise ValueError(f"input must have 4 dimensions (batch, channels, height, width), got {_describe(input)}")
    if len(of_boxes) != 3 or of_boxes[2] != 4:
        raise ValueError(
            "boxes must have shape (channels, boxes per channel, 4) with edges (top, bottom, left, right), "
            f"got {_describe(boxes)}"
        )
    if shape[1] != of_boxes[0]:
        raise ValueError(
            f"input has {shape[1]} channels and boxes are for {of_boxes[0]} channels: they must be equal "
            f"(input {_describe(input)}, boxes {_describe(boxes)})"
        )
    if shape[2] == 0 or shape[3] == 0:
        raise ValueError(f"input must be at least one pixel high and wide, got {_describe(input)}")
    if input.device != boxes.device:
        raise ValueError(f"input and boxes must be on one device, got input on {input.device}, boxes on {boxes.device}")
    if stride < 1:
        raise ValueError(f"stride must be at least 1, got {stride}")


def output_shape(input: Tensor, boxes: Tensor, stride: int) -> tuple[int, int, int, int]:
    """Return the shape of the output: (B, C*M, ceil(H / stride), ceil(W / stride))."""
    batch, channels, height, width = input.shape
    return batch, channels * boxes.shape[1], (height + stride - 1) // stride, (width + stride - 1) // stride


def memory_format(input: Tensor) -> torch.memory_format:
    """Return the format of the results: channels_last for channels_last input, as in a convolution; else contiguous."""
    only_channels_last = input.is_contiguous(memory_format=torch.channels_last) and not input.is_contiguous()
    return torch.channels_last if only_channels_last else torch.contiguous_format


def fused_format(input: Tensor, residual: Tensor | None) -> torch.memory_format:
    """Return the format of box_conv2d_fused's result: channels_last if the input or the residual is."""
    formats = [memory_format(tensor) for tensor in (input, residual) if tensor is not None]
    return torch.channels_last if torch.channels_last in formats else torch.contiguous_format


def check_backward(grad_output: Tensor, input: Tensor, boxes: Tensor, stride: int) -> None:
    """Raise TypeError or ValueError unless ``grad_output`` fits the output of ``box_conv2d(input, boxes)``."""
    check_forward(input, boxes, stride)
    _check_like_output("grad_output", grad_output, input, boxes, stride)


def _check_like_output(name: str, tensor: Tensor, input: Tensor, boxes: Tensor, stride: int) -> None:
    expected = output_shape(input, boxes, stride)
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name} must have the output's shape {expected}, got {_describe(tensor)}")
    if tensor.dtype != input.dtype:
        raise TypeError(f"{name} must have the input's dtype {input.dtype}, got {_describe(tensor)}")
    if tensor.device != input.device:
        raise ValueError(f"{name} must be on the input's device {input.device}, got {tensor.device}")


def check_out(out: Tensor, input: Tensor, boxes: Tensor, stride: int) -> None:
    """Raise TypeError or ValueError unless the result can be written to ``out``."""
    _check_like_output("out", out, input, boxes, stride)
    if not out.is_contiguous():
        raise ValueError(f"out must be contiguous, got strides {out.stride()}")


def check_apart(out: Tensor, input: Tensor, boxes: Tensor) -> None:
    """Raise ValueError if ``out`` lies in memory between the first and the last number of ``input`` or ``boxes``."""
    start, end = _memory(out)
    for name, tensor in (("input", input), ("boxes", boxes)):
        first, last = _memory(tensor)
        if start < last and first < end:
            raise ValueError(f"out must not share memory with {name}, which is read while out is written")


def _memory(tensor: Tensor) -> tuple[int, int]:
    """Return the addresses of a tensor's first byte, and of the byte after its last one."""
    if not tensor.numel():
        return 0, 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.itemsize


def check_fused(input: Tensor, boxes: Tensor, epilogue: Epilogue, stride: int) -> None:
    """Raise TypeError or ValueError unless ``box_conv2d_fused`` is defined for these arguments."""
    scale, shift, residual, _ = epilogue
    check_forward(input, boxes, stride)
    expected = output_shape(input, boxes, stride)
    for name, tensor in (("scale", scale), ("shift", shift)):
        if tensor is None:
            continue
        if tensor.dtype != torch.float32:
            raise TypeError(f"{name} must be float32, got {_describe(tensor)}")
        if tuple(tensor.shape) != (expected[1],):
            raise ValueError(
                f"{name} must have shape ({expected[1]},), a number for each output channel, got {_describe(tensor)}"
            )
    if residual is not None:
        if residual.dtype != input.dtype:
            raise TypeError(f"residual must have the input's dtype {input.dtype}, got {_describe(residual)}")
        if residual.layout != torch.strided:
            raise TypeError(f"residual must be a dense tensor, got layout {residual.layout}")
        if tuple(residual.shape) != expected:
            raise ValueError(f"residual must have the output's shape {expected}, got {_describe(residual)}")
    for name, tensor in (("scale", scale), ("shift", shift), ("residual", residual)):
        if tensor is not None and tensor.device != input.device:
            raise ValueError(f"{name} must be on the input's device {input.device}, got {tensor.device}")


def _describe(tensor: Tensor) -> str:
    return f"shape {tuple(tensor.shape)} of {tensor.dtype}"
