"""Draws box.png, the picture of math.md: what a box averages, and how the average changes with an edge of the box.

    python docs/draw_box.py

Every number in the picture is computed here by area overlap (pixel i covers [i - 1/2, i + 1/2]), none is typed in.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from box_convolution.drawing import FAINT, INK, SOFT, STYLE

IMAGE = np.array(  # (5, 7) pixel values
    [
        [0.3, 0.7, 0.2, 0.5, 0.6, 0.9, 0.4],
        [0.1, 0.9, 0.3, 0.6, 0.4, 1.0, 0.2],
        [0.2, 0.8, 0.1, 0.7, 0.3, 0.9, 0.5],
        [0.4, 0.6, 0.4, 0.5, 0.5, 0.8, 0.3],
        [0.3, 0.5, 0.2, 0.4, 0.6, 0.7, 0.6],
    ]
)
CENTRE = (1, 4)  # row and column of the output pixel
BOX = (-2.2, 1.9, -3.2, 1.3)  # top, bottom, left, right: pixels from that centre, so the top leaves the image

BLUE, ORANGE = "#2b6cb0", "#d2571c"


def overlap(start: float, end: float, pixels: np.ndarray) -> np.ndarray:
    """Length of each pixel's [i - 1/2, i + 1/2] that lies in [start, end]; same shape as `pixels`."""
    return np.clip(np.minimum(end, pixels + 0.5) - np.maximum(start, pixels - 0.5), 0, None)


def box_average(box: tuple[float, float, float, float]) -> float:
    """The zero-padded image averaged over the full area of `box` placed at CENTRE."""
    top, bottom, left, right = box
    rows = overlap(CENTRE[0] + top, CENTRE[0] + bottom, np.arange(IMAGE.shape[0]))
    columns = overlap(CENTRE[1] + left, CENTRE[1] + right, np.arange(IMAGE.shape[1]))
    return float(rows @ IMAGE @ columns) / ((bottom - top) * (right - left))


def minus(value: float) -> str:
    """The shortest decimal form, with a real minus sign."""
    return f"{value:g}".replace("-", "−")


def draw_weights(axes: Any) -> None:
    """Left panel: the pixel grid, a box, the weight of every pixel under it, and its edges measured from the centre."""
    h, w = IMAGE.shape
    top, bottom, left, right = BOX
    row, column = CENTRE
    rows, columns = np.arange(-1, h), np.arange(w)  # with one row of the zero padding
    for i, in_row in zip(rows, overlap(row + top, row + bottom, rows), strict=True):
        for j, in_column in zip(columns, overlap(column + left, column + right, columns), strict=True):
            corner, weight, padding = (j - 0.5, i - 0.5), in_row * in_column, i < 0
            if weight and not padding:
                axes.add_patch(Rectangle(corner, 1, 1, facecolor=BLUE, alpha=0.05 + 0.40 * weight, linewidth=0))
            line = ":" if padding else "-"
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=FAINT, linewidth=0.8, linestyle=line))
            if weight:
                # Numbers stand in the covered part of their pixel, clear of the box's outline and the centre's mark.
                aside = 0.27 if (i, j) == CENTRE else 0.0
                across = (max(j - 0.5, column + left) + min(j + 0.5, column + right)) / 2 - aside
                down = (max(i - 0.5, row + top) + min(i + 0.5, row + bottom)) / 2 - aside
                colour = SOFT if padding else INK
                axes.text(across, down, f"{round(weight, 3):g}", ha="center", va="center_baseline", color=colour)
    axes.add_patch(Rectangle((-0.5, -0.5), w, h, fill=False, edgecolor=INK, linewidth=1.4))
    size = (right - left, bottom - top)
    axes.add_patch(Rectangle((column + left, row + top), *size, fill=False, edgecolor=BLUE, linewidth=2.4, zorder=4))
    axes.plot(column, row, marker="o", markersize=6.5, color=ORANGE, zorder=6)
    for number in range(w):
        axes.text(number, -1.72, str(number), ha="center", va="center", fontsize=8.5, color=SOFT)
    for number in range(h):
        axes.text(-0.85, number, str(number), ha="center", va="center", fontsize=8.5, color=SOFT)
    axes.text(-0.62, -1, "zero\npadding", ha="right", va="center", fontsize=8, color=SOFT, linespacing=1.0)

    rule = {"color": ORANGE, "linewidth": 0.9, "linestyle": (0, (1, 2)), "zorder": 5}
    side, below = w - 0.05, h - 0.05  # the measures stand beside and below the image
    axes.plot([column + right, side + 0.1], [row, row], **rule)
    axes.plot([column, column], [row + bottom, below + 0.1], **rule)
    for name, value in (("top", top), ("bottom", bottom)):
        axes.plot([column + right, side + 0.1], [row + value] * 2, color=BLUE, linewidth=0.8)
        arrow(axes, (side, row), (side, row + value))
        axes.text(side + 0.15, row + value / 2, f"{name}\n{minus(value)}", ha="left", va="center", color=BLUE)
    for name, value in (("left", left), ("right", right)):
        axes.plot([column + value] * 2, [row + bottom, below + 0.1], color=BLUE, linewidth=0.8)
        arrow(axes, (column, below), (column + value, below))
        axes.text(column + value / 2, below + 0.13, f"{name} {minus(value)}", ha="center", va="top", color=BLUE)
    axes.set(xlim=(-1.75, w + 1.0), ylim=(h + 0.55, -2.0), aspect="equal")
    axes.axis("off")


