"""The loss of a batch.

A loss is a sum of means over the batch, of its pixels or of its images. Each mean is a total over a size, so that the
totals of parts, divided by the size of the whole batch, add up to the loss of the whole batch.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ..data.classes import VOID
from .config import Loss

FOCUS = 2.0
"""The focal loss's gamma: a pixel counts with (1 - p)^FOCUS, where p is the probability of its true class."""


class Mean(Protocol):
    """A mean over what is labelled, void left out."""

    def size(self, label: Tensor) -> Tensor:
        """What the total of labels (B, h, w) is divided by."""
        ...

    def total(self, logits: Tensor, label: Tensor) -> Tensor:
        """Of logits (B, K, h, w) against labels (B, h, w)."""
        ...


class CrossEntropy:
    """Mean over pixels, each with the weight (K,) of its class."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def size(self, label: Tensor) -> Tensor:
        valid = label != VOID
        return (self.weight[label.where(valid, 0)] * valid).sum()

    def total(self, logits: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(logits.float(), label, self.weight, ignore_index=VOID, reduction="sum")


class Focal(CrossEntropy):
    """Cross-entropy in which pixels count the less the surer the network is of their class (Lin et al. 2017)."""

    def total(self, logits: Tensor, label: Tensor) -> Tensor:
        surprise = cross_entropy(logits.float(), label, ignore_index=VOID, reduction="none")  # -log p; 0 where void
        weight = self.weight[label.where(label != VOID, 0)]
        return (weight * (1 - torch.exp(-surprise)) ** FOCUS * surprise).sum()


class Dice:
    """Mean over images of 1 - Dice coefficient, itself the mean over the classes in the image's labels.

    Per image: coefficients of parts of a batch would not add up to that of the batch.
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
        means: dict[Loss, list[Mean]] = {
            "weighted": [CrossEntropy(class_weight)],
            "cross-entropy": [CrossEntropy(torch.ones_like(class_weight))],
            "focal": [Focal(class_weight)],
            "dice": [CrossEntropy(class_weight), Dice()],
        }
        self.means = means[name]

    def sizes(self, label: Tensor) -> list[Tensor]:
        """How much of each mean the labels are."""
        return [mean.size(label) for mean in self.means]

    def __call__(self, logits: Tensor, label: Tensor, sizes: Sequence[Tensor] | None = None) -> Tensor:
        """Of (B, K, h, w) against (B, h, w); 0, not NaN, where all is void.

        ``sizes``, of a whole batch of which this is a part: losses of parts then add up.
        """
        parts = [
            mean.total(logits, label) / size.clamp_min(1e-12)
            for mean, size in zip(self.means, self.sizes(label) if sizes is None else sizes, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum()
