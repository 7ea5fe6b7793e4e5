"""The operator `box_convolution::box_conv2d_out`: `box_conv2d` into an existing tensor, for ``out=``.

As an operator that says what it changes, it is recorded in graphs, counted, and noticed by autograd, which refuses to
use saved tensors that were overwritten. It has no derivative.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import native
from .box_operator import box_conv2d_flops, refuse_tangents
from .dispatch import serving
from .tensor_checks import check_apart, check_forward, check_out
from .triton import launch

_library = torch.library.Library("box_convolution", "FRAGMENT")
_library.define("box_conv2d_out(Tensor input, Tensor boxes, Tensor(a!) out, bool normalize=True, int stride=1) -> ()")
_op = torch.ops.box_convolution.box_conv2d_out.default


def write_to(out: Tensor, input: Tensor, boxes: Tensor, normalize: bool, stride: int) -> Tensor:
    """Write the result of `box_conv2d` into ``out``, an existing tensor, and return it.

    Raises TypeError or ValueError if ``out`` does not fit, RuntimeError if a gradient is needed.
    """
    if not isinstance(out, Tensor):
        raise TypeError(f"out must be a torch.Tensor, got {type(out).__name__}")
    if torch.is_grad_enabled() and (input.requires_grad or boxes.requires_grad or out.requires_grad):
        raise RuntimeError("out= cannot be differentiated: leave it out, or call under torch.no_grad()")
    _op(input, boxes, out, normalize, stride)
    return out


def _write(input: Tensor, boxes: Tensor, out: Tensor, normalize: bool = True, stride: int = 1) -> None:
    check_forward(input, boxes, stride)
    check_out(out, input, boxes, stride)
    check_apart(out, input, boxes)
    refuse_tangents(input, boxes, out)
    implementation = serving(input)
    if implementation is native or implementation is launch:
        implementation.box_conv2d(input, boxes, normalize, stride, out=out)
    else:
        out.copy_(implementation.box_conv2d(input, boxes, normalize, stride))
    torch.autograd.graph.increment_version(out)  # PyTorch does not see what kernels write


_library.impl("box_conv2d_out", _write, "CompositeExplicitAutograd")


@torch.library.register_fake(_op, lib=_library)
def _fake(input: Tensor, boxes: Tensor, out: Tensor, normalize: bool = True, stride: int = 1) -> None:
    check_forward(input, boxes, stride)
    check_out(out, input, boxes, stride)


@register_flop_formula(_op.overloadpacket, get_raw=True)
def _flops(input: Tensor, boxes: Tensor, out: Tensor, *args: Any, out_val: Any = None, **named: Any) -> int:
    count: int = box_conv2d_flops(input, boxes, out_val=out)
    return count
