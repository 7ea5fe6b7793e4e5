"""Predictions for a few validation images, to look at while the network trains."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..data.class_table import ClassTable
from ..data.datasets import evenly_spaced, name_of
from ..data.registry import prepare_of
from .evaluation import most_likely
from .setup import Run

COUNT = 4
VOID_COLOUR = (203, 207, 213)


@dataclass(frozen=True)
class Preview:
    """An image (h, w, 3), its labels and the prediction, both (h, w), void 255; all uint8."""

    name: str
    image: npt.NDArray[np.uint8]
    truth: npt.NDArray[np.uint8]
    prediction: npt.NDArray[np.uint8]

    def strip(self, classes: ClassTable) -> npt.NDArray[np.uint8]:
        """Image, labels and prediction side by side, in the colours of the classes."""
        colours = np.array([*classes.colours, *[VOID_COLOUR] * (256 - len(classes))], np.uint8)
        return np.concatenate([self.image, colours[self.truth], colours[self.prediction]], axis=1)


@torch.inference_mode()
def previews(run: Run, model: nn.Module) -> list[Preview]:
    """Predictions for `COUNT` evenly spaced validation images, always the same ones. The model's mode is restored."""
    data: Any = run.val_data
    transform = prepare_of(run.config)
    was_training = model.training
    model.eval()
    found = []
    try:
        for index in evenly_spaced(len(data), COUNT):
            image, label = data[index]
            prediction = most_likely(model(image[None].to(run.device)))[0]
            truth, predicted = (labels.byte().cpu().numpy() for labels in (label, prediction))
            found.append(Preview(name_of(data, index), transform.picture(image), truth, predicted))
    finally:
        model.train(was_training)
    return found
