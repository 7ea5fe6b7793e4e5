"""The cost of one operation of a network, by the convention of the paper and by the usual one.

Both look at the shapes of tensors alone, so they can be read off a network on the meta device.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from box_convolution.torch_internals import PRELU


class Operations(NamedTuple):
    """Of one operation or of many.

    paper: "MultAdds" as counted for Table 3 of the paper. A convolution counts a multiplication per tap, input channel
        and output and, with a bias, one addition an output; a transposed one is counted at the *output's* resolution,
        4 times what it takes with stride 2. Pooling counts the pooled pixels; max-unpooling, ReLU, PReLU and a
        residual addition 1 an output; a box convolution 1 an input pixel and 5 an output; the rest nothing.
    macs: multiply-accumulates of convolutions, transposed ones at the input's resolution. Nothing else counts.
    box: operations of box convolutions, which are not multiply-accumulates: 2 additions an input pixel for the integral
        image, 3 additions and a multiplication an output.
    """

    paper: int = 0
    macs: int = 0
    box: int = 0

    def plus(self, other: "Operations") -> "Operations":
        return Operations(self.paper + other.paper, self.macs + other.macs, self.box + other.box)


def name_of(function: Any) -> str:
    """Of an ATen operation, without its overload: aten::add."""
    name: str = function.name()
    return name.partition(".")[0]


def operations(function: Any, args: tuple[Any, ...], output: Any) -> Operations:
    """Of one call of the ATen operation ``function``."""
    rule = _RULES.get(name_of(function))
    return rule(args, output[0] if isinstance(output, (tuple, list)) else output) if rule else Operations()


def _convolution(args: tuple[Any, ...], output: Tensor) -> Operations:
    input, weight, bias, transposed, groups = args[0], args[1], args[2], args[6], args[8]
    # One output channel has (input channels / groups) * taps weights; so, transposed, has one input channel.
    weights = weight[0].numel()
    macs = weights * (input.numel() if transposed else output.numel())
    paper = weight.shape[0] // groups * weight[0, 0].numel() * output.numel() if transposed else macs
    return Operations(paper + (output.numel() if bias is not None else 0), macs)


def _max_pool(args: tuple[Any, ...], output: Tensor) -> Operations:
    h, w = args[1]
    return Operations(h * w * output.numel())


def _one_an_output(args: tuple[Any, ...], output: Tensor) -> Operations:
    return Operations(output.numel())


def _addition(args: tuple[Any, ...], output: Tensor) -> Operations:
    """Only of two images: arithmetic on boxes is not what the paper counts."""
    both = isinstance(args[1], Tensor) and output.ndim == 4 and args[0].shape == args[1].shape
    return Operations(output.numel()) if both else Operations()


def _box(args: tuple[Any, ...], output: Tensor) -> Operations:
    input = args[0].numel()
    return Operations(input + 5 * output.numel(), box=2 * input + 4 * output.numel())


def _fused_box(args: tuple[Any, ...], output: Tensor) -> Operations:
    """What follows in the same write counts as it would on its own; scale and shift, a BatchNorm, count nothing."""
    residual, relu = (*args, None, None, None, None)[4:6]
    following = int(residual is not None) + int(bool(relu))
    return _box(args, output).plus(Operations(following * output.numel()))


_RULES: dict[str, Callable[[tuple[Any, ...], Tensor], Operations]] = {
    "aten::convolution": _convolution,
    "aten::max_pool2d_with_indices": _max_pool,
    "aten::max_unpool2d": _one_an_output,
    "aten::scatter_": _one_an_output,  # max-unpooling, as ENet does it
    "aten::scatter": _one_an_output,
    "aten::relu": _one_an_output,
    "aten::relu_": _one_an_output,
    **dict.fromkeys(PRELU, _one_an_output),
    "aten::add": _addition,
    "aten::add_": _addition,
    "box_convolution::box_conv2d": _box,
    "box_convolution::box_conv2d_fused": _fused_box,
}
