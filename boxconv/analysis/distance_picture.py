"""Plot of the accuracy by distance to the evidence, with a line for each network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from box_convolution.drawing import FAINT, INK, SOFT, canvas

from ..reports.line_colours import LINES
from .by_distance import Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES = {
    "enet": "ENet",
    "enet_minus": "ENet–",
    "boxenet": "BoxENet",
    "boxenet_frozen": "BoxENet, frozen boxes",
    "boxonlyenet": "BoxOnlyENet",
    "erfnet": "ERFNet",
    "erfnet_minus": "ERFNet–",
    "boxerfnet": "BoxERFNet",
    "boxerfnet_frozen": "BoxERFNet, frozen boxes",
}

LEAST = 3e-4
"""A point is drawn if, at its distance, both look-alikes have at least this share of the pixels of all points."""


def draw_by_distance(
    groups: Mapping[str, Sequence[Measured]], evidence: Mapping[str, str], path: str | Path, *, width: int
) -> None:
    """Plot the first question large and the others beside it: a line for each seed of each group.

    A mean over seeds would hide that a network learns the evidence with one seed and not with another. A group of one
    seed has a band, which is the confidence interval.

    evidence: for each question, what the distance is measured to. width: of the images, in pixels.
    """
    shown = {label: _title(label) for label in groups}
    first, *others = evidence
    legend_rows = -(-len(groups) // 3)
    with canvas(path, 8.6, 4.1 + 0.22 * legend_rows, pad=(0.08, 0.06)) as figure:
        grid = figure.add_gridspec(
            max(len(others), 1), 2 if others else 1, width_ratios=[1.75, 1][: 2 if others else 1]
        )
        main = figure.add_subplot(grid[:, 0])
        lines = _lines(main, groups, shown, first, width, thick=2.2)
        _label_axes(main, first, f"{evidence[first]} (images are {width} pixels wide)", size=11)
        main.text(0.01, 50.6, "chance", transform=main.get_yaxis_transform(), va="bottom", fontsize=9.5, color=SOFT)
        main.set_ylabel("pixels that are right, %")
        for row, question in enumerate(others):
            axes = figure.add_subplot(grid[row, 1])
            _lines(axes, groups, shown, question, width, thick=1.6)
            _label_axes(axes, question, evidence[question], size=9.5)
        figure.legend(handles=lines, loc="outside lower center", ncols=min(3, len(lines)), fontsize=9.5)


def _lines(
    axes: "Axes", groups: Mapping[str, Sequence[Measured]], shown: Mapping[str, str], question: str, width: int,
    *, thick: float,
) -> list[Any]:  # fmt: skip
    styles = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))
    lines = []
    for k, (label, runs) in enumerate(groups.items()):
        colour, style = LINES[k % len(LINES)], styles[k // len(LINES) % len(styles)]
        for run in runs:
            a = run.answers[question]
            bins = zip(a.start, a.end, a.accuracy, a.low, a.high, a.pixels, strict=True)
            points = [
                (width * (start + end) / 2, 100 * accuracy, 100 * low, 100 * high)
                for start, end, accuracy, low, high, pixels in bins
                if min(pixels) >= LEAST * sum(map(sum, a.pixels))
            ]
            at, accuracy, low, high = zip(*points, strict=True) if points else ((),) * 4
            (line,) = axes.plot(
                at, accuracy, color=colour, linewidth=thick if len(runs) == 1 else 0.7 * thick, linestyle=style,
                label=shown[label] + (f", {len(runs)} seeds" if len(runs) > 1 else ""),
            )  # fmt: skip
            if len(runs) == 1:
                axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
        lines.append(line)
    axes.axhline(50, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xlim(left=0)
    axes.set_ylim(min(44.0, axes.dataLim.ymin - 3), 101.5)
    axes.grid(linewidth=0.6, color=FAINT)
    return lines


def _label_axes(axes: "Axes", question: str, evidence: str, *, size: float) -> None:
    axes.set_title(f"{question.capitalize()}?", loc="left", weight="bold", fontsize=size)
    axes.set_xlabel(f"pixels to the nearest {evidence}", fontsize=size - 1)


def _title(label: str) -> str:
    network, _, settings = label.partition(" (")
    name = NAMES.get(network, network)
    return f"{name}, {settings.removesuffix(')').replace('_', ' ')}" if settings else name
