"""The operators `box_convolution::box_conv2d` and `box_conv2d_backward`, with autograd, autocast, vmap and shapes.

`dispatch` chooses the implementation that they call; `fused` and `given_memory` register further operators.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ..torch_internals import in_a_transform
from . import reference
from .dispatch import eager, have_tangents, in_forward_mode, serving
from .tensor_checks import check_backward, check_forward, memory_format, output_shape

_library = torch.library.Library("box_convolution", "DEF")
_library.define("box_conv2d(Tensor input, Tensor boxes, bool normalize=True, int stride=1) -> Tensor")
_library.define(
    "box_conv2d_backward(Tensor grad_output, Tensor input, Tensor boxes, bool normalize=True, int stride=1, "
    "bool[2] output_mask=[True, True]) -> (Tensor, Tensor)"
)
_forward_op = torch.ops.box_convolution.box_conv2d.default
_backward_op = torch.ops.box_convolution.box_conv2d_backward.default


def _forward(input: Tensor, boxes: Tensor, normalize: bool = True, stride: int = 1) -> Tensor:
    check_forward(input, boxes, stride)
    refuse_tangents(input, boxes)
    output = serving(input).box_conv2d(input, boxes, normalize, stride)
    return output if input.is_contiguous() else output.contiguous(memory_format=memory_format(input))


def _backward(
    grad_output: Tensor,
    input: Tensor,
    boxes: Tensor,
    normalize: bool = True,
    stride: int = 1,
    output_mask: tuple[bool, bool] = (True, True),
) -> tuple[Tensor, Tensor]:
    check_backward(grad_output, input, boxes, stride)
    refuse_tangents(grad_output, input, boxes)
    grad_input, grad_boxes = serving(input).box_conv2d_backward(
        grad_output, input, boxes, normalize, stride, list(output_mask)
    )
    if output_mask[0] and not input.is_contiguous():
        grad_input = grad_input.contiguous(memory_format=memory_format(input))
    return grad_input, grad_boxes


_eager_forward = eager(_forward_op, _forward)
_eager_backward = eager(_backward_op, _backward)


def refuse_tangents(*tensors: Tensor) -> None:
    """Raise NotImplementedError for tensors with forward-mode tangents, which a registered operator silently drops."""
    if in_forward_mode() and have_tangents(*tensors):
        raise NotImplementedError(
            "torch.ops.box_convolution has no forward-mode derivative: call box_convolution.box_conv2d without out=, "
            "which has one"
        )


_library.impl("box_conv2d", _forward, "CompositeExplicitAutograd")
_library.impl("box_conv2d_backward", _backward, "CompositeExplicitAutograd")


@torch.library.register_fake(_forward_op, lib=_library)
def _forward_fake(input: Tensor, boxes: Tensor, normalize: bool = True, stride: int = 1) -> Tensor:
    check_forward(input, boxes, stride)
    return input.new_empty(output_shape(input, boxes, stride)).contiguous(memory_format=memory_format(input))


@torch.library.register_fake(_backward_op, lib=_library)
def _backward_fake(
    grad_output: Tensor,
    input: Tensor,
    boxes: Tensor,
    normalize: bool = True,
    stride: int = 1,
    output_mask: tuple[bool, bool] = (True, True),
) -> tuple[Tensor, Tensor]:
    check_backward(grad_output, input, boxes, stride)
    grad_input = input.new_empty(input.shape if output_mask[0] else 0)
    if output_mask[0]:
        grad_input = grad_input.contiguous(memory_format=memory_format(input))
    return grad_input, boxes.new_empty(boxes.shape if output_mask[1] else 0)


# Autograd. Only input and boxes are kept for the backward pass.


def _save_forward(ctx: Any, inputs: tuple[Tensor, Tensor, bool, int], output: Tensor) -> None:
    input, boxes, ctx.normalize, ctx.stride = inputs
    ctx.save_for_backward(input, boxes)


def _forward_autograd(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    input, boxes = ctx.saved_tensors
    mask = list(ctx.needs_input_grad[:2])
    grad_input, grad_boxes = _eager_backward(grad_output, input, boxes, ctx.normalize, ctx.stride, mask)
    return grad_input if mask[0] else None, grad_boxes if mask[1] else None, None, None


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    grad_output, input, boxes, ctx.normalize, ctx.stride, ctx.mask = inputs
    ctx.save_for_backward(grad_output, input, boxes)


def _backward_autograd(ctx: Any, grad_grad_input: Tensor, grad_grad_boxes: Tensor) -> tuple[Tensor | None, ...]:
    """Double backward, to any order: the reference's backward is made of differentiable operations."""
    saved = ctx.saved_tensors
    higher_order = torch.is_grad_enabled()
    with torch.enable_grad():
        # Differentiate with respect to views of the arguments: grad_output may itself depend on input and boxes, and
        # autograd adds the gradients along that path later.
        variables = [
            tensor.view_as(tensor) if higher_order and tensor.requires_grad else tensor.detach().requires_grad_(needed)
            for tensor, needed in zip(saved, ctx.needs_input_grad[:3], strict=True)
        ]
        grad_output, input, boxes = variables
        outputs = reference.box_conv2d_backward(grad_output, input, boxes, ctx.normalize, ctx.stride, list(ctx.mask))
        wanted = [tensor for tensor in variables if tensor.requires_grad]
        chosen = [
            (output, grad)
            for output, grad, kept in zip(outputs, (grad_grad_input, grad_grad_boxes), ctx.mask, strict=True)
            if kept and output.requires_grad
        ]
        grads = iter(
            torch.autograd.grad(
                [output for output, _ in chosen],
                wanted,
                [grad for _, grad in chosen],
                create_graph=higher_order,
                allow_unused=True,
            )
        )
    return *(next(grads) if tensor.requires_grad else None for tensor in variables), None, None, None


