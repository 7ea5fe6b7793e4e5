"""The operator `box_convolution::box_conv2d_fused`: a box convolution and what follows it in inference, in one pass.

    box_conv2d_fused(input, boxes, scale, shift, residual, relu, normalize, stride)
        = [relu]([residual +] [scale *] box_conv2d(input, boxes, normalize, stride) [+ shift])

input (B, C, H, W), boxes (C, M, 4) and output (B, C*M, H', W') as in `box_convolution.box_conv2d`; scale and
shift (C*M,), float32; residual like the output. None leaves a part out. A BatchNorm in evaluation mode is a scale and a
shift. Sums are made as in box_conv2d; in half precision the result is rounded only once, at the end. It is
channels_last if the input or the residual is. If a scale is 0, the average counts as 0, even if the box or the image
has a NaN; the kernels do not compute it.

For inference only: it has no derivative, and raises NotImplementedError where one would be needed.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from .checks import check_fused, fused_format, output_shape
from .dispatch import autocast_input, box_conv2d_flops, in_forward_mode, serving

_library = torch.library.Library("box_convolution", "FRAGMENT")
_library.define(
    "box_conv2d_fused(Tensor input, Tensor boxes, Tensor? scale=None, Tensor? shift=None, Tensor? residual=None, "
    "bool relu=False, bool normalize=True, int stride=1) -> Tensor"
)
_op = torch.ops.box_convolution.box_conv2d_fused.default


def _fused(
    input: Tensor,
    boxes: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
    normalize: bool = True,
    stride: int = 1,
) -> Tensor:
    check_fused(input, boxes, scale, shift, residual, stride)
    if in_forward_mode():  # which would silently drop the tangents
        _refuse()
    output = serving(input).box_conv2d_fused(input, boxes, scale, shift, residual, relu, normalize, stride)
    return output.contiguous(memory_format=fused_format(input, residual))


_library.impl("box_conv2d_fused", _fused, "CompositeExplicitAutograd")


@torch.library.register_fake(_op, lib=_library)
def _fake(
    input: Tensor,
    boxes: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
    normalize: bool = True,
    stride: int = 1,
) -> Tensor:
    check_fused(input, boxes, scale, shift, residual, stride)
    return input.new_empty(output_shape(input, boxes, stride)).contiguous(memory_format=fused_format(input, residual))


def _refuse(*_: Any, **__: Any) -> None:
    raise NotImplementedError(
        "box_conv2d_fused is for inference and has no derivative: call it under torch.no_grad(), or use "
        "box_convolution.box_conv2d, which has one"
    )


# Autograd calls `_refuse` when it prepares a backward pass. torch.func itself refuses operators without a formula.
torch.library.register_autograd(_op, _refuse, setup_context=_refuse, lib=_library)


def _register_autocast(device_type: str, key: str) -> None:
    """As for box_conv2d: input and residual are cast; boxes, scale and shift are not."""

    def fused(
        input: Tensor,
        boxes: Tensor,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        residual: Tensor | None = None,
        relu: bool = False,
        normalize: bool = True,
        stride: int = 1,
    ) -> Tensor:
        input, residual = autocast_input(input), None if residual is None else autocast_input(residual)
        with torch.autocast(device_type, enabled=False):
            result: Tensor = _op(input, boxes, scale, shift, residual, relu, normalize, stride)
            return result

    _library.impl("box_conv2d_fused", fused, key)


_register_autocast("cpu", "AutocastCPU")
_register_autocast("cuda", "AutocastCUDA")


# The same count as for box_conv2d, because FlopCounterMode ignores element-wise operations.
register_flop_formula(_op.overloadpacket, get_raw=True)(box_conv2d_flops)
