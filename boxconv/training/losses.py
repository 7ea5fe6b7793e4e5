"""The loss of a batch.

A loss is a sum of means over the pixels or the images of the batch. Each mean is a total divided by a size. If a batch
is processed in parts, the total of each part is divided by the size of the whole batch; the sum is then the loss of the
whole batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..data.class_table import VOID
from .config import Loss

FOCUS = 2.0
"""Gamma of the focal loss: a pixel has the weight (1 - p)^FOCUS, where p is the probability of its true class."""


class CrossEntropy:
    """Mean over the labelled pixels, each with the weight (K,) of its class."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def size(self, label: Tensor) -> Tensor:
        """Divisor of the mean for labels (B, h, w)."""
        valid = label != VOID
        return (self.weight[label.where(valid, 0)] * valid).sum()

    def total(self, logits: Tensor, label: Tensor) -> Tensor:
        """Numerator of the mean for logits (B, K, h, w) and labels (B, h, w)."""
        return cross_entropy(logits.float(), label, self.weight, ignore_index=VOID, reduction="sum")


class Focal(CrossEntropy):
    """Focal loss (Lin et al. 2017): the higher the probability of a pixel's true class, the smaller its weight."""

    def total(self, logits: Tensor, label: Tensor) -> Tensor:
        surprise = cross_entropy(logits.float(), label, ignore_index=VOID, reduction="none")  # -log p; 0 where void
        weight = self.weight[label.where(label != VOID, 0)]
        return (weight * (1 - torch.exp(-surprise)) ** FOCUS * surprise).sum()


class Dice:
    """Mean over the labelled images of 1 - Dice coefficient, averaged over the classes in the image's labels.

    It is computed per image because the coefficients of parts of a batch do not add up to that of the whole batch.
    """

    def size(self, label: Tensor) -> Tensor:
        return (label != VOID).flatten(1).any(1).sum()

    def total(self, logits: Tensor, label: Tensor) -> Tensor:
        classes = torch.arange(logits.shape[1], device=label.device)
        truth = label[:, None] == classes[:, None, None]  # (B, K, h, w), False where void
        likely = logits.float().softmax(1) * (label != VOID)[:, None]
        overlap, true, predicted = (likely * truth).sum((2, 3)), truth.sum((2, 3)), likely.sum((2, 3))
        there = true > 0  # (B, K)
        missing = (1 - 2 * overlap / (true + predicted).clamp_min(1)) * there
        return (missing.sum(1) / there.sum(1).clamp_min(1)).sum()


class BatchLoss:
    """The loss called ``name`` in the settings, with the weights (K,) of the classes."""

    def __init__(self, name: Loss, class_weight: Tensor) -> None:
        means: dict[Loss, list[CrossEntropy | Dice]] = {
            "weighted": [CrossEntropy(class_weight)],
            "cross-entropy": [CrossEntropy(torch.ones_like(class_weight))],
            "focal": [Focal(class_weight)],
            "dice": [CrossEntropy(class_weight), Dice()],
        }
        self.means = means[name]

    def sizes(self, label: Tensor) -> list[Tensor]:
        """Divisors of the means for labels (B, h, w), to be summed over the parts of a batch."""
        return [mean.size(label) for mean in self.means]

    def __call__(self, logits: Tensor, label: Tensor, sizes: Sequence[Tensor] | None = None) -> Tensor:
        """Loss of logits (B, K, h, w) for labels (B, h, w); 0, not NaN, if all labels are void.

        ``sizes``: the `sizes` of the whole batch if this is one part of it; the losses of all parts then add up.
        """
        parts = [
            mean.total(logits, label) / size.clamp_min(1e-12)
            for mean, size in zip(self.means, self.sizes(label) if sizes is None else sizes, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum()


def class_weights(pixel_counts: Tensor, constant: float = 1.10) -> Tensor:
    """Weights for cross-entropy, float32 (K,): 1 / ln(constant + p), where p is a class's share of the counted pixels.

    The authors of the box convolution paper use 1.10. ENet uses 1.02, which gives rare classes more weight. Raises
    ValueError for negative counts, if all are 0, or for a constant of 1 or less.
    """
    if pixel_counts.ndim != 1 or pixel_counts.sum() <= 0 or (pixel_counts < 0).any():
        raise ValueError(f"expected a vector of pixel counts, not all 0, found {pixel_counts.tolist()}")
    if not constant > 1:
        raise ValueError(f"constant must be greater than 1, found {constant}: ln(constant) is the least divisor")
    share = pixel_counts.double() / pixel_counts.sum()
    return (1 / torch.log(constant + share)).float()