def arrow(axes: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """A measuring arrow from the centre line to an edge of the box."""
    style = {"arrowstyle": "-|>,head_width=0.22,head_length=0.45", "color": BLUE, "linewidth": 1.1}
    axes.annotate("", xy=end, xytext=start, arrowprops=style | {"shrinkA": 0, "shrinkB": 0})


def draw_edge(axes: Any) -> None:
    """Right panel: the average as the right edge moves, over the mean of the pixels that this edge runs through."""
    h, w = IMAGE.shape
    top, bottom, left, right = BOX
    column = CENTRE[1]
    first, last = left + 1.0, w - column + 1.4  # the box stays at least one pixel wide

    def average(edge: float) -> float:
        return box_average((top, bottom, left, edge))

    # The image's columns averaged from top to bottom edge, padding included: the marginal value of moving the edge.
    means = overlap(CENTRE[0] + top, CENTRE[0] + bottom, np.arange(h)) @ IMAGE / (bottom - top)
    borders = np.arange(np.ceil(first + column + 0.5), w + 1) - 0.5 - column
    starts = np.concatenate([[first], borders, [last]])
    for start, end in pairwise(starts):
        j = round(column + (start + end) / 2)
        mean = means[j] if j < w else 0.0
        axes.fill_between([start, end], 0, mean, color=FAINT, alpha=0.45, linewidth=0)
        axes.plot([start, end], [mean, mean], color=SOFT, linewidth=1.2)

    edges = np.linspace(first, last, 1200)
    axes.plot(edges, [average(edge) for edge in edges], color=BLUE, linewidth=2.4, zorder=4)
    kinks = [average(border) for border in borders]
    axes.vlines(borders, 0, kinks, color=FAINT, linewidth=0.8, zorder=1)
    axes.plot(borders, kinks, "o", color="white", markeredgecolor=BLUE, markersize=5, zorder=5)
    here = average(right)
    slope = (means[round(column + right)] - here) / (right - left)
    reach = np.array([-0.62, 0.62])
    axes.plot(right + reach, here + slope * reach, color=ORANGE, linewidth=1.6, zorder=6)
    axes.plot(right, here, "o", color=ORANGE, markersize=6.5, zorder=7)
    formula = f"slope =\n(mean under the edge\n − output) / width\n= {slope:.3f}"
    axes.text(right + 0.45, here + 0.07, formula, color=ORANGE, va="bottom", linespacing=1.3)
    axes.text(borders[-1] + 0.1, 0.02, "zero padding", ha="left", va="bottom", color=SOFT, fontsize=8)
    axes.text(borders[-3] - 0.1, means[-2], "mean under the edge", ha="right", va="center", color=SOFT)
    axes.text(borders[-1] + 0.35, average(borders[-1] + 0.35) + 0.02, "output", ha="left", va="bottom", color=BLUE)
    axes.set(xlim=(first, last), ylim=(0, 1.08 * means.max()), xlabel="right edge, in pixels from the centre")
    axes.spines[["top", "right"]].set_visible(False)


def caption(figure: Figure, x: float, heading: str, line: str) -> None:
    """A panel's heading and one line under it, from `x` (a fraction of the figure's width)."""
    figure.text(x, 0.965, heading, fontsize=11.5, fontweight="bold", va="top")
    figure.text(x, 0.905, line, fontsize=9, color=SOFT, va="top")


def main() -> None:
    """Draw both panels and write box.png beside this script."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.6), dpi=180, facecolor="white")
        FigureCanvasAgg(figure)
        draw_weights(figure.add_axes((0.0, 0.0, 0.56, 0.87)))
        draw_edge(figure.add_axes((0.60, 0.125, 0.385, 0.68)))
        top, bottom, left, right = BOX
        rule = f"output at the dot = sum of weight × pixel / ({bottom - top:.2g} × {right - left:.2g})"
        caption(figure, 0.055, "Each pixel weighs what the box covers of it", rule)
        rule = "(a + b·t) / (c + t) between pixel borders, a kink at each"
        caption(figure, 0.575, "The output as one edge t moves", rule)
        figure.savefig(Path(__file__).with_name("box.png"))


if __name__ == "__main__":
    main()
