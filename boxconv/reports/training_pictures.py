"""Pictures of a training run: curves over the epochs, and scores by class."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from box_convolution.drawing import INK, SOFT, canvas

from ..data.class_table import ClassTable, as_hex
from .line_colours import BLUE, LINES, ORANGE


def training_curves(records: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Plot loss, validation scores and learning rate by epoch, each in a panel of its own.

    records: one mapping per epoch with any of `epoch`, `train_loss`, `val_class_iou`, `val_average_class_iou`,
    `val_pixel_accuracy` (from 0 to 1, drawn in percent) and `learning_rate`. Values that are None, NaN or missing are
    left out, and so are panels without values.

    Raises ValueError if no record has any of these values.
    """
    scores = ("val_class_iou", "val_average_class_iou", "val_pixel_accuracy")
    curves = {key: _curve(records, key) for key in ("train_loss", *scores, "learning_rate")}
    panels = [
        (name, keys, height)
        for name, keys, height in (
            ("training loss", ("train_loss",), 3),
            ("validation, %", scores, 3),
            ("learning rate", ("learning_rate",), 1.2),
        )
        if any(len(curves[key][0]) for key in keys)
    ]
    if not panels:
        raise ValueError(f"records hold none of {', '.join(curves)}")
    from matplotlib.ticker import MaxNLocator

    lines = {
        "train_loss": (ORANGE, ""),
        "val_class_iou": (BLUE, "class IoU"),
        "val_average_class_iou": (LINES[2], "of averaged weights"),
        "val_pixel_accuracy": (SOFT, "pixel accuracy"),
        "learning_rate": (SOFT, ""),
    }
    with canvas(path, 7.5, 0.7 + 0.85 * sum(height for *_, height in panels), pad=(0.1, 0.1)) as figure:
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
                if key.endswith("class_iou"):
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
    """Draw the IoU of each class (from 0 to 1, drawn in percent) as horizontal bars in its colour, the best first.

    A class whose IoU is None or NaN occurs neither in labels nor in predictions; it is listed last, without a bar.
    Raises ValueError if ``iou`` is empty, or has a name that is not in ``classes``.
    """
    colours = dict(zip(classes.names, map(as_hex, classes.colours), strict=True))
    unknown = [name for name in iou if name not in colours]
    if unknown or not iou:
        raise ValueError(f"iou must name classes of the table, found {unknown or 'none'}")
    scores = {name: math.nan if value is None else 100 * float(value) for name, value in iou.items()}
    order = sorted(scores, key=lambda name: math.inf if math.isnan(scores[name]) else -scores[name])
    known = [value for value in scores.values() if not math.isnan(value)]
    with canvas(path, 7, 0.95 + 0.27 * len(order), pad=(0.1, 0.1)) as figure:
        axes = figure.subplots()
        for i, name in enumerate(order):
            value = scores[name]
            if math.isnan(value):
                axes.text(1, i, "does not occur", va="center", color=SOFT, fontsize=8)
                continue
            # The outline makes white and yellow bars visible on a white background.
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


def _curve(records: Sequence[Mapping[str, Any]], key: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Epochs and values of the records that have `key`; a record without an epoch has its position, from 1."""
    points = [(r.get("epoch", i), r[key]) for i, r in enumerate(records, start=1) if r.get(key) is not None]
    table = np.array(points, dtype=np.float64).reshape(-1, 2)
    table = table[np.isfinite(table).all(axis=1)]
    return table[:, 0], table[:, 1]
