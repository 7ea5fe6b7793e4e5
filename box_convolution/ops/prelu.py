"""The operators `box_convolution::prelu` and `prelu_backward`: PReLU in training on the CPU.

    prelu(input, slopes) = where(input > 0, input, slopes * input)

input (B, C, H, W), slopes (C,) or (1,). The result has the input's dtype and strides; slopes may have another dtype, as
under autocast, and are not rounded. PyTorch computes this derivative number by number: both passes take 30 to 80
times as long as a copy, which was a fifth to a third of a training step of ENet. Here it is one pass for float32 and
bfloat16 in channels_last, the same for any number of threads; others get PyTorch's operations.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import prelu as prelu_of_torch

from . import dispatch, native_layers
from .box_operator import autocast_input
from .reference import autocast_is_on

_DTYPES = (torch.float32, torch.bfloat16)  # of the kernels

_library = torch.library.Library("box_convolution", "FRAGMENT")
_library.define("prelu(Tensor input, Tensor slopes) -> Tensor")
_library.define("prelu_backward(Tensor grad_output, Tensor input, Tensor slopes) -> (Tensor, Tensor)")
_forward_op = torch.ops.box_convolution.prelu.default
_backward_op = torch.ops.box_convolution.prelu_backward.default


def prelu(input: Tensor, slopes: Tensor) -> Tensor:
    """PReLU by the fastest way that serves the call; every kind of differentiation, tracing and tensor works."""
    if dispatch.eager_on_cpu(input) and _by_kernels(input) and _are_plain(input, slopes):
        image = autocast_input(input)
        if _served(image, slopes, cast=autocast_is_on(input)):
            recorded = torch.is_grad_enabled() and (image.requires_grad or slopes.requires_grad)
            result: Tensor = (EagerPReLU.apply if recorded else _eager_forward)(image, slopes)
            return result
    return prelu_of_torch(input, slopes)


def _are_plain(*tensors: Tensor) -> bool:
    """Whether none is of a subclass of tensors, which may know PyTorch's operators only."""
    return all(type(tensor) in (Tensor, torch.nn.Parameter) for tensor in tensors)


def _served(image: Tensor, slopes: Tensor, cast: bool) -> bool:
    """Whether slopes fit the image, so that PyTorch would take them. ``cast``: autocast lets other dtypes pass."""
    fits = slopes.device == image.device and slopes.shape in ((1,), image.shape[1:2])
    return fits and image.dtype in _DTYPES and (slopes.dtype == image.dtype or (cast and slopes.dtype in _DTYPES))


def _by_kernels(input: Tensor) -> bool:
    """Whether the kernels compute PReLU of ``input``."""
    fits = input.ndim == 4 and input.dtype in _DTYPES and input.is_contiguous(memory_format=torch.channels_last)
    return fits and dispatch.kernels_serve_cpu()


def _forward(input: Tensor, slopes: Tensor) -> Tensor:
    if _by_kernels(input):
        return native_layers.prelu(input, slopes)[0]
    return prelu_of_torch(input, slopes.to(input.dtype))


def _backward(grad_output: Tensor, input: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    if _by_kernels(input):
        grad = grad_output.to(input.dtype).contiguous(memory_format=torch.channels_last)
        grad_input, grad_slopes = native_layers.prelu(input, slopes, grad)
        return grad_input, grad_slopes.sum_to_size(slopes.shape).to(slopes.dtype)
    return _composed(grad_output, input, slopes)


def _composed(grad_output: Tensor, input: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients in PyTorch's operations, which have all derivatives."""
    return _by_input(grad_output, input, slopes), _by_slopes(input * grad_output, input, slopes)


def _by_input(grad: Tensor, input: Tensor, slopes: Tensor) -> Tensor:
    return torch.where(input > 0, grad, _of_channels(slopes, input) * grad).to(input.dtype)


def _by_slopes(numbers: Tensor, input: Tensor, slopes: Tensor) -> Tensor:
    """The sum of ``numbers`` over the pixels that are multiplied by a slope."""
    total = _where_scaled(numbers, input).sum([dim for dim in range(input.ndim) if dim != 1])
    return total.sum_to_size(slopes.shape).to(slopes.dtype)


def _where_scaled(numbers: Tensor, input: Tensor) -> Tensor:
    return torch.where(input > 0, 0, numbers)


def _of_channels(slopes: Tensor, input: Tensor) -> Tensor:
    return slopes.to(input.dtype).view(-1, *[1] * (input.ndim - 2))


_library.impl("prelu", _forward, "CPU")
_library.impl("prelu_backward", _backward, "CPU")
_eager_forward = dispatch.eager(_forward_op, _forward)
_eager_backward = dispatch.eager(_backward_op, _backward)


@torch.library.register_fake(_forward_op, lib=_library)
def _forward_fake(input: Tensor, slopes: Tensor) -> Tensor:
    return torch.empty_like(input)


@torch.library.register_fake(_backward_op, lib=_library)
def _backward_fake(grad_output: Tensor, input: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(input), torch.empty_like(slopes)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _forward_autograd(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None]:
    input, slopes = ctx.saved_tensors
    plain = torch.compiler.is_compiling() or dispatch.eager_on_cpu(grad_output)
    grad_input, grad_slopes = (_eager_backward if plain else _composed)(grad_output, input, slopes)
    needed = ctx.needs_input_grad
    return grad_input if needed[0] else None, grad_slopes if needed[1] else None


def _save_backward(ctx: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)  # zeros in place of None would turn infinities into NaNs


def _backward_autograd(
    ctx: Any, by_grad_input: Tensor | None, by_grad_slopes: Tensor | None
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Double backward, to any order: PyTorch's operations, which differentiate further."""
    grad_output, input, slopes = ctx.saved_tensors
    by_grad_output = by_input = by_slopes = None
    if by_grad_input is not None:
        by_grad_output = _by_input(by_grad_input, input, slopes)
        by_slopes = _by_slopes(grad_output * by_grad_input, input, slopes)
    if by_grad_slopes is not None:
        factors = _of_channels(by_grad_slopes, input)
        by_input = _where_scaled(factors * grad_output, input)
        more = _where_scaled(factors * input, input)
        by_grad_output = more if by_grad_output is None else by_grad_output + more
    return by_grad_output, by_input, by_slopes


torch.library.register_autograd(_forward_op, _forward_autograd, setup_context=_save, lib=_library)
torch.library.register_autograd(_backward_op, _backward_autograd, setup_context=_save_backward, lib=_library)


class EagerPReLU(torch.autograd.Function):
    """The registered formula again, for eager calls, as in `box_operator`: half of the host's time."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, slopes: Tensor) -> Tensor:
        output: Tensor = _eager_forward(input, slopes)
        _save(ctx, (input, slopes), output)
        return output

    backward = staticmethod(_forward_autograd)
