"""ReLU and PReLU in a deployed network, in place, together with the addition before them."""

import torch
from torch import Tensor, nn
from torch.nn.functional import prelu

from ..networks.prelu import PReLU
from ..ops.dispatch import eager_on_cpu


@torch.jit.unused
def changeable(image: Tensor) -> bool:
    """Whether the operators of `ops.deployed_layers` may change ``image``, which the caller has just made.

    They work on the CPU, and have no derivative and no rule for vmap. Compiled, exported and traced graphs get
    PyTorch's operations instead.
    """
    return eager_on_cpu(image) and not image.requires_grad


def learned(*numbers: Tensor | None) -> bool:
    """Whether a gradient by one of these is asked for, which the operators of `ops.deployed_layers` do not have."""
    return any(number is not None and number.requires_grad for number in numbers)


class Activation(nn.Module):
    """ReLU, or PReLU with ``slopes`` (C,), of an image (B, C, H, W), or of its sum with a residual.

    In inference on the CPU the result overwrites the image. So the image must be a new tensor of the layer before,
    which nothing else reads.
    """

    slopes: Tensor | None

    def __init__(self, slopes: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("slopes", slopes)

    @classmethod
    def of(cls, module: object) -> "Activation | None":
        """Return the equivalent of ``module``; None if it is neither ReLU nor PReLU."""
        if isinstance(module, nn.PReLU) and type(module) in (nn.PReLU, PReLU):
            return cls(module.weight.detach())
        return cls() if type(module) is nn.ReLU else None

    def forward(self, image: Tensor, residual: Tensor | None = None) -> Tensor:
        if not torch.jit.is_scripting() and changeable(image):
            torch.ops.box_convolution.activate_(image, residual, self.slopes)
            return image
        total = image if residual is None else image + residual
        slopes = self.slopes  # TorchScript narrows the type of a variable, not of an attribute
        return torch.relu(total) if slopes is None else prelu(total, slopes)
