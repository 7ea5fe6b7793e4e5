"""Scores of a segmentation, all from one confusion matrix, and class weights against rare classes."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..data.classes import VOID, ClassTable

MEANS = ("class_iou", "category_iou", "class_accuracy", "pixel_accuracy")
"""Of `ConfusionMatrix.scores`, those that are one number."""


class ConfusionMatrix:
    """Counts pixels by true class (row) and predicted class (column): `counts`, int64 (K, K), exact.

    Pixels whose label is 255 (void) are left out. A prediction is one of the K classes everywhere, also there: leaving
    out pixels that were *predicted* void would flatter the scores. Matrices of parts of the data are summed with `+`.
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= VOID:
            raise ValueError(f"num_classes must be 1 to {VOID}, found {num_classes}")
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Adds the pixels of `prediction` and `label`, integer tensors of one shape, any device.

        ValueError if a prediction is outside 0..K-1, or a label is neither there nor 255; nothing is added then.
        """
        if prediction.shape != label.shape:
            raise ValueError(f"prediction is {tuple(prediction.shape)}, label {tuple(label.shape)}: expected one shape")
        for name, tensor in (("prediction", prediction), ("label", label)):
            if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
                raise TypeError(f"{name} must hold integers, found {tensor.dtype}")
        predicted, truth = prediction.long().flatten(), label.long().flatten()
        _check_range("prediction", predicted, self.num_classes - 1)
        _check_range("label", truth, VOID)
        # Counting void as one more row, and dropping it, is faster than selecting the other pixels first.
        counts = torch.bincount(truth * self.num_classes + predicted, minlength=(VOID + 1) * self.num_classes)
        counts = counts.view(VOID + 1, self.num_classes).to(self.counts.device)
        unknown = counts[self.num_classes : VOID].sum(1).nonzero()
        if len(unknown):
            value = self.num_classes + int(unknown[0])
            raise ValueError(f"label {value} is not a class: expected 0 to {self.num_classes - 1} or {VOID}")
        self.counts += counts[: self.num_classes]

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        if self.num_classes != other.num_classes:
            raise ValueError(f"cannot add matrices of {self.num_classes} and {other.num_classes} classes")
        result = ConfusionMatrix(self.num_classes)
        result.counts = self.counts + other.counts
        return result

    def state(self) -> dict[str, Any]:
        """The counts as nested lists of integers, for JSON and checkpoints; `from_state` is the inverse."""
        return {"counts": self.counts.tolist()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "ConfusionMatrix":
        counts = torch.tensor(state["counts"], dtype=torch.int64)
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or bool((counts < 0).any()):
            raise ValueError(f"expected a square matrix of counts, found shape {tuple(counts.shape)}")
        matrix = cls(counts.shape[0])
        matrix.counts = counts
        return matrix

    def scores(self, classes: ClassTable) -> dict[str, Any]:
        """Floats from 0 to 1. TP, FP, FN count a class's pixels that are found, wrongly claimed, and missed.

        iou: per class name, TP / (TP + FP + FN), or None if the class occurs neither in labels nor in predictions.
        class_iou: mean of `iou` over the classes that have one.
        category_iou: the same over categories; confusing two classes of one category counts as found.
        class_accuracy: mean of TP / (TP + FN) over the classes that occur in the labels.
        pixel_accuracy: share of pixels whose class is found.

        ValueError if no pixel was counted: then there is no score.
        """
        if len(classes) != self.num_classes:
            raise ValueError(f"the matrix has {self.num_classes} classes, the table {len(classes)}")
        counts = self.counts.cpu().numpy()
        if not counts.any():
            raise ValueError("no pixel was counted: there were no images, or all their labels are void")
        names = list(dict.fromkeys(classes.categories))
        member = np.array([[category == name for name in names] for category in classes.categories], dtype=np.int64)
        iou, category_iou = _iou(counts), _iou(member.T @ counts @ member)
        found, true = counts.diagonal(), counts.sum(1)
        return {
            "class_iou": float(np.nanmean(iou)),
            "category_iou": float(np.nanmean(category_iou)),
            "class_accuracy": float(np.mean(found[true > 0] / true[true > 0])),
            "pixel_accuracy": float(found.sum() / true.sum()),
            "iou": {name: None if math.isnan(x) else float(x) for name, x in zip(classes.names, iou, strict=True)},
        }


def score_intervals(
    by_image: Tensor, classes: ClassTable, *, level: float = 0.95, resamples: int = 1000
) -> dict[str, tuple[float, float]]:
    """Confidence intervals of the four mean scores, by bootstrap over images.

    ``by_image``: the counts of every image, (images, K, K). Images are drawn with replacement, as many as there are; an
    interval holds the share ``level`` of the resamples' scores. The random numbers are always the same. It tells how
    much the choice of the images matters, not how much another seed of the training does.
    """
    counts = by_image[by_image.flatten(1).any(1)].cpu().numpy()
    generator = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in MEANS}
    matrix = ConfusionMatrix(len(classes))
    for _ in range(resamples if len(counts) else 0):
        drawn = np.bincount(generator.integers(len(counts), size=len(counts)), minlength=len(counts))
        matrix.counts = torch.from_numpy(np.tensordot(drawn, counts, 1))
        scores = matrix.scores(classes)
        for name, values in found.items():
            values.append(scores[name])
    tail = (1 - level) / 2
    return {
        name: (float(np.quantile(values, tail)), float(np.quantile(values, 1 - tail)))
        for name, values in found.items()
        if values
    }


class LabelledDataset(Protocol):
    """What `count_pixels` needs; a method `label(index)` that gives the label map alone makes it faster."""

    classes: ClassTable

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def count_pixels(dataset: LabelledDataset, max_samples: int | None = None) -> Tensor:
    """Pixels of every class in the labels, int64 (K,), without void.

    Labels may be Pillow images or tensors. If `max_samples` is less than the length, that many samples, evenly spaced
    over the data set, are counted.
    """
    length = len(dataset)
    samples = length if max_samples is None else min(max_samples, length)
    label_of = getattr(dataset, "label", None) or (lambda index: dataset[index][1])
    total = np.zeros(256, dtype=np.int64)
    for i in range(samples):
        label = np.asarray(label_of(i * length // samples))
        total += np.bincount(label.ravel(), minlength=256)
    return torch.from_numpy(total[: len(dataset.classes)])


def without_pixels(pixel_counts: Tensor, classes: ClassTable) -> list[str]:
    """Names of the classes of which labels hold no pixel, by the pixels of every class (K,)."""
    return [name for name, count in zip(classes.names, pixel_counts.tolist(), strict=True) if count == 0]


def class_weights(pixel_counts: Tensor, constant: float = 1.10) -> Tensor:
    """Weights for cross-entropy, float32 (K,): 1 / ln(constant + p), where p is a class's share of the counted pixels.

    1.10 is the constant of the box convolution paper's authors; ENet took 1.02, which weights rare classes more.
    """
    if pixel_counts.ndim != 1 or pixel_counts.sum() <= 0 or (pixel_counts < 0).any():
        raise ValueError(f"expected a vector of pixel counts, not all 0, found {pixel_counts.tolist()}")
    if not constant > 1:
        raise ValueError(f"constant must be greater than 1, found {constant}: ln(constant) is the least divisor")
    share = pixel_counts.double() / pixel_counts.sum()
    return (1 / torch.log(constant + share)).float()


def _check_range(name: str, values: Tensor, highest: int) -> None:
    if values.numel() == 0:
        return
    low, high = (int(value) for value in torch.aminmax(values))
    if low < 0 or high > highest:
        raise ValueError(f"{name} {low if low < 0 else high} is outside 0 to {highest}")


def _iou(counts: np.ndarray) -> np.ndarray:
    """Intersection over union of every class, float64; nan where the class does not occur."""
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    return np.where(union > 0, counts.diagonal() / np.maximum(union, 1), np.nan)
