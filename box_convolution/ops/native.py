"""The C++ kernels of the box convolution, called with PyTorch's tensors."""

import ctypes

import torch
from torch import Tensor

from . import cpu_library
from .epilogue import Epilogue
from .tensor_checks import fused_format, memory_format

_ENOUGH_PLANES = 8  # of work_sharing.inl
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
_Strides = ctypes.c_int64 * 4


class _Problem(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "channels", "per_channel", "h", "w", "stride")),
        ("dtype", ctypes.c_int32),
        ("normalize", ctypes.c_int32),
        ("exact", ctypes.c_int32),
        ("boxes", ctypes.c_void_p),
        ("input", ctypes.c_void_p),
        ("input_strides", _Strides),
        ("parallel_for", ctypes.c_void_p),
        ("threads", ctypes.c_int32),
    ]


class _Forward(ctypes.Structure):
    _fields_ = [
        ("problem", _Problem),
        ("output", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("residual", ctypes.c_void_p),
        ("relu", ctypes.c_int32),
        ("pixels", ctypes.c_int32),
        ("magnitudes", ctypes.c_void_p),
    ]


class _Backward(ctypes.Structure):
    _fields_ = [
        ("problem", _Problem),
        ("grad_output", ctypes.c_void_p),
        ("grad_output_strides", _Strides),
        ("grad_input", ctypes.c_void_p),
        ("grad_boxes", ctypes.c_void_p),
    ]


class _Transpose(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "rows", "columns")),
        *((name, ctypes.c_void_p) for name in ("input", "residual", "output")),
        *((name, ctypes.c_int32) for name in ("size", "relu", "threads")),
        ("parallel_for", ctypes.c_void_p),
    ]


def _problem(input: Tensor, boxes: Tensor, exact: bool, normalize: bool, stride: int) -> _Problem:
    """``boxes``: float64, contiguous. The result points to its memory, so the caller must keep it alive."""
    batch, channels, h, w = input.shape
    return _Problem(
        batch, channels, boxes.shape[1], h, w, stride, DTYPES[input.dtype], normalize, exact,
        boxes.data_ptr(), input.data_ptr(), _Strides(*input.stride()),
        cpu_library.parallel_for(), torch.get_num_threads(),
    )  # fmt: skip


def box_conv2d(input: Tensor, boxes: Tensor, normalize: bool, stride: int, out: Tensor | None = None) -> Tensor:
    """See `box_convolution.box_conv2d`. A new result has the memory format of the input; ``out`` is contiguous.

    If boxes are float64, so are all sums.
    """
    if out is None:
        return box_conv2d_fused(input, boxes, Epilogue(), normalize, stride)
    if out.numel():
        image, wide = _by_rows(input), boxes.to(torch.float64).contiguous()
        problem = _problem(image, wide, boxes.dtype == torch.float64, normalize, stride)
        _check(_forward(problem, out, Epilogue(), pixels=False), problem)
    return out


