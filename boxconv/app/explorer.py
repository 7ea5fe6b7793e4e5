"""Answers to the page's questions about a network and a photograph, as plain values for JSON."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..analysis.importance import importance
from ..analysis.pixel_context import pixel_context
from ..data.bands import Picture
from ..data.class_table import as_hex
from ..data.image_reader import NOTE
from ..errors import UsageError
from ..inference.open import TrainedNetwork
from ..inference.options import InferenceOptions
from ..inference.score_patches import label_map, scores_of
from ..training.device import device_of
from .pictures import boxes_at, class_map, heat_map, photograph, shown_size

LIKELIEST = 3
"""Number of classes that are shown for a pixel."""


class Explorer:
    """A trained network that answers questions about photographs. It stores no photograph.

    A photograph is given as the content of an image file; anything else raises DataError. A place in it is a row and a
    column, as shares of its height and width, from 0 to less than 1; others raise UsageError.
    """

    def __init__(self, name: str | Path, network: TrainedNetwork) -> None:
        assert network.transform.size is not None
        self.name = str(name)
        self.network = network
        self.size = network.transform.size
        self.device = device_of(network.model)
        blank = torch.zeros(1, len(network.transform.mean), *self.size, device=self.device)
        self.layers = {layer.name: layer for layer in importance(network.model, blank)}

    def about(self) -> dict[str, Any]:
        """The network's name, its classes, the size at which it sees photographs, and the names of its box layers."""
        return {
            "name": self.name,
            "classes": list(self.network.classes.names),
            "height": self.size[0],
            "width": self.size[1],
            "layers": list(self.layers),
        }

    def labels(self, content: bytes) -> dict[str, Any]:
        """The photograph at the displayed size, its class map, and the shares of the classes in it, largest first."""
        picture = self._read(content)
        width, height = shown_size(picture)
        with torch.inference_mode():
            size, seen = (height, width), self._input(picture)[None]
            labels = label_map(scores_of(self.network.model, seen, size, InferenceOptions()), size)
        counts = np.bincount(labels.ravel(), minlength=len(self.network.classes))
        classes = self.network.classes
        return {
            "width": width,
            "height": height,
            "photo": photograph(picture),
            "map": class_map(labels, classes),
            "shares": [
                {"name": classes.names[k], "colour": as_hex(classes.colours[k]), "share": counts[k] / labels.size}
                for k in np.argsort(-counts, kind="stable").tolist()
                if counts[k]
            ],
            "note": picture.info.get(NOTE, "") if isinstance(picture, Image.Image) else "",
        }

    def boxes(self, name: str, row: float, column: float) -> dict[str, Any]:
        """The most important boxes of a layer around a place, from `boxes_at`."""
        _check_place(row, column)
        if name not in self.layers:
            raise UsageError(f"layer: expected one of {', '.join(self.layers) or 'none'}, got {name!r}")
        layer = self.layers[name]
        boxes = boxes_at(layer, self.size, row, column)
        return {"boxes": boxes, "count": len(layer.boxes), "ranked": bool(layer.importance.isfinite().any())}

    def context(self, content: bytes, row: float, column: float) -> dict[str, Any]:
        """The most likely classes at a place, and which parts of the photograph they depend on."""
        _check_place(row, column)
        picture = self._read(content)
        seen = self._input(picture)
        found = pixel_context(self.network.model, seen, int(row * self.size[0]), int(column * self.size[1]))
        classes = self.network.classes
        likely = found.probabilities.topk(min(LIKELIEST, len(classes)))
        return {
            "classes": [
                {"name": classes.names[k], "colour": as_hex(classes.colours[k]), "share": probability}
                for probability, k in zip(likely.values.tolist(), likely.indices.tolist(), strict=True)
            ],
            "heat": heat_map(found.response.numpy(), shown_size(picture)),
            "radius": {"half": found.radius(0.5), "most": found.radius(0.9)},
        }

    def _read(self, content: bytes) -> Picture:
        return self.network.reader.read(io.BytesIO(content), "this file")

    def _input(self, picture: Picture) -> torch.Tensor:
        return self.network.transform.image(picture).to(self.device)


def _check_place(row: float, column: float) -> None:
    if not (0 <= row < 1 and 0 <= column < 1):
        raise UsageError(f"row and column must be at least 0 and less than 1, got {row:g} and {column:g}")
