"""The C++ kernels: load their shared library and call it with PyTorch's tensors."""

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from . import build_record
from .epilogue import Epilogue
from .tensor_checks import fused_format, memory_format

_FILE = {"win32": "box_conv2d.dll", "darwin": "libbox_conv2d.dylib"}.get(sys.platform, "libbox_conv2d.so")
_LARGE = 2**16  # numbers of an image from which on oneDNN is faster than a matrix product
_ABI_VERSION = 8  # BOX_ABI_VERSION in box_conv2d.h; the structures below repeat those of the headers
_NOT_SERVED = 2  # BOX_NOT_SERVED
_ISA_VARIABLE = "BOX_CONVOLUTION_ISA"
_DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
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


class _Activation(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("pixels", "channels")),
        *((name, ctypes.c_void_p) for name in ("image", "residual", "slopes")),
        ("threads", ctypes.c_int32),
        ("parallel_for", ctypes.c_void_p),
    ]


class _Pointwise(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "pixels", "channels", "outputs")),
        *((name, ctypes.c_void_p) for name in ("image", "weight", "bias", "planes")),
        *((name, ctypes.c_int32) for name in ("relu", "threads")),
        ("parallel_for", ctypes.c_void_p),
    ]


class _Transposed2x2(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "h", "w", "channels", "outputs")),
        *((name, ctypes.c_void_p) for name in ("image", "weight", "bias", "output")),
        ("threads", ctypes.c_int32),
        ("parallel_for", ctypes.c_void_p),
    ]


class _Unpool(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "pixels", "channels", "image_pixels")),
        *((name, ctypes.c_void_p) for name in ("image", "values", "indices")),
        ("threads", ctypes.c_int32),
        ("parallel_for", ctypes.c_void_p),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    """Load the shared library with the kernels.

    Raises OSError, with the reason and the remedy, if it is missing or does not load; ValueError if the environment
    variable BOX_CONVOLUTION_ISA (for tests and bug reports) asks for an instruction set that is not available.
    """
    # An editable installation has two folders: the one with this file, and the one that the library was installed into.
    folders = [Path(folder) for folder in sys.modules[__package__].__path__]
    path = next((folder / _FILE for folder in folders if (folder / _FILE).is_file()), None)
    if path is None:
        why = build_record.reason()
        where = "" if why else f" is not in {' or '.join(map(str, folders))}: it"
        raise OSError(f"{_FILE}{where} was not built{f': {why}' if why else ''}. {_remedy()}")
    try:
        found = ctypes.CDLL(str(path))
        version = found.box_abi_version()
        if version != _ABI_VERSION:
            raise OSError(f"it has version {version} of the interface, this package needs {_ABI_VERSION}")
        found.box_forward.argtypes = [ctypes.POINTER(_Forward)]
        found.box_backward.argtypes = [ctypes.POINTER(_Backward)]
        found.box_transpose.argtypes = [ctypes.POINTER(_Transpose)]
        found.box_activation.argtypes = [ctypes.POINTER(_Activation)]
        found.box_unpool.argtypes = [ctypes.POINTER(_Unpool)]
        found.box_pointwise.argtypes = [ctypes.POINTER(_Pointwise)]
        found.box_transposed_2x2.argtypes = [ctypes.POINTER(_Transposed2x2)]
        for function in (found.box_transpose, found.box_unpool):
            function.restype = None
        found.box_isa.restype = ctypes.c_char_p
        found.box_use_isa.argtypes = [ctypes.c_char_p]
    except (OSError, AttributeError) as error:
        raise OSError(f"{path} cannot be used: {error}. {_remedy()}") from error
    wanted = os.environ.get(_ISA_VARIABLE)
    if wanted:
        _force_isa(found, wanted, f"environment variable {_ISA_VARIABLE}")
    return found


def _remedy() -> str:
    compiler = "with a C++ compiler at hand (GCC 11 or later, or Clang 14 or later)"
    return f"Reinstall box-convolution {compiler}: {build_record.reinstall()}"


@functools.cache
def status() -> str | None:
    """Return None if the kernels can be used, else one line with the reason and the remedy.

    If BOX_CONVOLUTION_ISA is set, the user wants the kernels: then this raises what `library` raises.
    """
    try:
        library()
    except OSError as error:
        if os.environ.get(_ISA_VARIABLE):
            raise
        return str(error)
    return None


