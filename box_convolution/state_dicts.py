"""State dicts that another kind of box layer saved: the authors' package, and four numbers a box for three or back."""

import warnings
from typing import Any

from torch import Tensor

from . import boxes as box

AUTHORS_NAMES = ("x_min", "x_max", "y_min", "y_max")


def from_authors(
    state_dict: dict[str, Any], prefix: str, shape: tuple[int, int], extent: tuple[float, float], factor: float
) -> Tensor:
    """Take x_min, x_max, y_min, y_max of (C, M) = ``shape`` out of ``state_dict``: (C, M, 4) valid boxes in pixels.

    Theirs are inclusive coordinates divided by ``factor * extent``. ValueError where one is missing or misshapen.
    """
    taken = [state_dict.pop(prefix + name, None) for name in AUTHORS_NAMES]
    edges = []
    h, w = extent
    for name, edge, size in zip(AUTHORS_NAMES, taken, (h, h, w, w), strict=True):
        if edge is None or tuple(edge.shape) != shape:
            found = "nothing" if edge is None else f"shape {tuple(edge.shape)}"
            raise ValueError(f"{prefix}{name}: expected shape {shape} beside its three sisters, got {found}")
        edges.append(edge.detach().double() * (size * factor))
    pixels = box.from_inclusive(*edges)
    projected = box.project(pixels, h, w)
    moved = ((projected - pixels).abs().amax(-1) > 1e-3).sum().item()
    if moved:
        warnings.warn(
            f"{prefix}x_min...y_max: {moved} of {shape[0] * shape[1]} boxes were outside this "
            f"layer's limits (size >= 1, edges within {h:g} x {w:g} pixels) and were "
            "projected; are max_input_h, max_input_w and reparametrization_factor those of the saved layer?",
            stacklevel=2,
        )
    return projected


def symmetric(name: str, pixels: Tensor) -> Tensor:
    """(C, M, 4) pixels -> (C, M, 3), with a warning that counts the boxes which this moves."""
    offsets = pixels.detach()[..., 2:].mean(-1).abs()
    if moved := int((offsets > 1e-3).sum()):
        warnings.warn(
            f"{name}: {moved} of {offsets.numel()} boxes were not symmetric and were moved horizontally, by "
            f"{offsets.max():.3g} pixels at most, because this layer has symmetric=True",
            stacklevel=2,
        )
    return box.to_symmetric(pixels)
