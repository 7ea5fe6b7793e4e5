"""Scores of a segmentation, computed from a confusion matrix."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..bootstrap import RESAMPLES, interval
from ..data.class_table import VOID, ClassTable
from ..data.datasets import evenly_spaced
from ..score_names import MEANS


class ConfusionMatrix:
    """Counts pixels by true class (row) and predicted class (column): `counts`, int64 (K, K), exact.

    Pixels whose label is 255 (void) are not counted. A prediction must be one of the K classes at every pixel: ignoring
    pixels that were *predicted* void would raise the scores. `+` adds the matrices of parts of the data.
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= VOID:
            raise ValueError(f"num_classes must be 1 to {VOID}, found {num_classes}")
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add the pixels of `prediction` and `label`, integer tensors of the same shape on any device.

        Raises ValueError if the shapes differ, a prediction is outside 0..K-1, or a label is neither in 0..K-1 nor 255;
        TypeError if one of them is not of integers. Nothing is added then.
        """
        if prediction.shape != label.shape:
            raise ValueError(f"prediction is {tuple(prediction.shape)}, label {tuple(label.shape)}: expected one shape")
        for name, tensor in (("prediction", prediction), ("label", label)):
            if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
                raise TypeError(f"{name} must hold integers, found {tensor.dtype}")
        if prediction.numel() == 0:
            return
        predicted, truth = prediction.long().flatten(), label.long().flatten()
        # The numbers come together, because a GPU is waited for each time.
        first, last, low, high = torch.stack([*torch.aminmax(predicted), *torch.aminmax(truth)]).tolist()
        _check_range("prediction", first, last, self.num_classes - 1)
        _check_range("label", low, high, VOID)
        # Counting all 256 label values, and dropping void afterwards, is faster than first selecting the other pixels.
        counts = torch.bincount(truth * self.num_classes + predicted, minlength=(VOID + 1) * self.num_classes)
        counts = counts.to(self.counts.device).view(VOID + 1, self.num_classes)
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
        """Scores from 0 to 1. TP, FP and FN are the true positive, false positive and false negative pixels of a class.

        iou: by class name, TP / (TP + FP + FN), or None if the class occurs neither in labels nor in predictions.
        class_iou: mean of `iou` over the classes that have one.
        category_iou: the same for categories; confusing two classes of the same category is no error.
        class_accuracy: mean of TP / (TP + FN) over the classes that occur in the labels.
        pixel_accuracy: share of pixels whose class is right.

        Raises ValueError if no pixel was counted, or ``classes`` does not have K classes.
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


def score_intervals(by_image: Tensor, classes: ClassTable) -> dict[str, tuple[float, float]]:
    """Confidence intervals (95 %) of the four mean scores, by bootstrap over images.

    ``by_image``: the counts of every image, (images, K, K); images without a counted pixel are ignored. Each resample
    draws as many images as there are, with replacement, and an interval (low, high) contains 95 % of their scores. The
    random numbers are always the same. The intervals show how much the scores depend on the choice of images, not on
    the seed of the training. Empty if no image has a counted pixel.
    """
    counts = by_image[by_image.flatten(1).any(1)].cpu().numpy()
    generator = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in MEANS}
    matrix = ConfusionMatrix(len(classes))
    for _ in range(RESAMPLES if len(counts) else 0):
        drawn = np.bincount(generator.integers(len(counts), size=len(counts)), minlength=len(counts))
        matrix.counts = torch.from_numpy(np.tensordot(drawn, counts, 1))
        scores = matrix.scores(classes)
        for name, values in found.items():
            values.append(scores[name])
    return {name: tuple(interval(values).tolist()) for name, values in found.items() if values}


def count_pixels(dataset: Any, max_samples: int | None = None) -> Tensor:
    """Number of pixels of every class in the labels of ``dataset``, which has `classes`; int64 (K,), without void.

    Labels may be Pillow images or tensors. If the data set has a method `label(index)`, its images are not opened. If
    `max_samples` is less than the length of the data set, that many evenly spaced samples are counted.
    """
    label_of = getattr(dataset, "label", None) or (lambda index: dataset[index][1])
    total = np.zeros(256, dtype=np.int64)
    for index in evenly_spaced(len(dataset), len(dataset) if max_samples is None else max_samples):
        label = np.asarray(label_of(index))
        total += np.bincount(label.ravel(), minlength=256)
    return torch.from_numpy(total[: len(dataset.classes)])


def without_pixels(pixel_counts: Tensor, classes: ClassTable) -> list[str]:
    """Names of the classes that have no pixel in the labels; ``pixel_counts`` (K,) are those of `count_pixels`."""
    return [name for name, count in zip(classes.names, pixel_counts.tolist(), strict=True) if count == 0]


def about_absent(labels: str, absent: list[str]) -> str:
    """A sentence about classes without a pixel in ``labels``, and what they do to the scores."""
    one = len(absent) == 1
    return (
        f"{labels} have no pixel of {', '.join(absent)}: the scores tell nothing of {'it' if one else 'them'}; if "
        f"{'it is' if one else 'they are'} predicted somewhere, an IoU of 0 lowers class IoU"
    )


def _check_range(name: str, low: int, high: int, highest: int) -> None:
    if low < 0 or high > highest:
        raise ValueError(f"{name} {low if low < 0 else high} is outside 0 to {highest}")


def _iou(counts: np.ndarray) -> np.ndarray:
    """Intersection over union of every class (K,), float64; NaN for a class that does not occur."""
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    return np.where(union > 0, counts.diagonal() / np.maximum(union, 1), np.nan)
