"""Scores of a network on a data set."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from .classes import ClassTable
from .metrics import ConfusionMatrix
from .transforms import Prepare, label_tensor


class PrepareImageOnly:
    """Resizes and normalises the image, keeps the label at the size of its file: for scores at full resolution."""

    def __init__(self, prepare: Prepare) -> None:
        self.prepare = prepare

    def __call__(self, image: Any, label: Any) -> tuple[Tensor, Tensor]:
        return self.prepare.image(image), label_tensor(label)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    data: Dataset[Any],
    classes: ClassTable,
    *,
    device: torch.device,
    batch_size: int = 8,
    workers: int = 0,
    progress: bool = True,
) -> ConfusionMatrix:
    """Confusion matrix of ``model`` over every sample of ``data`` once.

    ``data`` yields (image (3, h, w), label (H, W)); where the label is larger than the image, the logits are enlarged
    bilinearly to it. Labels of different sizes need ``batch_size=1``. The model is left in the mode it came in.
    """
    was_training = model.training
    model.eval()
    matrix = ConfusionMatrix(len(classes))
    loader = DataLoader(data, batch_size, num_workers=workers, generator=torch.Generator())
    try:
        for images, labels in tqdm(loader, desc="evaluating", unit="batch", leave=False, disable=not progress):
            logits = model(images.to(device))
            if logits.shape[2:] != labels.shape[1:]:
                logits = interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
            matrix.update(logits.argmax(1), labels.to(device))
    finally:
        model.train(was_training)
    return matrix


def score_table(scores: dict[str, Any]) -> str:
    """Scores as text: one line per class, then the four means."""
    width = max(len(name) for name in (*scores["iou"], "category IoU", "pixel accuracy"))
    lines = ["IoU by class"]
    lines += [
        f"  {name:{width}}  {'absent' if value is None else f'{value:6.3f}'}" for name, value in scores["iou"].items()
    ]
    lines += ["means"]
    for key, name in (
        ("class_iou", "class IoU"),
        ("category_iou", "category IoU"),
        ("class_accuracy", "class accuracy"),
        ("pixel_accuracy", "pixel accuracy"),
    ):
        lines.append(f"  {name:{width}}  {scores[key]:6.3f}")
    return "\n".join(lines)
