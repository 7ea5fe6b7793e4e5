"""The C++ kernels of `deployed_layers` and `prelu`, called with PyTorch's tensors.

All images are in channels_last; float32, where nothing else is said.
"""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from . import cpu_library, native

_LARGE = 2**16  # numbers of an image from which on oneDNN is faster than a matrix product


def _call(sizes: str, pointers: str, numbers: str = "") -> type[ctypes.Structure]:
    """A structure of layers.h: its members of 8 bytes, its pointers, its members of 4 bytes; threads at its end."""
    types = {ctypes.c_int64: sizes, ctypes.c_void_p: pointers, ctypes.c_int32: f"{numbers} threads"}
    members = [(name, type_) for type_, names in types.items() for name in names.split()]
    return type("Call", (ctypes.Structure,), {"_fields_": [*members, ("parallel_for", ctypes.c_void_p)]})


_Activation = _call("pixels channels", "image residual slopes")
_PoolAdd = _call("batch h w channels pooled", "image input indices slopes")
_PoolBeside = _call("batch h w channels pooled", "image filtered input scale shift slopes")
_Pointwise = _call("batch pixels channels outputs", "image weight bias planes magnitudes", "relu")
_Prelu = _call("pixels channels", "input grad_output result slopes grad_slopes", "dtype")
_TransposedConv = _call("batch h w channels outputs", "image weight bias output", "size")
_Unpool = _call("batch h w channels image_pixels", "image values indices", "relu")


def _run(kernel: Callable[..., int], call: ctypes.Structure, what: str) -> bool:
    """Run a kernel. False, with nothing written, if none serves. Raises MemoryError if there is none for ``what``."""
    call.threads, call.parallel_for = cpu_library.workers()
    status = kernel(ctypes.byref(call))
    if status not in (0, cpu_library.NOT_SERVED):
        raise MemoryError(f"no memory for {what}")
    return status == 0


def _pointers(*tensors: Tensor | None) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def _of_channels(slopes: Tensor | None, channels: int) -> Tensor | None:
    """One slope for each channel, in float32."""
    return None if slopes is None else slopes.float().expand(channels).contiguous()


