"""Statistics of a network's boxes: size, symmetry, limits, movement, and importance by size."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from box_convolution.boxes import MIN_SIZE

from .importance import LayerImportance

# In pixels: a box this close to the minimum size, or an edge this close to its limit, counts as being there.
AT_LIMIT = 0.05
# In square pixels, from the authors' script: smaller boxes say nothing about symmetry.
MIN_AREA_FOR_SYMMETRY = 14.0
# Boxes with at least this score are called symmetric.
SYMMETRIC = 0.8

Numbers = dict[str, float | int | None]


def area(boxes: Tensor) -> Tensor:
    """Areas (n,) of boxes (n, 4), in square pixels."""
    top, bottom, left, right = boxes.unbind(-1)
    return (bottom - top) * (right - left)


def symmetry(low: Tensor, high: Tensor) -> Tensor:
    """Symmetry about 0 of intervals [low, high], from 0 to 1: the shorter side divided by the longer one.

    It is the score of the authors' script, except that it is 0 for an interval entirely on one side.
    """
    sides = torch.stack((-low, high), -1)
    return (sides.amin(-1) / sides.amax(-1).clamp_min(1e-12)).clamp(0, 1)


def box_table(layers: Sequence[LayerImportance], initial: Mapping[str, Tensor] | None = None) -> list[dict[str, Any]]:
    """One row per box, for a CSV file; ``initial``: boxes (n, 4) before training, by name of layer."""
    rows = []
    for layer in layers:
        top, bottom, left, right = layer.boxes.unbind(-1)
        columns = {
            "top": top,
            "bottom": bottom,
            "left": left,
            "right": right,
            "area": area(layer.boxes),
            "importance": layer.importance,
            "horizontal_symmetry": symmetry(left, right),
            "vertical_symmetry": symmetry(top, bottom),
        }
        if initial and layer.name in initial:
            columns["drift"] = (layer.boxes - initial[layer.name]).abs().amax(-1)
        for n in range(len(layer.boxes)):
            rows.append({"layer": layer.name, "box": n} | {name: float(values[n]) for name, values in columns.items()})
    return rows


def layer_statistics(layer: LayerImportance, initial: Tensor | None = None) -> Numbers:
    """Statistics of one layer; ``initial``: its boxes (n, 4) before training."""
    boxes = layer.boxes
    areas, (top, bottom, left, right) = area(boxes), boxes.unbind(-1)
    map_area = layer.map_size[0] * layer.map_size[1]
    low_h, low_w = bottom - top <= MIN_SIZE + AT_LIMIT, right - left <= MIN_SIZE + AT_LIMIT
    limits = torch.tensor([layer.limits[0]] * 2 + [layer.limits[1]] * 2)
    numbers: Numbers = {
        "boxes": len(boxes),
        "map_h": layer.map_size[0],
        "map_w": layer.map_size[1],
        "median_area": _median(areas),
        "largest_area": float(areas.max()),
        "largest_area_over_map": float(areas.max()) / map_area,
        "larger_than_3x3": _share(areas > 9),
        "larger_than_tenth_of_map": _share(areas > map_area / 10),
        "single_pixels": _share(low_h & low_w),
        "minimal_height": _share(low_h),
        "minimal_width": _share(low_w),
        "edge_at_limit": _share((boxes.abs() >= limits - AT_LIMIT).any(-1)),
        "area_importance_rank_correlation": rank_correlation(areas, layer.importance),
        "importance_percentile_of_largest_tenth": _percentile_of_largest(areas, layer.importance),
        "importance_in_larger_than_3x3": _importance_share(layer, areas > 9),
        "importance_in_larger_than_tenth_of_map": _importance_share(layer, areas > map_area / 10),
        **symmetry_statistics(boxes, layer.importance),
    }
    if initial is not None:
        drift = (boxes - initial).abs()
        numbers |= {"mean_edge_drift": float(drift.mean()), "largest_edge_drift": float(drift.max())}
        numbers["initial_median_area"] = _median(area(initial))
    return numbers


def symmetry_statistics(boxes: Tensor, importance: Tensor | None = None) -> Numbers:
    """For both axes, the median symmetry of boxes of at least 14 square pixels, and the share of 0.8 or more.

    The vertical axis is the control: perspective gives no reason for symmetry there. With ``importance`` (n,), the
    horizontal share weighted by it is added.
    """
    large = area(boxes) >= MIN_AREA_FOR_SYMMETRY
    top, bottom, left, right = boxes[large].unbind(-1)
    across, along = symmetry(left, right), symmetry(top, bottom)
    numbers: Numbers = {
        "symmetry_boxes": int(large.sum()),
        "horizontal_symmetry_median": _median(across),
        "vertical_symmetry_median": _median(along),
        "horizontally_symmetric": _share(across >= SYMMETRIC),
        "vertically_symmetric": _share(along >= SYMMETRIC),
    }
    if importance is not None:
        weight = importance[large]
        known = weight.isfinite()
        total = float(weight[known].sum())
        symmetric = float(weight[known & (across >= SYMMETRIC)].sum())
        numbers["horizontally_symmetric_by_importance"] = symmetric / total if total else None
    return numbers


def network_statistics(layers: Sequence[LayerImportance], initial: Mapping[str, Tensor] | None = None) -> Numbers:
    """Statistics of all boxes. Those about importance are means over layers, whose importances differ in scale."""
    boxes = torch.cat([layer.boxes for layer in layers])
    areas = area(boxes)
    low = (boxes[:, 1::2] - boxes[:, ::2]) <= MIN_SIZE + AT_LIMIT  # (n, 2): height, width
    numbers: Numbers = {
        "boxes": len(boxes),
        "layers": len(layers),
        "median_area": _median(areas),
        "largest_area": float(areas.max()),
        "larger_than_3x3": _share(areas > 9),
        "larger_than_100_px": _share(areas > 100),
        "larger_than_10000_px": _share(areas > 10_000),
        "single_pixels": _share(low.all(-1)),
        "minimal_in_one_direction": _share(low.any(-1)),
        "area_importance_rank_correlation": _mean(rank_correlation(area(x.boxes), x.importance) for x in layers),
        "importance_percentile_of_largest_tenth": _mean(
            _percentile_of_largest(area(x.boxes), x.importance) for x in layers
        ),
        **symmetry_statistics(boxes),
    }
    if initial:
        before = torch.cat([initial[layer.name] for layer in layers])
        numbers |= {f"initial_{name}": value for name, value in symmetry_statistics(before).items()}
        numbers["initial_median_area"] = _median(area(before))
        numbers["mean_edge_drift"] = float((boxes - before).abs().mean())
    return numbers


def rank_correlation(one: Tensor, other: Tensor) -> float | None:
    """Spearman's rank correlation of two tensors (n,); None if fewer than three pairs are finite or one is constant."""
    known = one.isfinite() & other.isfinite()
    if known.sum() < 3:
        return None
    ranks = torch.stack([_ranks(one[known]), _ranks(other[known])])
    value = float(torch.corrcoef(ranks)[0, 1])
    return None if math.isnan(value) else value


def _percentile_of_largest(areas: Tensor, importance: Tensor) -> float | None:
    """Mean rank by importance, from 0 to 1, of the 10 % of boxes with the largest areas; 0.5 is chance.

    None for fewer than 10 boxes with an importance.
    """
    known = importance.isfinite()
    count = int(known.sum())
    if count < 10:
        return None
    ranks = (_ranks(importance[known]) - 1) / (count - 1)
    return float(ranks[areas[known].argsort(descending=True)[: count // 10]].mean())


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _ranks(values: Tensor) -> Tensor:
    """Ranks (n,) from 1 to n; equal values have their mean rank."""
    _, where, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts - 1) / 2)[where]


def _importance_share(layer: LayerImportance, chosen: Tensor) -> float | None:
    known = layer.importance.isfinite()
    total = float(layer.importance[known].sum())
    return float(layer.importance[known & chosen].sum()) / total if total else None


def _median(values: Tensor) -> float | None:
    return float(values.double().quantile(0.5)) if len(values) else None


def _share(chosen: Tensor) -> float | None:
    return float(chosen.double().mean()) if len(chosen) else None
