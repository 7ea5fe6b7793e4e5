"""Pictures of the demo's report: boxes before and after training, curves, class scores. One function, one PNG."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from box_convolution.drawing import FAINT, INK, SOFT, canvas, mark
from boxconv.data.classes import ClassTable
from boxconv.reports.colours import BLUE, ORANGE

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
    """Boxes at one output pixel over a feature map: before training on the left, after it on the right.

    feature_map: (h, w), any finite range.
    before, after: (n, 4), edges (top, bottom, left, right) in pixels relative to the output pixel's centre.
    highlight: the boxes drawn in colour; by default all if they are few, else those whose edges moved farthest.
    centre: (row, column) of the output pixel, by default the middle of the map.
    ValueError names the argument that does not fit.
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
    if highlight is None:
        highlight = list(np.argsort(-moves, kind="stable")[: len(old) if len(old) <= len(BOX_COLOURS) else 8])
    if not all(0 <= k < len(old) for k in highlight):
        raise ValueError(f"highlight must hold indices of the {len(old)} boxes, found {list(highlight)}")
    colours = {int(k): BOX_COLOURS[i % len(BOX_COLOURS)] for i, k in enumerate(highlight)}

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


def _moves_legend(
    figure: "Figure", colours: Mapping[int, str], moves: npt.NDArray[np.float64], corner: tuple[float, float]
) -> None:
    """How far the boxes in ``colours`` moved; ``corner``: the upper left one, as shares of the figure."""
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


def training_curves(records: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Loss, validation scores and learning rate by epoch, in panels above one another.

    records: one mapping per epoch with any of `epoch`, `train_loss`, `val_class_iou`, `val_pixel_accuracy` (fractions
    of 1, drawn in percent), `learning_rate`; None, NaN and missing values are left out, as is a panel without values.
    ValueError if no record holds any of the values.
    """
    curves = {
        key: _curve(records, key) for key in ("train_loss", "val_class_iou", "val_pixel_accuracy", "learning_rate")
    }
    panels = [
        (name, keys, height)
        for name, keys, height in (
            ("training loss", ("train_loss",), 3),
            ("validation, %", ("val_class_iou", "val_pixel_accuracy"), 3),
            ("learning rate", ("learning_rate",), 1.2),
        )
        if any(len(curves[key][0]) for key in keys)
    ]
    if not panels:
        raise ValueError(f"records hold none of {', '.join(curves)}")
    from matplotlib.ticker import MaxNLocator

    lines = {
        "train_loss": (ORANGE, ""),
        "val_class_iou": (BLUE, "mean class IoU"),
        "val_pixel_accuracy": (SOFT, "pixel accuracy"),
        "learning_rate": (SOFT, ""),
    }
    with canvas(path, 7.5, 0.7 + 0.85 * sum(height for *_, height in panels)) as figure:
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=[p[2] for p in panels])
        for axes, (name, keys, _) in zip(grid[:, 0], panels, strict=True):
            for key in keys:
                epochs, values = curves[key]
                colour, label = lines[key]
                if not len(values):
                    continue
                values = values * 100 if key.startswith("val_") else values
                marker = "o" if len(epochs) < 15 else ""  # a single epoch would otherwise be an invisible line
                style = "steps-post" if key == "learning_rate" else "default"
                if key == "val_class_iou":
                    best = int(values.argmax())
                    label += f", best {values[best]:.1f} at epoch {epochs[best]:g}"
                    axes.plot(epochs[best], values[best], "o", color=colour, markersize=6)
                axes.plot(epochs, values, color=colour, label=label, marker=marker, markersize=3.5, drawstyle=style)
            axes.set_ylabel(name)
            axes.grid(axis="y", linewidth=0.7)
            axes.set_ylim(bottom=0, top=100 if len(keys) > 1 else None)
            if len(keys) > 1:
                axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
        grid[-1, 0].set_xlabel("epoch")
        grid[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def class_bars(iou: Mapping[str, float | None], classes: ClassTable, path: str | Path) -> None:
    """Horizontal bars of the IoU per class (fractions of 1, drawn in percent), best first, in the classes' colours.

    A class whose IoU is None or NaN occurs neither in truth nor prediction; it is listed last, without a bar.
    ValueError for a name that is not in `classes`.
    """
    colours = {name: "#" + bytes(rgb).hex() for name, rgb in zip(classes.names, classes.colours, strict=True)}
    unknown = [name for name in iou if name not in colours]
    if unknown or not iou:
        raise ValueError(f"iou must name classes of the table, found {unknown or 'none'}")
    scores = {name: math.nan if value is None else 100 * float(value) for name, value in iou.items()}
    order = sorted(scores, key=lambda name: math.inf if math.isnan(scores[name]) else -scores[name])
    known = [value for value in scores.values() if not math.isnan(value)]
    with canvas(path, 7, 0.95 + 0.27 * len(order)) as figure:
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
        axes = figure.subplots()
        for i, name in enumerate(order):
            value = scores[name]
            if math.isnan(value):
                axes.text(1, i, "does not occur", va="center", color=SOFT, fontsize=8)
                continue
            # The outline keeps white and yellow classes visible on white paper.
            axes.barh(i, value, height=0.72, color=colours[name], edgecolor=SOFT, linewidth=0.6)
            axes.text(value + 1, i, f"{value:.1f}", va="center", fontsize=8.5)
        if known:
            mean = sum(known) / len(known)
            axes.axvline(mean, color=INK, linewidth=1, linestyle=(0, (4, 3)))
            axes.text(mean, -0.75, f"mean {mean:.1f}", ha="center", va="bottom", fontsize=8.5)
        axes.set(xlim=(0, 106), ylim=(len(order) - 0.4, -0.7), xlabel="class IoU, %", xticks=range(0, 101, 20))
        axes.set_yticks(range(len(order)), order, color=INK)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", linewidth=0.7)


def _finite(values: npt.ArrayLike, name: str, shape: tuple[int | None, ...]) -> npt.NDArray[np.float64]:
    """`values` in float64 if they have `shape` (None = any size) and are finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        expected = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} must have shape ({expected}), found {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array


def _draw_boxes(axes: "Axes", boxes: npt.NDArray[np.float64], colours: Mapping[int, str]) -> None:
    """boxes: (n, 4) in map coordinates; those in `colours` strong and largest first, the rest faint below them."""
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


def _curve(records: Sequence[Mapping[str, Any]], key: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Epochs and values of the records that have `key`; a record without an epoch counts from 1."""
    points = [(r.get("epoch", i), r[key]) for i, r in enumerate(records, start=1) if r.get(key) is not None]
    table = np.array(points, dtype=np.float64).reshape(-1, 2)
    table = table[np.isfinite(table).all(axis=1)]
    return table[:, 0], table[:, 1]
