"""The operator `box_convolution::box_conv2d_fused`: a box convolution and what follows it in inference, in one pass.

    box_conv2d_fused(input, boxes, scale, shift, residual, relu, normalize, stride)
        = [relu]([residual +] [scale *] box_conv2d(input, boxes, normalize, stride) [+ shift])

input (B, C, H, W), boxes (C, M, 4) and output (B, C*M, H', W') as in `box_convolution.box_conv2d`; the rest is an
`Epilogue`. A BatchNorm in evaluation mode is a scale and a shift. Sums are made as in box_conv2d; in half precision the
result is rounded only once, at the end. It is channels_last if the input or the residual is. Where a scale is 0, the
kernels do not compute the average.

For inference only: it has no derivative, and raises NotImplementedError where one would be needed.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from .box_operator import autocast_input, box_conv2d_flops
from .dispatch import in_forward_mode, serving
from .epilogue import fused_arguments
from .tensor_checks import check_fused, fused_format, output_shape

_library = torch.library.Library("box_convolution", "FRAGMENT")
_library.define(
    "box_conv2d_fused(Tensor input, Tensor boxes, Tensor? scale=None, Tensor? shift=None, Tensor? residual=None, "
    "bool relu=False, bool normalize=True, int stride=1) -> Tensor"
)
_op = torch.ops.box_convolution.box_conv2d_fused.default


# PyTorch passes the arguments one by one.
def _fused(input: Tensor, boxes: Tensor, *rest: Any, **named: Any) -> Tensor:
    epilogue, normalize, stride = fused_arguments(*rest, **named)
    check_fused(input, boxes, epilogue, stride)
    if in_forward_mode():  # which would silently drop the tangents
        _refuse()
    output = serving(input).box_conv2d_fused(input, boxes, epilogue, normalize, stride)
    return output.contiguous(memory_format=fused_format(input, epilogue.residual))


_library.impl("box_conv2d_fused", _fused, "CompositeExplicitAutograd")


@torch.library.register_fake(_op, lib=_library)
def _fake(input: Tensor, boxes: Tensor, *rest: Any, **named: Any) -> Tensor:
    epilogue, _, stride = fused_arguments(*rest, **named)
    check_fused(input, boxes, epilogue, stride)
    output = input.new_empty(output_shape(input, boxes, stride))
    return output.contiguous(memory_format=fused_format(input, epilogue.residual))


def _refuse(*_: Any, **__: Any) -> None:
    raise NotImplementedError(
        "box_conv2d_fused is for inference and has no derivative: call it under torch.no_grad(), or use "
        "box_convolution.box_conv2d, which has one"
    )


# Autograd calls `_refuse` when it prepares a backward pass. torch.func itself refuses operators without a formula.
torch.library.register_autograd(_op, _refuse, setup_context=_refuse, lib=_library)


def _register_autocast(device_type: str, key: str) -> None:
    """As for box_conv2d: input and residual are cast; boxes, scale and shift are not."""

    def fused(input: Tensor, boxes: Tensor, *rest: Any, **named: Any) -> Tensor:
        epilogue, normalize, stride = fused_arguments(*rest, **named)
        input, residual = autocast_input(input), epilogue.residual
        epilogue = epilogue._replace(residual=None if residual is None else autocast_input(residual))
        with torch.autocast(device_type, enabled=False):
            result: Tensor = _op(input, boxes, *epilogue, normalize, stride)
            return result

    _library.impl("box_conv2d_fused", fused, key)


_register_autocast("cpu", "AutocastCPU")
_register_autocast("cuda", "AutocastCUDA")


# The same count as for box_conv2d, because FlopCounterMode ignores element-wise operations.
register_flop_formula(_op.overloadpacket, get_raw=True)(box_conv2d_flops)
