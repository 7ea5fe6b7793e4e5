"""The number of arithmetic operations in one call of an operator, in the paper's convention and in the usual one.

Both depend only on the shapes of tensors, so a network on the meta device is enough.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from box_convolution.torch_internals import PRELU


class Operations(NamedTuple):
    """Numbers of arithmetic operations.

    paper: "MultAdds" as in Table 3 of the paper. A convolution has one per tap, input channel and output, and with a
        bias one more per output. A transposed convolution is counted at the resolution of the *output*, which is 4
        times too many with stride 2. Pooling has one per pooled pixel; max-unpooling, ReLU, PReLU and a residual
        addition have one per output; a box convolution has one per input pixel and 5 per output. Nothing else counts.
    macs: multiply-accumulates of convolutions; those of transposed ones at the resolution of the input. Nothing else
        counts.
    box: operations of box convolutions, which are not multiply-accumulates: 2 additions per input pixel for the
        integral image, 3 additions and one multiplication per output.
    """

    paper: int = 0
    macs: int = 0
    box: int = 0

    def plus(self, other: "Operations") -> "Operations":
        return Operations(self.paper + other.paper, self.macs + other.macs, self.box + other.box)


def name_of(function: Any) -> str:
    """Name of an operator without its overload, such as aten::add."""
    name: str = function.name()
    return name.partition(".")[0]


def operations(function: Any, args: tuple[Any, ...], output: Any) -> Operations:
    """Operations in one call of the operator ``function`` with arguments ``args`` and result ``output``."""
    rule = _RULES.get(name_of(function))
    return rule(args, output[0] if isinstance(output, (tuple, list)) else output) if rule else Operations()


def _convolution(args: tuple[Any, ...], output: Tensor) -> Operations:
    input, weight, bias, transposed, groups = args[0], args[1], args[2], args[6], args[8]
    # weight[0] has (input channels / groups) * taps numbers for one output channel. Of a transposed convolution it has
    # (output channels / groups) * taps numbers for one input channel.
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
    """Additions of two feature maps only: the paper does not count arithmetic on boxes."""
    both = isinstance(args[1], Tensor) and output.ndim == 4 and args[0].shape == args[1].shape
    return Operations(output.numel()) if both else Operations()


def _box(args: tuple[Any, ...], output: Tensor) -> Operations:
    input = args[0].numel()
    return Operations(input + 5 * output.numel(), box=2 * input + 4 * output.numel())


def _fused_box(args: tuple[Any, ...], output: Tensor) -> Operations:
    """A fused residual addition or ReLU counts like a separate one; scale and shift, from BatchNorm, do not count."""
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
    **dict.fromkeys((*PRELU, "box_convolution::prelu"), _one_an_output),
    "aten::add": _addition,
    "aten::add_": _addition,
    "box_convolution::box_conv2d": _box,
    "box_convolution::box_conv2d_fused": _fused_box,
}