def box_conv2d_fused(input: Tensor, boxes: Tensor, epilogue: Epilogue, normalize: bool, stride: int) -> Tensor:
    """See `fused`."""
    residual = epilogue.residual
    if input.dtype.itemsize == 2:  # the kernels for it take two to five times as long
        in_float32 = epilogue._replace(residual=None if residual is None else residual.float())
        return box_conv2d_fused(input.float(), boxes, in_float32, normalize, stride).to(input.dtype)
    batch, channels, h, w = input.shape
    shape = (batch, channels * boxes.shape[1], -(-h // stride), -(-w // stride))
    format = fused_format(input, residual)
    last = format == torch.channels_last
    if 0 in shape:
        return input.new_empty(shape).contiguous(memory_format=format)
    image, wide = _by_rows(input), boxes.to(torch.float64).contiguous()
    problem = _problem(image, wide, boxes.dtype == torch.float64, normalize, stride)
    if last:
        output = empty_channels_last(input, shape)
        if _into_pixels(output, problem, epilogue):
            return output
    # A channels_last residual is added while the output is transposed, so that it need not be transposed itself.
    later = last and residual is not None
    output = input.new_empty(shape)
    planes = None if residual is None or later else _by_rows(residual).contiguous()
    at_once = epilogue._replace(residual=planes, relu=epilogue.relu and not later)
    _check(_forward(problem, output, at_once, pixels=False), problem)
    if not last:
        return output
    return _pixels(output, residual, epilogue.relu) if later else _pixels(output)


def add_boxes(
    image: Tensor,
    input: Tensor,
    boxes: Tensor,
    epilogue: Epilogue,
    normalize: bool,
    magnitudes: Tensor | None = None,
) -> None:
    """See `deployed_layers`; ``image``, the residual of ``epilogue``, is channels_last, ``input`` float32 as well.

    ``magnitudes``: BoxMagnitude of box_conv2d.h of each plane of ``input``, if they are known.
    """
    wide = boxes.to(torch.float64).contiguous()
    rows = _by_rows(input)
    problem = _problem(rows, wide, boxes.dtype == torch.float64, normalize, stride=1)
    if not image.numel() or _into_pixels(image, problem, epilogue, magnitudes):
        return
    planes = image.new_empty(image.shape)
    _check(_forward(problem, planes, epilogue._replace(residual=None, relu=False), magnitudes, pixels=False), problem)
    batch, channels, h, w = image.shape
    transpose(batch, channels, h * w, planes, image, epilogue.relu, image)


def _into_pixels(output: Tensor, problem: _Problem, epilogue: Epilogue, magnitudes: Tensor | None = None) -> bool:
    """Write to ``output``, in channels_last; it may be the residual. False, with nothing written, if no kernel does."""
    if epilogue.residual is not None:
        epilogue = epilogue._replace(residual=epilogue.residual.contiguous(memory_format=torch.channels_last))
    status = _forward(problem, output, epilogue, magnitudes, pixels=True)
    if status == cpu_library.NOT_SERVED:
        return False
    _check(status, problem)
    return True


def _forward(
    problem: _Problem, output: Tensor, epilogue: Epilogue, magnitudes: Tensor | None = None, *, pixels: bool
) -> int:
    """Call the kernel; the residual has the memory format of ``output``."""
    scale, shift = (None if part is None else part.contiguous() for part in (epilogue.scale, epilogue.shift))
    pointers = [None if part is None else part.data_ptr() for part in (scale, shift, epilogue.residual)]
    known = None if magnitudes is None else magnitudes.data_ptr()
    call = _Forward(problem, output.data_ptr(), *pointers, epilogue.relu, pixels, known)
    status: int = cpu_library.library().box_forward(ctypes.byref(call))
    return status


def box_conv2d_backward(
    grad_output: Tensor, input: Tensor, boxes: Tensor, normalize: bool, stride: int, output_mask: list[bool]
) -> tuple[Tensor, Tensor]:
    """Gradients by input, in its memory format, and by boxes; empty where ``output_mask`` is False."""
    if input.dtype.itemsize == 2:  # as in box_conv2d_fused
        grads = box_conv2d_backward(grad_output.float(), input.float(), boxes, normalize, stride, output_mask)
        return grads[0].to(input.dtype), grads[1]
    grad_input = input.new_empty(input.shape if output_mask[0] else 0)
    grad_boxes = boxes.new_empty(boxes.shape if output_mask[1] else 0, dtype=torch.float64)
    if grad_output.numel() == 0:
        return grad_input.zero_(), grad_boxes.zero_().to(boxes.dtype)
    image, wide = _by_rows(input), boxes.to(torch.float64).contiguous()
    grad = grad_output if _gathered(grad_output, input) else _by_rows(grad_output)
    exact = boxes.dtype == torch.float64
    problem = _problem(image, wide, exact, normalize, stride)
    call = _Backward(
        problem, grad.data_ptr(), _Strides(*grad.stride()),
        grad_input.data_ptr() if output_mask[0] else None, grad_boxes.data_ptr() if output_mask[1] else None,
    )  # fmt: skip
    _check(cpu_library.library().box_backward(ctypes.byref(call)), problem)
    if output_mask[0] and memory_format(input) == torch.channels_last:
        grad_input = _pixels(grad_input)
    return grad_input, grad_boxes.to(boxes.dtype)


def empty_channels_last(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """A new tensor with the device of ``like``, and its dtype unless another is given."""
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device, memory_format=torch.channels_last)


def _gathered(grad_output: Tensor, input: Tensor) -> bool:
    """Whether the kernel takes ``grad_output`` in channels_last, and moves it to planes, a few at a time."""
    enough = input.shape[0] * input.shape[1] >= _ENOUGH_PLANES
    return enough and input.dtype == torch.float32 and memory_format(grad_output) == torch.channels_last


def _by_rows(tensor: Tensor) -> Tensor:
    """Return ``tensor``, or a contiguous copy if the pixels of a row are apart: reading them so would cost more."""
    if tensor.stride(3) == 1 or tensor.shape[3] == 1:
        return tensor
    if not tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.contiguous()
    batch, channels, h, w = tensor.shape
    planes = torch.empty_like(tensor, memory_format=torch.contiguous_format)
    transpose(batch, h * w, channels, tensor, None, False, planes)
    return planes


def _pixels(planes: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
    """Return [relu](planes [+ residual]) in channels_last, 5 to 7 times as fast as PyTorch's own copy."""
    batch, channels, h, w = planes.shape
    output = torch.empty_like(planes, memory_format=torch.channels_last)
    other = None if residual is None else residual.contiguous(memory_format=torch.channels_last)
    transpose(batch, channels, h * w, planes, other, relu, output)
    return output


def transpose(
    batch: int, rows: int, columns: int, input: Tensor, residual: Tensor | None, relu: bool, output: Tensor
) -> None:
    call = _Transpose(
        batch, rows, columns, input.data_ptr(), None if residual is None else residual.data_ptr(), output.data_ptr(),
        input.itemsize, relu, *cpu_library.workers(),
    )  # fmt: skip
    cpu_library.library().box_transpose(ctypes.byref(call))


def _check(status: int, problem: _Problem) -> None:
    if status:
        size = f"{problem.h} x {problem.w}"
        raise MemoryError(f"box_conv2d: no memory for integral images of {size} pixels (8 bytes a pixel and thread)")
