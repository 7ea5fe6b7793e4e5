"""State dicts of BoxConv2d, and those it loads: of a layer for other sizes, with or without symmetry, the authors'."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from . import boxes as box

AUTHORS_NAMES = ("x_min", "x_max", "y_min", "y_max")
AUTHORS_REACH = 1.5
"""How many pixels farther up and left the limits of the authors' layer are than those of `BoxConv2d`."""


def note_unit(layer: Any, state_dict: Any, prefix: str) -> None:
    """Note in the metadata of a state dict how many pixels one unit of the stored edges is."""
    if hasattr(state_dict, "_metadata"):
        state_dict._metadata.setdefault(prefix[:-1], {})["unit"] = layer._unit()


def before_loading(
    layer: Any,
    state_dict: dict[str, Any],
    prefix: str,
    metadata: Any,
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """Convert the state dict of another kind of box layer for ``layer``; keep loaded boxes that are beyond its limits.

    ``layer`` is a `BoxConv2d`, which registers this hook: `torch.nn.Module.register_load_state_dict_pre_hook`.
    """
    name = prefix + "scaled_boxes"
    shape = (layer.in_channels, layer.num_filters)
    if any(prefix + theirs in state_dict for theirs in AUTHORS_NAMES):
        try:
            pixels = _from_authors(layer, state_dict, prefix)
            state_dict[name] = layer._scaled(pixels).to(layer.scaled_boxes.dtype)
        except ValueError as error:
            errors.append(str(error))
            state_dict[name] = layer.scaled_boxes.detach()
    stored, unit = state_dict.get(name), metadata.get("unit", layer._unit())
    if not (isinstance(unit, tuple) and len(unit) == 2 and all(isinstance(one, float) and one > 0 for one in unit)):
        errors.append(f"{name}: damaged metadata: the unit must be two positive numbers, got {unit!r}")
        unit = layer._unit()
    other_sizes = unit != layer._unit()
    if other_sizes and isinstance(stored, Tensor) and tuple(stored.shape) in ((*shape, 3), (*shape, 4)):
        if type(stored) in (Tensor, nn.Parameter):
            h, w = (theirs / ours for theirs, ours in zip(unit, layer._unit(), strict=True))
            factors = (h, h, w) if stored.shape[-1] == 3 else (h, h, w, w)
            stored = state_dict[name] = stored.detach() * box.constant(factors, stored)
        else:
            errors.append(f"{name}: load boxes of a layer for other sizes whole, not as {type(stored).__name__}")
    if other_sizes and stored is None:
        for key in state_dict:
            if key.startswith(prefix) and "scaled_boxes" in key[len(prefix) :]:
                errors.append(f"{key}: boxes of a layer for other sizes load only as {name}, not parametrised")
    if isinstance(stored, Tensor) and tuple(stored.shape) == (*shape, 4 if layer.symmetric else 3):
        pixels = layer._pixels(stored.detach(), symmetric=not layer.symmetric)
        state_dict[name] = layer._scaled(_symmetric(name, pixels) if layer.symmetric else pixels)
    layer.loaded_reach = _reach(layer, state_dict.get(name))


def _from_authors(layer: Any, state_dict: dict[str, Any], prefix: str) -> Tensor:
    """Take x_min, x_max, y_min, y_max, (C, M) each, out of ``state_dict``: (C, M, 4) boxes in pixels.

    Their coordinates are inclusive and divided by the factor times the image size. ValueError if one is missing or has
    the wrong shape.
    """
    taken = [state_dict.pop(prefix + name, None) for name in AUTHORS_NAMES]
    edges = []
    shape = (layer.in_channels, layer.num_filters)
    h, w = layer.max_input_h, layer.max_input_w
    for name, edge, size in zip(AUTHORS_NAMES, taken, (h, h, w, w), strict=True):
        if edge is None or tuple(edge.shape) != shape:
            found = "nothing" if edge is None else f"shape {tuple(edge.shape)}"
            raise ValueError(f"{prefix}{name}: expected shape {shape} like the other three coordinates, got {found}")
        edges.append(edge.detach().double() * (size * layer.reparametrization_factor))
    pixels = box.from_inclusive(*edges)
    projected = box.project(pixels, h + AUTHORS_REACH, w + AUTHORS_REACH)
    if strange := int(((projected - pixels).abs().amax(-1) > 1e-3).sum()):
        warnings.warn(
            f"{prefix}x_min...y_max: {strange} of {shape[0] * shape[1]} boxes are under a pixel in size or further out "
            f"than the authors' layer lets them, {AUTHORS_REACH} pixels beyond {h} x {w}: are max_input_h, max_input_w "
            "and reparametrization_factor those of the saved layer?",
            stacklevel=2,
        )
    return _symmetric(prefix + "x_min...y_max", pixels) if layer.symmetric else pixels


def _symmetric(name: str, pixels: Tensor) -> Tensor:
    """Centre boxes (C, M, 4) horizontally; a warning counts those that were moved."""
    offsets = pixels.detach()[..., 2:].mean(-1).abs()
    if moved := int((offsets > 1e-3).sum()):
        warnings.warn(
            f"{name}: {moved} of {offsets.numel()} boxes were not symmetric and were moved horizontally, by "
            f"{offsets.max():.3g} pixels at most, because this layer has symmetric=True",
            stacklevel=2,
        )
    return box.from_symmetric(box.to_symmetric(pixels))


def _reach(layer: Any, stored: Any) -> tuple[int, int] | None:
    """Return limits in pixels that contain all boxes of ``stored``; None if they are within the layer's own limits.

    They are whole pixels, because they are constants in compiled code. If ``stored`` holds no boxes that fit, the layer
    keeps its boxes and their limits.
    """
    if not isinstance(stored, Tensor) or stored.is_meta or stored.shape != layer.scaled_boxes.shape:
        return layer.loaded_reach
    if hasattr(stored, "full_tensor"):
        stored = stored.full_tensor()  # sharded over several processes, all of which are loading
    if type(stored) not in (Tensor, nn.Parameter):
        return None
    with torch.no_grad():
        edges = layer._pixels(stored).double().nan_to_num(0, 0, 0).abs().amax((0, 1)).tolist()
    extent = layer.max_input_h, layer.max_input_w
    h, w = (max(limit, math.ceil(max(pair))) for limit, pair in zip(extent, (edges[:2], edges[2:]), strict=True))
    return None if (h, w) == extent else (h, w)
