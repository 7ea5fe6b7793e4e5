"""Pictures for the page as data URLs, and boxes in coordinates relative to the photograph."""

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d

from ..analysis.box_statistics import area
from ..analysis.importance import LayerImportance
from ..data.bands import Picture, as_rgb
from ..data.class_table import VOID, ClassTable

LONGEST = 1280
"""Largest side, in pixels, of the pictures on the page."""
BOXES = 32
"""Largest number of boxes that are shown, as in `box_convolution.drawing`."""

_HEAT = np.array([[0.70, 0.20, 0.90], [0.95, 0.20, 0.45], [1.0, 0.55, 0.10], [1.0, 0.95, 0.45]])
"""Colours of the heat map, from weak to strong response."""


def shown_size(picture: Picture) -> tuple[int, int]:
    """Width and height at which a picture is shown: its own, reduced if a side is longer than `LONGEST`."""
    shrink = min(1.0, LONGEST / max(picture.width, picture.height))
    return max(1, round(picture.width * shrink)), max(1, round(picture.height * shrink))


def photograph(picture: Picture) -> str:
    return _data_url(as_rgb(picture.resize(shown_size(picture), Image.Resampling.BILINEAR)), "JPEG", quality=90)


def class_map(labels: npt.NDArray[np.uint8], classes: ClassTable) -> str:
    """Picture of class indices (h, w) in the colours of the classes; other values are black."""
    image = Image.fromarray(labels)
    image.putpalette(classes.colourise(np.arange(VOID + 1, dtype=np.uint8)).tobytes())
    return _data_url(image, "PNG")


def heat_map(response: npt.NDArray[np.float64], size: tuple[int, int]) -> str:
    """Picture of a response (h, w), which is never negative, at `size` (width, height); transparent where it is 0.

    The response is blurred by a hundredth of the image, because gradients vary strongly between neighbouring pixels.
    Its square root is shown, which makes the weak response of distant places visible.
    """
    radius = round(max(response.shape) / 100)
    blurred = avg_pool2d(torch.from_numpy(response)[None], 2 * radius + 1, 1, radius, count_include_pad=False)[0]
    smooth = np.asarray(Image.fromarray(blurred.float().numpy()).resize(size, Image.Resampling.BILINEAR))
    strength = np.sqrt(smooth / max(float(smooth.max()), 1e-30))
    stops = np.linspace(0, 1, len(_HEAT))
    colour = [np.interp(strength, stops, _HEAT[:, k]) for k in range(3)]
    pixels = np.stack([*colour, strength], -1)
    return _data_url(Image.fromarray((255 * pixels + 0.5).astype(np.uint8), "RGBA"), "PNG")


def boxes_at(layer: LayerImportance, input_size: tuple[int, int], row: float, column: float) -> list[dict[str, float]]:
    """The most important boxes of a layer around a place in the photograph, the largest box first.

    ``row`` and ``column`` are shares of the photograph's height and width, and so are the edges in the result. Boxes
    may lie partly outside. ``weight`` is the importance relative to the largest one; if no importance is known, the
    largest boxes are chosen, with weight 1.
    """
    importance = layer.importance.nan_to_num(0).numpy()
    edges = layer.boxes.numpy()
    areas = area(layer.boxes).numpy()
    known = importance.max(initial=0) > 0
    chosen = np.argsort(-importance if known else -areas, kind="stable")[:BOXES]
    chosen = chosen[np.argsort(-areas[chosen], kind="stable")]
    weights = importance[chosen] / importance.max() if known else np.ones(len(chosen))
    # In pixels of the map, for both axes: the centre, and the extent of the photograph. The map may be larger.
    centre, unit = [], []
    for share, size, pixels in zip((row, column), input_size, layer.map_size, strict=True):
        stride = 1
        while stride * pixels < size:  # the networks halve sizes, and pad odd ones first
            stride *= 2
        centre.append(min(int(share * size) // stride, pixels - 1) + 0.5)
        unit.append(size / stride)
    return [
        {
            "top": (centre[0] + top) / unit[0],
            "bottom": (centre[0] + bottom) / unit[0],
            "left": (centre[1] + left) / unit[1],
            "right": (centre[1] + right) / unit[1],
            "weight": weight,
        }
        for (top, bottom, left, right), weight in zip(edges[chosen].tolist(), weights.tolist(), strict=True)
    ]


def _data_url(image: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
