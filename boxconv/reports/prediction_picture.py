"""A picture of predictions beside images and true labels."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from box_convolution.drawing import SOFT, canvas

from ..data.class_table import ClassTable, as_hex
from .coloured_labels import VOID, VOID_STRIPE, WRONG, checked_rows, errors_picture, striped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VOID_NAME = "void, not scored"
PANEL, GAP, HEAD, STRIP = 3.2, 0.1, 0.3, 0.27  # inches


def prediction_panel(
    images: Sequence[npt.ArrayLike],
    truths: Sequence[npt.ArrayLike] | None,
    predictions: Sequence[npt.ArrayLike],
    classes: ClassTable,
    path: str | Path,
    titles: Sequence[str] | None = None,
) -> None:
    """Draw a row for each image: image, true labels, predicted labels, errors; below, a legend of the classes in them.

    images: (h, w, 3) uint8 each; they may differ in size.
    truths, predictions: (h, w) integers each. Values outside 0..K-1 are void: drawn in grey stripes, and not scored if
        they are in truths. If truths is None, there are two columns, image and predicted labels.
    titles: one line of text for each row, above it.

    Raises ValueError, naming the argument and the row, for arguments that do not fit together.
    """
    void = len(classes.names)
    rows = checked_rows(images, predictions if truths is None else truths, predictions, void)
    if titles is not None and len(titles) != len(rows):
        raise ValueError(f"titles must have one entry per image, found {len(titles)} for {len(rows)} images")
    colours = np.array([*classes.colours, VOID], np.uint8)  # (K + 1, 3), void last
    seen = sorted(set().union(*(np.unique(labels) for _, *maps in rows for labels in maps)) - {void})
    entries = [(classes.names[k], classes.colours[k]) for k in seen] + [("wrong", WRONG)] * (truths is not None)
    shown = ("Image", "Truth", "Prediction", "Errors") if truths is not None else ("Image", "Prediction")

    width = len(shown) * (PANEL + GAP) + GAP
    heights = [PANEL * image.shape[0] / image.shape[1] for image, _, _ in rows]
    longest = max(len(name) for name in (VOID_NAME, *classes.names))
    columns = max(1, int((width - 2 * GAP) / (0.55 + 0.075 * longest)))
    total = HEAD + sum(heights) + STRIP * len(rows) + 0.25 + 0.21 * math.ceil((len(entries) + 1) / columns)
    with canvas(path, width, total) as figure:
        lefts = [GAP + j * (PANEL + GAP) for j in range(len(shown))]
        for left, name in zip(lefts, shown, strict=True):
            figure.text(left / width, 1 - 0.1 / total, name, weight="bold", va="top", fontsize=10.5)
        bottom = total - HEAD
        for i, ((image, truth, prediction), height) in enumerate(zip(rows, heights, strict=True)):
            errors, right = errors_picture(image, truth, prediction, void)
            if titles is not None:
                figure.text(lefts[0] / width, (bottom - STRIP + 0.07) / total, titles[i], color=SOFT, parse_math=False)
            if truths is not None:
                score = "nothing to score" if right is None else f"{right:.1%} of the pixels right"
                figure.text(lefts[3] / width, (bottom - STRIP + 0.07) / total, score, color=SOFT)
            bottom -= STRIP + height
            labels = [striped(colours[k], k == void) for k in (truth, prediction)]
            pictures = {"Image": image, "Truth": labels[0], "Prediction": labels[1], "Errors": errors}
            for left, name in zip(lefts, shown, strict=True):
                axes = figure.add_axes((left / width, bottom / total, PANEL / width, height / total))
                # Label colours are not averaged: the result could be the colour of another class.
                averaged = name in ("Image", "Errors")
                axes.imshow(pictures[name], aspect="auto", interpolation=None if averaged else "nearest")
                axes.set_axis_off()
        _legend(figure, entries, columns, (GAP / width, (bottom - 0.08) / total))


def _legend(
    figure: "Figure", entries: Sequence[tuple[str, tuple[int, int, int]]], columns: int, place: tuple[float, float]
) -> None:
    """Draw the legend of the colours; ``place``: its upper left corner, as shares of the figure."""
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=as_hex(colour), edgecolor=SOFT, linewidth=0.5, label=name) for name, colour in entries]
    stripes = Patch(facecolor=as_hex(VOID), edgecolor=as_hex(VOID_STRIPE), hatch="////", linewidth=0, label=VOID_NAME)
    figure.legend(
        handles=[*handles, stripes],
        ncols=min(columns, len(handles) + 1),
        loc="upper left",
        bbox_to_anchor=place,
        borderaxespad=0,
        borderpad=0.1,
        handlelength=1.3,
    )