def activate(image: Tensor, residual: Tensor | None, slopes: Tensor | None) -> None:
    """See `deployed_layers`; ``image`` and ``residual`` float32 in channels_last."""
    channels = image.shape[1]
    numbers = _of_channels(slopes, channels)
    call = _Activation(image.numel() // max(channels, 1), channels, *_pointers(image, residual, numbers))
    _run(cpu_library.library().box_activation, call, f"activate_: {channels} slopes")


def pool_add(image: Tensor, input: Tensor, slopes: Tensor | None) -> Tensor | None:
    """See `deployed_layers`; all in channels_last. Returns the indices; None, with nothing written, if none serves."""
    batch, channels, h, w = image.shape
    pooled = input.shape[1]
    numbers = _of_channels(slopes, channels)
    indices = native.empty_channels_last(input, (batch, pooled, h, w), torch.int64)
    call = _PoolAdd(batch, h, w, channels, pooled, *_pointers(image, input, indices, numbers))
    served = _run(cpu_library.library().box_pool_add, call, f"pool_add_: {channels} slopes")
    return indices if served else None


def pool_beside(
    image: Tensor, filtered: Tensor | None, input: Tensor, scale: Tensor, shift: Tensor, slopes: Tensor | None
) -> bool:
    """See `deployed_layers`; for pool_beside_ ``filtered`` is None. False, with nothing written, if none serves."""
    batch, channels, h, w = image.shape
    numbers = [scale.float().contiguous(), shift.float().contiguous(), _of_channels(slopes, channels)]
    call = _PoolBeside(batch, h, w, channels, input.shape[1], *_pointers(image, filtered, input, *numbers))
    return _run(cpu_library.library().box_pool_beside, call, f"pool_beside: {channels} slopes")


def pointwise_planes(image: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
    """See `deployed_layers`; ``image`` float32 in channels_last."""
    return _pointwise(image, weight, bias, relu, None)[0]


def measured_planes(image: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> tuple[Tensor, Tensor | None]:
    """`pointwise_planes`, and of each plane a BoxMagnitude of box_conv2d.h: two numbers of 8 bytes; None if unknown."""
    magnitudes = image.new_empty(image.shape[0], len(bias), 2, dtype=torch.float64)
    planes, measured = _pointwise(image, weight, bias, relu, magnitudes)
    return planes, magnitudes if measured else None


def _pointwise(
    image: Tensor, weight: Tensor, bias: Tensor, relu: bool, magnitudes: Tensor | None
) -> tuple[Tensor, bool]:
    """The planes, and whether a kernel made them; only that writes ``magnitudes``."""
    batch, channels, h, w = image.shape
    planes = image.new_empty(batch, len(bias), h, w)
    operands = [tensor.contiguous() for tensor in (weight, bias)]
    call = _Pointwise(batch, h * w, channels, len(bias), *_pointers(image, *operands, planes, magnitudes), relu)
    what = f"pointwise_planes: a weight of shape {tuple(weight.shape)}"
    served = _run(cpu_library.library().box_pointwise, call, what)
    if not served:
        with torch.autocast("cpu", enabled=False):
            result = conv2d(image, weight, bias, dilation=pointwise_dilation(image) or 1)
        result = result.contiguous(memory_format=torch.channels_last)
        native.transpose(batch, h * w, len(bias), result, None, relu, planes)
    return planes, served


def prelu(input: Tensor, slopes: Tensor, grad_output: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """See `prelu`; of float32 or bfloat16. With ``grad_output``, the gradients by input and by slopes, else the output.

    The second tensor is float32 (C,), and empty without ``grad_output``.
    """
    channels = input.shape[1]
    numbers = _of_channels(slopes, channels)
    result = torch.empty_like(input)
    # Zeros: the kernel does nothing for an image without pixels, whose pointers are NULL.
    grad_slopes = input.new_zeros(0 if grad_output is None else channels, dtype=torch.float32)
    pointers = _pointers(input, grad_output, result, numbers, grad_slopes)
    call = _Prelu(input.numel() // max(channels, 1), channels, *pointers, native.DTYPES[input.dtype])
    _run(cpu_library.library().box_prelu, call, f"prelu: gradients of {channels} slopes")
    return result, grad_slopes


def transposed_conv(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See `deployed_layers`; ``image`` float32 in channels_last, and so is the result."""
    (batch, channels, h, w), size = image.shape, weight.shape[3]
    output = native.empty_channels_last(image, (batch, len(bias), 2 * h, 2 * w))
    operands = [tensor.contiguous() for tensor in (weight, bias)]
    call = _TransposedConv(batch, h, w, channels, len(bias), *_pointers(image, *operands, output), size)
    what = f"transposed_conv: a weight of shape {tuple(weight.shape)}"
    return output if _run(cpu_library.library().box_transposed_conv, call, what) else doubled(image, weight, bias)


def doubled(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same by PyTorch."""
    more = weight.shape[-1] - 2
    with torch.autocast("cpu", enabled=False):
        output = conv_transpose2d(image, weight, bias, stride=2, padding=more, output_padding=more)
    return output.contiguous(memory_format=torch.channels_last)


def pointwise_dilation(image: Tensor) -> int | None:
    """The dilation with which a 1x1 convolution of a large channels_last image is fastest. It changes no result.

    On one thread PyTorch leaves these convolutions to oneDNN only if they are dilated, which takes half the time of the
    matrix product that it uses else. None for small images, or without oneDNN: there the matrix product is faster.
    """
    if image.numel() < _LARGE or not getattr(torch.backends.mkldnn, "enabled", True):
        return None
    return 2 if torch.get_num_threads() == 1 else 1


def unpool(image: Tensor, values: Tensor, indices: Tensor, relu: bool) -> None:
    """See `deployed_layers`; all in channels_last, numbers float32, indices int64."""
    batch, channels, h, w = values.shape
    pixels = image.shape[2] * image.shape[3]
    call = _Unpool(batch, h, w, channels, pixels, *_pointers(image, values, indices), relu)
    _run(cpu_library.library().box_unpool, call, "unpool_")
