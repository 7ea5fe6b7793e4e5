"""A picture of the demo's report: boxes before and after training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from box_convolution.drawing import FAINT, INK, SOFT, canvas, mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BOX_COLOURS = (
    "#e6194b", "#1f77e0", "#2ca02c", "#f58a07", "#9b30d9", "#00a8a8",
    "#e04fd0", "#8c5a1e", "#6f8f00", "#1b2a9b", "#ff6f61", "#4b5563",
)  # fmt: skip


def boxes_over_map(
    feature_map: npt.ArrayLike,
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    path: str | Path,
    *,
    title: str,
    highlight: Sequence[int] | None = None,
    centre: tuple[int, int] | None = None,
) -> None:
    """Draw the boxes at one output pixel over a feature map: before training on the left, after it on the right.

    feature_map: (h, w), any finite range.
    before, after: (n, 4), edges (top, bottom, left, right) in pixels relative to the output pixel's centre.
    highlight: the boxes drawn in colour; by default all if they are few, else those whose edges moved farthest.
    centre: (row, column) of the output pixel, by default the middle of the map.
    Raises ValueError, which names the argument that does not fit.
    """
    image = _finite(feature_map, "feature_map", (None, None))
    if not image.size:
        raise ValueError(f"feature_map must not be empty, found {image.shape}")
    h, w = image.shape
    old = _finite(before, "before", (None, 4))
    new = _finite(after, "after", (len(old), 4))
    row, column = ((h - 1) // 2, (w - 1) // 2) if centre is None else centre
    origin = np.array([row, row, column, column])
    moves = np.abs(new - old).max(axis=1, initial=0)  # (n,)
    colours = _colours(moves, highlight)

    from matplotlib.patches import Rectangle

    low, high = np.percentile(image, (1, 99))
    edges = np.concatenate([old, new]) + origin
    top, bottom = min(-0.5, edges[:, 0].min(initial=0)), max(h - 0.5, edges[:, 1].max(initial=0))
    left, right = min(-0.5, edges[:, 2].min(initial=0)), max(w - 0.5, edges[:, 3].max(initial=0))
    margin = 0.03 * max(bottom - top, right - left)
    shape = (bottom - top + 2 * margin) / (right - left + 2 * margin)
    panel = 4.6 if shape <= 1 else 4.6 / shape  # inches; the longer side of a panel is 4.6
    gap, head, side = 0.15, 0.7, 1.75
    foot = max(gap, 0.2 * (len(colours) + 3) - panel * shape)  # room for a legend taller than a flat map
    width, total = 2 * panel + 3 * gap + side, panel * shape + head + foot
    with canvas(path, width, total) as figure:
        figure.text(gap / width, 1 - 0.12 / total, title, weight="bold", va="top", fontsize=11)
        for j, (name, boxes) in enumerate((("before training", old), ("after training", new))):
            place = (gap + j * (panel + gap), foot, panel, panel * shape)
            axes = figure.add_axes((place[0] / width, place[1] / total, place[2] / width, place[3] / total))
            axes.set_title(name, loc="left", fontsize=9.5, color=SOFT, pad=5)
            axes.add_patch(Rectangle((-0.5, -0.5), w, h, fill=False, edgecolor=SOFT, linewidth=0.8))
            # Lightened, so that the boxes stay the darkest and most saturated thing in the picture.
            axes.imshow(image, cmap="gray", vmin=low, vmax=high + (high == low), alpha=0.5, aspect="equal")
            _draw_boxes(axes, boxes + origin, colours)
            mark(axes, row, column)
            axes.set(xlim=(left - margin, right + margin), ylim=(bottom + margin, top - margin))
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, color=FAINT)
        corner = ((2 * panel + 3 * gap) / width, (foot + panel * shape) / total)
        _moves_legend(figure, colours, moves, corner)


def _colours(moves: npt.NDArray[np.float64], highlight: Sequence[int] | None) -> dict[int, str]:
    """A colour for each highlighted box, by its index."""
    if highlight is None:
        highlight = list(np.argsort(-moves, kind="stable")[: len(moves) if len(moves) <= len(BOX_COLOURS) else 8])
    if not all(0 <= k < len(moves) for k in highlight):
        raise ValueError(f"highlight must hold indices of the {len(moves)} boxes, found {list(highlight)}")
    return {int(k): BOX_COLOURS[i % len(BOX_COLOURS)] for i, k in enumerate(highlight)}


def _moves_legend(
    figure: "Figure", colours: Mapping[int, str], moves: npt.NDArray[np.float64], corner: tuple[float, float]
) -> None:
    """Show in a legend how far the boxes in ``colours`` moved. Its upper left ``corner`` is in shares of the figure."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, linewidth=2.2, label=f"box {k}: {moves[k]:.1f} px")
        for k, colour in colours.items()
    ]
    if others := len(moves) - len(colours):
        handles.append(Line2D([], [], color=SOFT, linewidth=0.6, label=f"{others} others"))
    handles.append(Line2D([], [], color=INK, linestyle="", marker="+", markersize=8, label="output pixel"))
    figure.legend(
        handles=handles,
        title="farthest move of an edge",
        loc="upper left",
        bbox_to_anchor=corner,
        alignment="left",
        borderaxespad=0,
        fontsize=8.5,
        title_fontsize=8.5,
    )


def _finite(values: npt.ArrayLike, name: str, shape: tuple[int | None, ...]) -> npt.NDArray[np.float64]:
    """Return ``values`` in float64. Raises ValueError unless they have ``shape`` (None = any size) and are finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        expected = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} must have shape ({expected}), found {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array


def _draw_boxes(axes: "Axes", boxes: npt.NDArray[np.float64], colours: Mapping[int, str]) -> None:
    """Draw ``boxes`` (n, 4) in map coordinates: those in ``colours`` strong, the rest faint below them."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    faint = min(0.25, max(0.07, 14 / max(1, len(boxes))))  # many boxes must not blacken the map
    areas = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    for k in np.argsort(-areas):
        top, bottom, left, right = boxes[k]
        patch = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=INK, linewidth=0.6)
        patch.set_alpha(faint)
        if k in colours:
            patch.set(edgecolor=colours[k], linewidth=2, alpha=1, zorder=5)
            patch.set_path_effects([Stroke(linewidth=3.6, foreground="white"), Normal()])
        axes.add_patch(patch)