def isa() -> str:
    """Return the instruction set in use: "avx512", "avx2" or "baseline" on x86-64, "neon" on arm64."""
    name: bytes = library().box_isa()
    return name.decode()


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Force an instruction set in the whole process, for tests and bug reports.

    Raises ValueError if the library or this machine does not have it.
    """
    found, previous = library(), isa()
    _force_isa(found, name, "name")
    try:
        yield
    finally:
        found.box_use_isa(previous.encode())


def isas() -> list[str]:
    """List the instruction sets that both the library and this machine have, the fastest first."""
    return _present(library())


def _present(found: ctypes.CDLL) -> list[str]:
    previous = found.box_isa()
    present = [name for name in ("avx512", "avx2", "baseline", "neon") if not found.box_use_isa(name.encode())]
    found.box_use_isa(previous)
    return present


def _force_isa(found: ctypes.CDLL, name: str, argument: str) -> None:
    if found.box_use_isa(name.encode()):
        raise ValueError(f"{argument} must be one of {_present(found)} with this library on this machine, got {name!r}")


@functools.cache
def _parallel_for() -> int:
    """Return the address of torch's parallel loop; 0 before PyTorch 2.10: then the library starts its own threads."""
    name = {"win32": "torch_cpu.dll", "darwin": "libtorch_cpu.dylib"}.get(sys.platform, "libtorch_cpu.so")
    try:  # PyTorch has loaded it already; its name alone finds it where a distribution keeps it in another folder
        beside = Path(torch.__file__).parent / "lib" / name
        loaded = ctypes.CDLL(str(beside) if beside.is_file() else name)
    except OSError:
        return 0
    function = getattr(loaded, "torch_parallel_for", None)
    return ctypes.cast(function, ctypes.c_void_p).value or 0 if function else 0


def _problem(input: Tensor, boxes: Tensor, exact: bool, normalize: bool, stride: int) -> _Problem:
    """``boxes``: float64, contiguous. The result points to its memory, so the caller must keep it alive."""
    batch, channels, h, w = input.shape
    return _Problem(
        batch, channels, boxes.shape[1], h, w, stride, _DTYPES[input.dtype], normalize, exact,
        boxes.data_ptr(), input.data_ptr(), _Strides(*input.stride()), _parallel_for(), torch.get_num_threads(),
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
        output = torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=torch.channels_last)
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


def add_boxes(image: Tensor, input: Tensor, boxes: Tensor, epilogue: Epilogue, normalize: bool) -> None:
    """See `deployed_layers`; ``image``, the residual of ``epilogue``, is channels_last, ``input`` float32 as well."""
    wide = boxes.to(torch.float64).contiguous()
    rows = _by_rows(input)
    problem = _problem(rows, wide, boxes.dtype == torch.float64, normalize, stride=1)
    if not image.numel() or _into_pixels(image, problem, epilogue):
        return
    planes = image.new_empty(image.shape)
    _check(_forward(problem, planes, epilogue._replace(residual=None, relu=False), pixels=False), problem)
    batch, channels, h, w = image.shape
    _transpose(batch, channels, h * w, planes, image, epilogue.relu, image)


def _into_pixels(output: Tensor, problem: _Problem, epilogue: Epilogue) -> bool:
    """Write to ``output``, in channels_last; it may be the residual. False, with nothing written, if no kernel does."""
    # The kernels for channels_last outputs give a thread at least 16 channels: are there enough for every thread?
    if output.shape[0] * output.shape[1] < 16 * torch.get_num_threads():
        return False
    if epilogue.residual is not None:
        epilogue = epilogue._replace(residual=epilogue.residual.contiguous(memory_format=torch.channels_last))
    status = _forward(problem, output, epilogue, pixels=True)
    if status == _NOT_SERVED:
        return False
    _check(status, problem)
    return True


def _forward(problem: _Problem, output: Tensor, epilogue: Epilogue, *, pixels: bool) -> int:
    """Call the kernel; the residual has the memory format of ``output``."""
    scale, shift = (None if part is None else part.contiguous() for part in (epilogue.scale, epilogue.shift))
    pointers = [None if part is None else part.data_ptr() for part in (scale, shift, epilogue.residual)]
    status: int = library().box_forward(_Forward(problem, output.data_ptr(), *pointers, epilogue.relu, pixels))
    return status


def box_conv2d_backward(
    grad_output: Tensor, input: Tensor, boxes: Tensor, normalize: bool, stride: int, output_mask: list[bool]
) -> tuple[Tensor, Tensor]:
    """Gradients by input, in its memory format, and by boxes; empty where ``output_mask`` is False."""
    grad_input = input.new_empty(input.shape if output_mask[0] else 0)
    grad_boxes = boxes.new_empty(boxes.shape if output_mask[1] else 0, dtype=torch.float64)
    if grad_output.numel() == 0:
        return grad_input.zero_(), grad_boxes.zero_().to(boxes.dtype)
    image, grad, wide = _by_rows(input), _by_rows(grad_output), boxes.to(torch.float64).contiguous()
    exact = boxes.dtype == torch.float64
    problem = _problem(image, wide, exact, normalize, stride)
    call = _Backward(
        problem, grad.data_ptr(), _Strides(*grad.stride()),
        grad_input.data_ptr() if output_mask[0] else None, grad_boxes.data_ptr() if output_mask[1] else None,
    )  # fmt: skip
    _check(library().box_backward(call), problem)
    if output_mask[0] and memory_format(input) == torch.channels_last:
        grad_input = _pixels(grad_input)
    return grad_input, grad_boxes.to(boxes.dtype)