torch.library.register_autograd(_forward_op, _forward_autograd, setup_context=_save_forward, lib=_library)
torch.library.register_autograd(_backward_op, _backward_autograd, setup_context=_save_backward, lib=_library)


class box_conv2d(torch.autograd.Function):  # named as its node in autograd's graph is to be
    """The registered formula again, for eager calls: PyTorch takes longer to prepare a registered one."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, boxes: Tensor, normalize: bool, stride: int) -> Tensor:
        output: Tensor = _eager_forward(input, boxes, normalize, stride)
        _save_forward(ctx, (input, boxes, normalize, stride), output)
        return output

    backward = staticmethod(_forward_autograd)


# A formula does not work in torch.func.grad, vjp and similar transforms, which refuse it, nor in forward mode, where a
# registered one silently drops the tangents. There the reference is used: its operations have all derivatives.


def differentiable(input: Tensor, boxes: Tensor, normalize: bool, stride: int) -> Tensor:
    """`box_conv2d` under every kind of differentiation; costs nothing where the formula works."""
    if torch.compiler.is_compiling():
        if not in_a_transform():
            result: Tensor = _forward_op(input, boxes, normalize, stride)
            return result
    elif not in_forward_mode():
        for call in _ways(input, boxes):
            try:
                return call(input, boxes, normalize, stride)
            except RuntimeError as error:
                if "setup_context" not in str(error):  # torch.func asks for a static method of this name
                    raise
    check_forward(input, boxes, stride)
    return reference.box_conv2d(autocast_input(input), boxes, normalize, stride)


def _ways(input: Tensor, boxes: Tensor) -> tuple[Callable[[Tensor, Tensor, bool, int], Tensor], ...]:
    """What to call, the fastest first. Only the operator itself is cast by autocast, traced and mapped."""
    recorded = torch.is_grad_enabled() and (input.requires_grad or boxes.requires_grad)
    if recorded and not torch.jit.is_tracing() and not reference.autocast_is_on(input):
        return box_conv2d.apply, _forward_op
    return (_eager_forward,)


# Autocast treats the operator as it treats a convolution, but boxes are never cast: half precision would move edges.


def autocast_input(input: Tensor) -> Tensor:
    """Return ``input`` in the dtype that autocast asks for; unchanged if autocast is off."""
    if reference.autocast_is_on(input) and input.dtype in (torch.float16, torch.bfloat16, torch.float32):
        return input.to(torch.get_autocast_dtype(input.device.type))
    return input


def _register_autocast(device_type: str, key: str) -> None:
    def forward(input: Tensor, boxes: Tensor, normalize: bool = True, stride: int = 1) -> Tensor:
        input = autocast_input(input)
        with torch.autocast(device_type, enabled=False):
            return _forward_op(input, boxes, normalize, stride)

    _library.impl("box_conv2d", forward, key)


_register_autocast("cpu", "AutocastCPU")
_register_autocast("cuda", "AutocastCUDA")


# vmap. Boxes belong to channels, so a mapped dimension of boxes becomes further channels. If boxes are not mapped, it
# becomes further images of the batch.


def _first(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _channels(tensor: Tensor) -> Tensor:
    """(V, B, C, H, W) -> (B, V*C, H, W)."""
    return tensor.movedim(0, 1).flatten(1, 2)


def _forward_vmap(
    info: Any, in_dims: tuple[int | None, ...], input: Tensor, boxes: Tensor, normalize: bool = True, stride: int = 1
) -> tuple[Tensor, int]:
    size = info.batch_size
    if in_dims[1] is None:
        output = _forward_op(_first(input, in_dims[0], size).flatten(0, 1), boxes, normalize, stride)
        return output.unflatten(0, (size, -1)), 0
    output = _forward_op(
        _channels(_first(input, in_dims[0], size)), _first(boxes, in_dims[1], size).flatten(0, 1), normalize, stride
    )
    return output.unflatten(1, (size, -1)), 1


def _backward_vmap(
    info: Any,
    in_dims: tuple[int | None, ...],
    grad_output: Tensor,
    input: Tensor,
    boxes: Tensor,
    normalize: bool = True,
    stride: int = 1,
    output_mask: tuple[bool, bool] = (True, True),
) -> tuple[tuple[Tensor, Tensor], tuple[int | None, int | None]]:
    size = info.batch_size
    grad_input, grad_boxes = _backward_op(
        _channels(_first(grad_output, in_dims[0], size)),
        _channels(_first(input, in_dims[1], size)),
        _first(boxes, in_dims[2], size).flatten(0, 1),
        normalize,
        stride,
        list(output_mask),
    )
    return (
        grad_input.unflatten(1, (size, -1)) if output_mask[0] else grad_input,
        grad_boxes.unflatten(0, (size, -1)) if output_mask[1] else grad_boxes,
    ), (1 if output_mask[0] else None, 0 if output_mask[1] else None)


torch.library.register_vmap(_forward_op, _forward_vmap, lib=_library)
torch.library.register_vmap(_backward_op, _backward_vmap, lib=_library)


# Operations of the integral-image method with whole-pixel boxes: 2 additions an input pixel for the integral image, 3
# additions and a multiplication an output pixel. Backward: the same for the input's gradient; and for each output pixel
# 2 operations for each of the four edges, and 2 for the normalisation. This is on the scale of FlopCounterMode, which
# counts a multiply-add of a matrix product as 2.


@register_flop_formula(_forward_op.overloadpacket)
def box_conv2d_flops(input_shape: Any, boxes_shape: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * math.prod(input_shape) + 4 * math.prod(out_shape)


@register_flop_formula(_backward_op.overloadpacket)
def _backward_flops(grad_output_shape: Any, input_shape: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * math.prod(input_shape) + (6 + 8) * math.prod(grad_output_shape)
