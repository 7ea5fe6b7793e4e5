"""What may follow a box convolution in inference, in the same pass over the output."""

from typing import NamedTuple

from torch import Tensor


class Epilogue(NamedTuple):
    """[relu]([residual +] [scale *] output [+ shift]). None leaves a part out.

    scale, shift: (C*M,), float32. residual: like the output. If a scale is 0, the output counts as 0, even if it is
    NaN.
    """

    scale: Tensor | None = None
    shift: Tensor | None = None
    residual: Tensor | None = None
    relu: bool = False

    def after_scale(self, output: Tensor) -> Tensor:
        """[relu]([residual +] output [+ shift]), for an output (B, C*M, H', W') that has been scaled."""
        if self.shift is not None:
            output = output + self.shift[:, None, None]
        if self.residual is not None:
            output = output + self.residual
        return output.relu() if self.relu else output


def fused_arguments(
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    residual: Tensor | None = None,
    relu: bool = False,
    normalize: bool = True,
    stride: int = 1,
) -> tuple[Epilogue, bool, int]:
    """The arguments of the operator `box_conv2d_fused` after input and boxes: epilogue, normalize and stride."""
    return Epilogue(scale, shift, residual, relu), normalize, stride
