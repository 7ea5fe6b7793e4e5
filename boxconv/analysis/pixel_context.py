"""What the prediction at one pixel depends on: the effective receptive field of a single logit in a single image.

`receptive_field` averages over channels, pixels and images to measure how far a network sees. Here nothing is averaged,
because the question is which parts of this image led to this prediction.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .evaluation_mode import evaluation_mode
from .receptive_field import cumulative_energy


@dataclass(frozen=True)
class PixelContext:
    """The prediction at a chosen pixel of an image (channels, h, w), and the pixels that it depends on.

    Attributes:
        probabilities: (K,) softmax of the logits at the chosen pixel.
        response: (h, w) float64, || d logit / d image || at every pixel of the image. The logit is that of the most
            likely class at the chosen pixel; the norm is Euclidean, over channels.
        energy: (R + 1,) float64, for r = 0 ... R the share of the response in the square of 2r + 1 pixels around the
            chosen pixel; NaN if the response is zero everywhere.
    """

    probabilities: Tensor
    response: Tensor
    energy: Tensor

    @property
    def label(self) -> int:
        """The most likely class."""
        return int(self.probabilities.argmax())

    def radius(self, share: float) -> int | None:
        """The smallest r whose square contains ``share`` of the response; None if there is no response."""
        reached = (self.energy >= share - 1e-9).nonzero()
        return int(reached[0]) if len(reached) else None


def pixel_context(model: nn.Module, image: Tensor, row: int, column: int) -> PixelContext:
    """Differentiate the prediction of ``model``, logits (B, K, h, w), at one pixel of ``image`` (channels, h, w).

    The network is not changed. Raises ValueError for a pixel outside the image.
    """
    h, w = image.shape[-2:]
    if image.ndim != 3 or not (0 <= row < h and 0 <= column < w):
        raise ValueError(f"expected an image (channels, h, w) and a pixel of it, got {tuple(image.shape)}, row {row}, "
                         f"column {column}")  # fmt: skip
    with evaluation_mode(model):
        seen = image.detach().clone().requires_grad_()
        logits = model(seen[None])[0, :, row, column]
        (gradient,) = torch.autograd.grad(logits.max(), seen)
    response = torch.linalg.vector_norm(gradient.double(), dim=0).cpu()
    return PixelContext(
        logits.detach().softmax(0).cpu(), response, cumulative_energy(response, torch.tensor([row, column]))
    )
