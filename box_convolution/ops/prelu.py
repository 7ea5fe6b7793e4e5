"""The operators `box_convolution::prelu` and `prelu_backward`: PReLU in training on the CPU.

    prelu(input, slopes) = where(input > 0, input, slopes * input)

input (B, C, H, W), slopes (C,) or (1,). The result has the input's dtype and memory format; slopes may have another
dtype, as under autocast. PyTorch computes this derivative number by number, in 30 to 60 times the time of a copy, which
was a fifth to a third of a training step of ENet. Here it is one pass for float32 and bfloat16 in channels_last, the
same for any number of threads; others get PyTorch's operations.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import prelu as prelu_of_torch

from . import dispatch, native, native_layers

_library = torch.library.Library("box_convolution", "FRAGMENT")
_library.define("prelu(Tensor input, Tensor slopes) -> Tensor")
_library.define("prelu_backward(Tensor grad_output, Tensor input, Tensor slopes) -> (Tensor, Tensor)")
_forward_op = torch.ops.box_convolution.prelu.default
_backward_op = torch.ops.box_convolution.prelu_backward.default


def prelu(input: Tensor, slopes: Tensor) -> Tensor:
    """PReLU by the fastest way that serves the call: every kind of differentiation, tracing and device works."""
    if dispatch.eager_on_cpu(input) and dispatch.serving(input) is native:
        image = dispatch.autocast_input(input)
        if _fast(image) and slopes.is_floating_point():
            recorded = torch.is_grad_enabled() and (image.requires_grad or slopes.requires_grad)
            result: Tensor = (EagerPReLU.apply if recorded else _forward_op)(image, slopes)
            return result
    return prelu_of_torch(input, slopes)


def _fast(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.float32, torch.bfloat16) and tensor.is_contiguous(memory_format=torch.channels_last)


def _forward(input: Tensor, slopes: Tensor) -> Tensor:
    if dispatch.serving(input) is native and input.ndim == 4 and _fast(input):
        return native_layers.prelu(input, slopes)[0]
    return prelu_of_torch(input, slopes.to(input.dtype))


def _backward(grad_output: Tensor, input: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    if dispatch.serving(input) is native and input.ndim == 4 and _fast(input):
        grad = grad_output.to(input.dtype).contiguous(memory_format=torch.channels_last)
        grad_input, grad_slopes = native_layers.prelu(input, slopes, grad)
    else:
        positive = input > 0
        grad_input = torch.where(positive, grad_output, _by_channel(slopes, input) * grad_output).to(input.dtype)
        grad_slopes = _over_pixels(torch.where(positive, 0, input * grad_output))
    return grad_input, grad_slopes.sum_to_size(slopes.shape).to(slopes.dtype)


def _by_channel(slopes: Tensor, input: Tensor) -> Tensor:
    return slopes.to(input.dtype).view(-1, *[1] * (input.ndim - 2))


def _over_pixels(numbers: Tensor) -> Tensor:
    """Sum (B, C, ...) over all but channels."""
    return numbers.sum([dim for dim in range(numbers.ndim) if dim != 1])


_library.impl("prelu", _forward, "CPU")
_library.impl("prelu_backward", _backward, "CPU")


@torch.library.register_fake(_forward_op, lib=_library)
def _forward_fake(input: Tensor, slopes: Tensor) -> Tensor:
    return torch.empty_like(input)


@torch.library.register_fake(_backward_op, lib=_library)
def _backward_fake(grad_output: Tensor, input: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(input), torch.empty_like(slopes)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _forward_autograd(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor]:
    grads: tuple[Tensor, Tensor] = _backward_op(grad_output, *ctx.saved_tensors)
    return grads


def _backward_autograd(ctx: Any, by_grad_input: Tensor, by_grad_slopes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Double backward, to any order: PyTorch's operations, which differentiate further."""
    grad_output, input, slopes = ctx.saved_tensors
    positive, slope, by_slope = input > 0, _by_channel(slopes, input), _by_channel(by_grad_slopes, input)
    by_grad_output = torch.where(positive, by_grad_input, slope * by_grad_input + by_slope * input)
    by_input = torch.where(positive, 0, by_slope * grad_output)
    by_slopes = _over_pixels(torch.where(positive, 0, grad_output * by_grad_input))
    return by_grad_output, by_input, by_slopes.sum_to_size(slopes.shape).to(slopes.dtype)


torch.library.register_autograd(_forward_op, _forward_autograd, setup_context=_save, lib=_library)
torch.library.register_autograd(_backward_op, _backward_autograd, setup_context=_save, lib=_library)


class EagerPReLU(torch.autograd.Function):
    """The registered formula again, for eager calls, as in `dispatch`: half of the host's time."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, slopes: Tensor) -> Tensor:
        output: Tensor = _forward_op(input, slopes)
        _save(ctx, (input, slopes), output)
        return output

    backward = staticmethod(_forward_autograd)
