"""Statistics of a network's boxes: size, symmetry, limits, movement, and importance by size."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from box_convolution.boxes import MIN_SIZE

from .importance import LayerImportance

# A size within this of the minimum, or an edge within this of its limit, counts as at it, in pixels.
AT_LIMIT = 0.05
# Smaller boxes say nothing about symmetry; the bound of the authors' script.
MIN_AREA_FOR_SYMMETRY = 14.0
SYMMETRIC = 0.8

Numbers = dict[str, float | int | None]


def area(boxes: Tensor) -> Tensor:
    """(n,) square pixels of (n, 4) boxes."""
    top, bottom, left, right = boxes.unbind(-1)
    return (bottom - top) * (right - left)


def symmetry(low: Tensor, high: Tensor) -> Tensor:
    """How symmetric [low, high] lies about 0: the shorter side over the longer one, 1 if equal.

    It is the score of the authors' script, but 0 for an interval that lies wholly on one side.
    """
    sides = torch.stack((-low, high), -1)
    return (sides.amin(-1) / sides.amax(-1).clamp_min(1e-12)).clamp(0, 1)


def box_table(layers: Sequence[LayerImportance], initial: Mapping[str, Tensor] | None = None) -> list[dict[str, Any]]:
    """One row per box, ready for a CSV file; ``initial``: (n, 4) boxes before training, by name of layer."""
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
    """The numbers of one layer; ``initial``: its boxes (n, 4) before training."""
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
    """Median symmetry of boxes of at least 14 square pixels, and the share scoring 0.8 or more, along both axes.

    The vertical axis is the control: perspective gives no reason to be symmetric there. With ``importance`` also the
    horizontal share weighted by it.
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
    """Numbers of all boxes together; what relates to importance is the layers' mean, because their scales differ."""
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
    """Spearman's rank correlation of two (n,); None if less than three pairs are known or all values are equal."""
    known = one.isfinite() & other.isfinite()
    if known.sum() < 3:
        return None
    ranks = torch.stack([_ranks(one[known]), _ranks(other[known])])
    value = float(torch.corrcoef(ranks)[0, 1])
    return None if math.isnan(value) else value


def _percentile_of_largest(areas: Tensor, importance: Tensor) -> float | None:
    """Mean rank in importance, from 0 to 1, of the tenth of the boxes with the largest areas; 0.5 is chance."""
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
    """Ranks of (n,), ties sharing their mean rank."""
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
