"""The Triton kernels: whether they can serve, and their launches. How the work is shared out is in work_plan.py.

Nothing here reads a number from the device, so that launches can be recorded in a CUDA graph. Triton itself is imported
with the first call.
"""

import functools
import importlib
import math
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..epilogue import Epilogue
from ..tensor_checks import fused_format, memory_format
from .prepared import Launch
from .work_plan import GROUP, Limits, Row, power_of_two, share_row, share_work, short_registers, short_row

_OLDEST_TRITON = (3, 6)  # that the kernels were tested with
_OLDEST_GPU = (7, 0)  # compute capability that Triton compiles for
_OPTIONS = {"enable_fp_fusion": True}
_LONGEST = 2**29  # rows or columns of a plane, so that places next to it can be counted in 32 bits
_BORDERS = 16  # in rows.py, too
_ROWS = 2  # that the forward pass leaves in scratch before it reads them
_SHORT_ROWS = {1: 2, 2: 1}  # that it moves at a time, of short rows in so many pieces


@functools.cache
def status(device: torch.device | None = None) -> str | None:
    """None where the kernels can serve (tensors on ``device``); else, in one line, why not and what to do about it."""
    try:
        triton = importlib.import_module("triton")
    except ImportError as error:
        remedy = "On Linux: pip install triton; on Windows: pip install triton-windows"
        return f"Triton cannot be imported ({error}). {remedy}"
    if tuple(map(int, triton.__version__.split(".")[:2])) < _OLDEST_TRITON:
        return f"Triton {triton.__version__} is older than 3.6, the oldest it works with: 3.6 comes with PyTorch 2.10"
    if device is not None and device.type == "cuda" and torch.version.hip is None:
        capability = torch.cuda.get_device_capability(device)
        if capability < _OLDEST_GPU:
            name, version = torch.cuda.get_device_name(device), ".".join(map(str, capability))
            return f"{name} has compute capability {version}, and Triton needs 7.0 or later: use a newer GPU"
    return None


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU: it was asked for before they were first used."""
    triton = importlib.import_module("triton")
    return not isinstance(_kernels()[0].box_rows, triton.runtime.JITFunction)


@functools.cache
def _kernels() -> tuple[ModuleType, ...]:
    """Kernels of the forward and of the backward pass, those for short rows after each, and smaller ones."""
    names = ("forward", "short_forward", "backward", "short_backward", "projected_boxes", "channels_last")
    return tuple(importlib.import_module(f".{name}", __package__) for name in names)


@functools.cache
def limits(device: torch.device) -> Limits:
    """Of ``device``; of an imaginary small one where the kernels are interpreted."""
    if device.type != "cuda":
        return Limits(processors=4)
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return Limits(processors, warp=32 if torch.version.hip is None else 64)


def _step(w: int, strides: tuple[int, ...], dtype: torch.dtype, aligned: bool) -> int:
    """4 where rows start at multiples of 4 pixels and of 16 bytes, so that 4 pixels are read at a time; else 1.

    ``strides`` are those of a tensor that is not contiguous.
    """
    whole = aligned and dtype.itemsize <= 4 and not any(start % GROUP for start in (w, *strides[:3]))
    return GROUP if whole else 1


def box_conv2d(input: Tensor, boxes: Tensor, normalize: bool, stride: int, out: Tensor | None = None) -> Tensor:
    """See `box_convolution.box_conv2d`."""
    return _forward(input, boxes, Epilogue(), normalize, stride, out)


def box_conv2d_fused(input: Tensor, boxes: Tensor, epilogue: Epilogue, normalize: bool, stride: int) -> Tensor:
    """The box convolution and its epilogue, in the same kernel."""
    return _forward(input, boxes, epilogue, normalize, stride, None)


def _forward(
    input: Tensor, boxes: Tensor, epilogue: Epilogue, normalize: bool, stride: int, out: Tensor | None
) -> Tensor:
    image, edges, device = _by_rows(input), boxes.contiguous(), input.device
    scale, shift, residual, relu = epilogue
    last = out is None and fused_format(input, residual) == torch.channels_last
    shape_out, launch, counts = _prepare_forward(
        _kernels()[:2], limits(device), image.shape, image.stride(), image.dtype, edges.shape[1],
        normalize, stride, relu, residual is not None, _aligned(image), out is None or _aligned(out),
        device, edges.dtype, scale is None, shift is None,
    )  # fmt: skip
    output = _empty(input, shape_out) if out is None else out
    if launch is not None:
        with _current(device):
            parts = (None if part is None else _contiguous(part) for part in (scale, shift, residual))
            launch(image, edges, output, *parts, *(_scratch(input, count) for count in counts))
    return _transposed(output, torch.channels_last) if last else output


@functools.lru_cache(1024)
def _prepare_forward(
    kernels: tuple[Any, ...], bounds: Limits, shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype,
    per_channel: int, normalize: bool, stride: int, relu: bool, residual: bool, aligned: bool, aligned_out: bool,
    *kinds_of_tensors: object,
) -> tuple[tuple[int, ...], Launch | None, tuple[int, ...]]:  # fmt: skip
    """The output's shape; the launch, None for an empty output; and how many numbers its scratch memory has, if any."""
    batch, channels, h, w = _check_size(shape)
    shape_out = batch, channels * per_channel, -(-h // stride), -(-w // stride)
    if 0 in shape_out:
        return shape_out, None, ()
    h_out, w_out = shape_out[2:]
    stride = min(stride, max(h, w))  # a larger one looks at the first pixel, too
    short = short_row(dtype.itemsize, w, per_channel, stride, True, bounds)
    row = short or share_row(w, bounds)
    registers = short and short_registers(dtype.itemsize, row, True, residual)
    work = share_work(batch * channels, per_channel, h_out, row, True, registers, bounds)
    numbers: tuple[int, ...] = (
        work.items, channels, per_channel, h, w, h_out, w_out, work.together, work.strips, work.strip, *strides[:3],
    )  # fmt: skip
    constants = {
        "NORMALIZE": normalize, "RELU": relu, "WIDE": _is_wide(h, w, strides[2]),
        "STEP": _step(w, strides, dtype, aligned), "STEP_OUT": _step(w_out, (), dtype, aligned_out),
        "ROWS": _SHORT_ROWS[row.pieces] if registers else _ROWS, "N": row.pieces, "C": work.boxes, "K": row.threads,
    }  # fmt: skip
    counts: tuple[int, ...] = ()
    options = {"num_warps": work.warps, **_OPTIONS}
    in_scratch, short_rows = kernels
    if registers:
        kernel = short_rows.box_short_rows
        options |= _registers(registers, bounds)
    else:
        kernel = in_scratch.box_rows
        numbers += (stride,)
        constants |= {"DENSE": stride == 1, "LONG": row.long, "PITCH": row.pitch}
        counts = (work.programs * _ROWS * work.boxes * _slot(row),)
    return shape_out, Launch(kernel, work.programs, numbers, constants, options), counts


def box_conv2d_backward(
    grad_output: Tensor, input: Tensor, boxes: Tensor, normalize: bool, stride: int, output_mask: list[bool]
) -> tuple[Tensor, Tensor]:
    """Gradients by input and boxes; one that ``output_mask`` rules out is empty."""
    by_input, by_boxes = output_mask
    grad_input = _empty(input, input.shape if by_input else (0,))
    grad_boxes = _empty(boxes, boxes.shape if by_boxes else (0,))
    if grad_output.numel() == 0:
        return grad_input.zero_(), grad_boxes.zero_()
    if not (by_input or by_boxes):
        return grad_input, grad_boxes
    image, grad, edges, device = _by_rows(input), _by_rows(grad_output), boxes.contiguous(), input.device
    by_rows, by_edges, counts, is_partial = _prepare_backward(
        _kernels()[2:4], limits(device), image.shape, image.stride(), image.dtype, edges.shape[1],
        grad.shape, grad.stride(), normalize, stride, by_input, by_boxes, _aligned(image), _aligned(grad),
        device, edges.dtype,
    )  # fmt: skip
    with _current(device):
        sums, *scratch = (_scratch(input, count) for count in counts)
        partial = _partial(input) if is_partial else grad_input
        by_rows(grad, image, edges, partial, grad_input, sums, *scratch)
        if by_boxes:
            by_edges(sums, edges, grad_boxes)
    if by_input and memory_format(input) == torch.channels_last:
        grad_input = _transposed(grad_input, torch.channels_last)
    return grad_input, grad_boxes


@functools.lru_cache(1024)
def _prepare_backward(
    kernels: tuple[Any, ...], bounds: Limits, shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype,
    per_channel: int, shape_out: tuple[int, ...], strides_out: tuple[int, ...], normalize: bool, stride: int,
    by_input: bool, by_boxes: bool, aligned: bool, aligned_out: bool, *kinds_of_tensors: object,
) -> tuple[Launch, Launch, tuple[int, ...], bool]:  # fmt: skip
    """Two launches; how many numbers the sums have and the scratch memory, if any; and whether input's gradient is
    summed up in another tensor.
    """
    batch, channels, h, w = _check_size(shape)
    h_out, w_out = shape_out[2:]
    stride = min(stride, max(h, w))
    planes = batch * channels
    short = short_row(dtype.itemsize, w, per_channel, stride, False, bounds)
    row = short or share_row(w, bounds)
    registers = short and short_registers(dtype.itemsize, row, False, residual=False)
    work = share_work(planes, per_channel, h, row, False, registers, bounds)
    numbers: tuple[int, ...] = (
        work.items, planes, channels, per_channel, h, w, h_out, w_out, work.strips, work.strip,
        *strides_out[:3], *strides[:3],
    )  # fmt: skip
    constants = {
        "NORMALIZE": normalize, "BY_INPUT": by_input, "BY_BOXES": by_boxes,
        "WIDE": _is_wide(h, w, strides_out[2], strides[2]),
        "STEP": _step(w, strides, dtype, aligned), "STEP_OUT": _step(w_out, strides_out, dtype, aligned_out),
        "C": work.boxes, "K": row.threads,
    }  # fmt: skip
    counts: tuple[int, ...] = (planes * work.strips * per_channel * 5 if by_boxes else 1,)
    options = {"num_warps": work.warps, **_OPTIONS}
    in_scratch, short_rows = kernels
    if registers:
        kernel = short_rows.grad_short_rows
        options |= _registers(registers, bounds)
    else:
        kernel = in_scratch.grad_rows
        numbers += (stride,)
        constants |= {"DENSE": stride == 1, "LONG": row.long, "PITCH": row.pitch, "N": row.pieces}
        counts += (work.programs * work.boxes * (work.boxes * _slot(row) + GROUP * row.pitch + _BORDERS),)
    by_rows = Launch(kernel, work.programs, numbers, constants, options)
    count = work.strips * batch
    by_edges = Launch(
        in_scratch.edge_gradients, channels * per_channel, (count, channels * per_channel, h, w),
        {"NORMALIZE": normalize, "BLOCK": min(power_of_two(count), 256)}, {"num_warps": 1, **_OPTIONS},
    )  # fmt: skip
    is_partial = by_input and work.together > 1 and dtype not in (torch.float32, torch.float64)
    return by_rows, by_edges, counts, is_partial


def projected_boxes(boxes: Tensor, h: int, w: int) -> Tensor:
    """See `box_convolution.boxes.project`."""
    edges = boxes.contiguous()
    projected = _empty(boxes, boxes.shape)
    if boxes.numel():
        with _current(boxes.device):
            launch = _prepare_projection(_kernels()[4], boxes.numel() // 2, h, w, boxes.dtype, boxes.device)
            launch(edges, projected)
    return projected


@functools.lru_cache(1024)
def _prepare_projection(kernels: Any, axes: int, h: int, w: int, *kind_of_tensor: object) -> Launch:
    return Launch(kernels.projected_boxes, -(-axes // 128), (axes, h, w), {"BLOCK": 128}, {"num_warps": 4, **_OPTIONS})


def _transposed(tensor: Tensor, wanted: torch.memory_format) -> Tensor:
    """A copy of a contiguous or channels_last image in the other one of these formats."""
    result = _empty_in(wanted, tensor)
    if tensor.numel():
        aligned = _aligned(tensor) and _aligned(result)
        to_last, kind = wanted == torch.channels_last, (tensor.dtype, tensor.device)
        with _current(tensor.device):
            _prepare_transpose(_kernels()[5], tuple(tensor.shape), to_last, aligned, *kind)(tensor, result)
    return result


@functools.lru_cache(1024)
def _prepare_transpose(
    kernels: Any, shape: tuple[int, ...], to_last: bool, aligned: bool, dtype: torch.dtype, device: torch.device
) -> Launch:
    batch, channels, h, w = shape
    sizes, tile = (channels, h * w), (32, 64)
    if not to_last:
        sizes, tile = (h * w, channels), (64, 32)
    together = 16 // dtype.itemsize
    steps = [together if aligned and size % together == 0 else 1 for size in sizes]
    tiles = math.prod(-(-size // length) for size, length in zip(sizes, tile, strict=True))
    constants = dict(zip(("ROW_STEP", "COLUMN_STEP", "ROWS", "COLUMNS"), (*steps, *tile), strict=True))
    return Launch(kernels.transpose, batch * tiles, sizes, constants, {"num_warps": 4, **_OPTIONS})


def _registers(most: int, limits: Limits) -> dict[str, int]:
    """An option of NVIDIA's compiler, which may else use a few more than leave room for another program."""
    return {"maxnreg": most} if limits.warp == 32 and most < 255 else {}


def _slot(row: Row) -> int:
    """Numbers of scratch memory for a row of a box."""
    return (1 + row.long) * GROUP * row.pitch + _BORDERS


def _is_wide(h: int, w: int, *row_strides: int) -> bool:
    """Whether places in a plane, and some rows beyond it, need 64 bits."""
    return 4 * (h + 16) * max(w + 16, *row_strides) >= 2**31


def _empty(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device)


def _empty_in(wanted: torch.memory_format, like: Tensor) -> Tensor:
    return torch.empty_like(like, memory_format=wanted)


def _partial(like: Tensor) -> Tensor:
    """For sums that half precision would round several times."""
    return torch.empty(like.shape, dtype=torch.float32, device=like.device)


def _scratch(like: Tensor, count: int) -> Tensor:
    return torch.empty(count, dtype=torch.float64, device=like.device)


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be that of the tensors."""
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return nullcontext()
    return torch.cuda.device(device)


def _by_rows(tensor: Tensor) -> Tensor:
    """The kernels read along rows, whose pixels must be neighbours; rows, channels and images may be anywhere."""
    return tensor if tensor.stride(3) == 1 else _contiguous(tensor)


def _contiguous(tensor: Tensor) -> Tensor:
    if tensor.dim() == 4 and memory_format(tensor) == torch.channels_last:
        return _transposed(tensor, torch.contiguous_format)
    return tensor.contiguous()


def _aligned(tensor: Tensor) -> bool:
    return tensor.data_ptr() % 16 == 0


def _check_size(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    batch, channels, h, w = shape
    if max(h, w) > _LONGEST:
        raise ValueError(f"input must have at most 2**29 rows and columns for implementation 'triton', got {h} x {w}")
    return batch, channels, h, w