def _by_rows(tensor: Tensor) -> Tensor:
    """Return ``tensor``, or a contiguous copy if the pixels of a row are apart: reading them so would cost more."""
    if tensor.stride(3) == 1 or tensor.shape[3] == 1:
        return tensor
    if not tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.contiguous()
    batch, channels, h, w = tensor.shape
    planes = torch.empty_like(tensor, memory_format=torch.contiguous_format)
    _transpose(batch, h * w, channels, tensor, None, False, planes)
    return planes


def _pixels(planes: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
    """Return [relu](planes [+ residual]) in channels_last, 5 to 7 times as fast as PyTorch's own copy."""
    batch, channels, h, w = planes.shape
    output = torch.empty_like(planes, memory_format=torch.channels_last)
    other = None if residual is None else residual.contiguous(memory_format=torch.channels_last)
    _transpose(batch, channels, h * w, planes, other, relu, output)
    return output


def _transpose(
    batch: int, rows: int, columns: int, input: Tensor, residual: Tensor | None, relu: bool, output: Tensor
) -> None:
    call = _Transpose(
        batch, rows, columns, input.data_ptr(), None if residual is None else residual.data_ptr(), output.data_ptr(),
        input.itemsize, relu, torch.get_num_threads(), _parallel_for(),
    )  # fmt: skip
    library().box_transpose(call)


def activate(image: Tensor, residual: Tensor | None, slopes: Tensor | None) -> None:
    """See `deployed_layers`; ``image`` and ``residual`` float32 in channels_last."""
    channels = image.shape[1]
    numbers = None if slopes is None else slopes.float().expand(channels).contiguous()
    pointers = [None if part is None else part.data_ptr() for part in (residual, numbers)]
    pixels = image.numel() // max(channels, 1)
    call = _Activation(pixels, channels, image.data_ptr(), *pointers, torch.get_num_threads(), _parallel_for())
    if library().box_activation(call):
        raise MemoryError(f"activate_: no memory for {channels} slopes")


def pointwise_planes(image: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
    """See `deployed_layers`; ``image`` float32 in channels_last."""
    batch, channels, h, w = image.shape
    planes = image.new_empty(batch, len(bias), h, w)
    operands = [tensor.contiguous() for tensor in (weight, bias)]
    pointers = [image.data_ptr(), *(tensor.data_ptr() for tensor in operands), planes.data_ptr()]
    call = _Pointwise(batch, h * w, channels, len(bias), *pointers, relu, torch.get_num_threads(), _parallel_for())
    status: int = library().box_pointwise(call)
    if status == _NOT_SERVED:
        result = conv2d(image, weight, bias, dilation=pointwise_dilation(image) or 1)
        result = result.contiguous(memory_format=torch.channels_last)
        _transpose(batch, h * w, len(bias), result, None, relu, planes)
    elif status:
        raise MemoryError(f"pointwise_planes: no memory for a weight of shape {tuple(weight.shape)}")
    return planes


def transposed_2x2(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See `deployed_layers`; ``image`` float32 in channels_last, and so is the result."""
    batch, channels, h, w = image.shape
    shape = (batch, len(bias), 2 * h, 2 * w)
    output = torch.empty(shape, dtype=image.dtype, device=image.device, memory_format=torch.channels_last)
    operands = [tensor.contiguous() for tensor in (weight, bias)]
    pointers = [image.data_ptr(), *(tensor.data_ptr() for tensor in operands), output.data_ptr()]
    call = _Transposed2x2(batch, h, w, channels, len(bias), *pointers, torch.get_num_threads(), _parallel_for())
    status: int = library().box_transposed_2x2(call)
    if status == _NOT_SERVED:
        return conv_transpose2d(image, weight, bias, stride=2).contiguous(memory_format=torch.channels_last)
    if status:
        raise MemoryError(f"transposed_2x2: no memory for a weight of shape {tuple(weight.shape)}")
    return output


def pointwise_dilation(image: Tensor) -> int | None:
    """The dilation with which a 1x1 convolution of a large channels_last image is fastest. It changes no result.

    On one thread PyTorch leaves these convolutions to oneDNN only if they are dilated, which takes half the time of the
    matrix product that it uses else. None for small images, or without oneDNN: there the matrix product is faster.
    """
    if image.numel() < _LARGE or not getattr(torch.backends.mkldnn, "enabled", True):
        return None
    return 2 if torch.get_num_threads() == 1 else 1


def unpool(image: Tensor, values: Tensor, indices: Tensor) -> None:
    """See `deployed_layers`; all in channels_last, numbers float32, indices int64."""
    batch, channels, h, w = values.shape
    pointers = [tensor.data_ptr() for tensor in (image, values, indices)]
    pixels = image.shape[2] * image.shape[3]
    call = _Unpool(batch, h * w, channels, pixels, *pointers, torch.get_num_threads(), _parallel_for())
    library().box_unpool(call)


def _check(status: int, problem: _Problem) -> None:
    if status:
        size = f"{problem.h} x {problem.w}"
        raise MemoryError(f"box_conv2d: no memory for integral images of {size} pixels (8 bytes a pixel and thread)")
