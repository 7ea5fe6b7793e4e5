"""Plots of box statistics and receptive fields: Figures 3 and 4 of the paper, and its statements about symmetry."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from box_convolution.drawing import FAINT, INK, SOFT, canvas

from ..reports.line_colours import BLUE, LINES, ORANGE


def area_against_importance(
    areas: Mapping[str, npt.ArrayLike],
    importance: Mapping[str, npt.ArrayLike],
    path: str | Path,
    *,
    title: str,
    marked: Sequence[str] = (),
) -> None:
    """Figure 3: areas of boxes over their importance, with logarithmic axes and a colour for each layer.

    areas, importance: (n,) for each layer, in the order of the network; boxes without importance are left out.
    marked: layers with hollow marks, because their importance differs from the paper's definition.

    Raises ValueError if no box has an area and an importance above 0.
    """
    points = {name: _known(areas[name], importance[name]) for name in areas}
    points = {name: pair for name, pair in points.items() if len(pair)}
    if not points:
        raise ValueError("areas and importance hold no box with an area and an importance above 0")
    import matplotlib
    from matplotlib.lines import Line2D

    colours = matplotlib.colormaps["turbo"](np.linspace(0.04, 0.94, len(points)))
    with canvas(path, 8.2, 5.2, pad=(0.08, 0.08)) as figure:
        axes = figure.subplots()
        for (name, pair), colour in zip(points.items(), colours, strict=True):
            hollow = name in marked
            axes.scatter(
                pair[:, 1],
                pair[:, 0],
                s=16,
                facecolor="none" if hollow else colour,
                edgecolor=colour if hollow else "white",
                linewidth=0.9 if hollow else 0.3,
                label=name + (" *" if hollow else ""),
                alpha=0.9,
            )
        axes.set(xscale="log", yscale="log", xlabel="importance", ylabel="area, pixels of the layer's map")
        axes.axhline(9, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        axes.text(0.995, 9, "3 × 3", transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=8.5)
        axes.grid(which="major", linewidth=0.6)
        axes.set_title(title, loc="left", weight="bold", fontsize=10.5)
        handles, _ = axes.get_legend_handles_labels()
        if any(name in marked for name in points):
            handles.append(Line2D([], [], linestyle="", label="* no 1×1 behind it"))
        legend = axes.legend(
            handles=handles,
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            fontsize=8.5,
            title="layer",
            alignment="left",
        )
        legend.get_title().set_fontsize(8.5)


def symmetry_histogram(
    now: Mapping[str, npt.ArrayLike], before: Mapping[str, npt.ArrayLike] | None, path: str | Path, *, title: str
) -> None:
    """Histograms of the symmetry score, from 0 (one side only) to 1.

    now, before: scores (n,) for each of two axes. Each axis has a panel with the trained boxes and, as an outline,
    those before training.
    """
    bins = np.linspace(0, 1, 11)
    with canvas(path, 8.2, 3.1, pad=(0.1, 0.08)) as figure:
        panels = figure.subplots(1, len(now), sharey=True, squeeze=False)[0]
        for axes, (name, scores), colour in zip(panels, now.items(), (BLUE, ORANGE), strict=False):
            values = np.asarray(scores, np.float64)
            weight = np.full(len(values), 100 / max(1, len(values)))
            axes.hist(values, bins, weights=weight, color=colour, alpha=0.75, label="after training", rwidth=0.94)
            if before is not None:
                old = np.asarray(before[name], np.float64)
                share = np.full(len(old), 100 / max(1, len(old)))
                axes.hist(old, bins, weights=share, histtype="step", color=INK, linewidth=1.2, label="before training")
            axes.set_title(name, loc="left", fontsize=9.5, color=SOFT)
            axes.set(xlabel="shorter side / longer side", xlim=(0, 1))
            axes.grid(axis="y", linewidth=0.6)
            axes.legend(loc="upper right", fontsize=8.5)
        panels[0].set_ylabel("% of the boxes")
        figure.suptitle(title, x=0.015, ha="left", weight="bold", fontsize=10.5)


def energy_curves(levels: Mapping[str, Mapping[str, npt.ArrayLike]], path: str | Path, *, title: str) -> None:
    """Figure 4: cumulative gradient energy E(r) of several networks, with a panel for each level.

    levels: from the title of a level, and the name of a network, to E(r) for r = 0, 1, ...

    The horizontal axis ends where all curves have reached 99.9 %. Raises ValueError for a level without a network.
    """
    if not levels or not all(levels.values()):
        raise ValueError("levels must hold at least one network each")
    names = list(dict.fromkeys(name for curves in levels.values() for name in curves))
    colours = {name: LINES[i % len(LINES)] for i, name in enumerate(names)}
    with canvas(path, 4.1 * max(1.4, len(levels)), 3.6, pad=(0.1, 0.08)) as figure:
        panels = figure.subplots(1, len(levels), sharey=True, squeeze=False)[0]
        for axes, (level, curves) in zip(panels, levels.items(), strict=True):
            ends = []
            for name, given in curves.items():
                energy = np.asarray(given, np.float64)
                axes.plot(np.arange(len(energy)), energy, color=colours[name], linewidth=1.9, label=name)
                ends.append(int((energy >= 0.999).argmax()) + 1)
            axes.axhline(1, color=FAINT, linewidth=0.8)
            axes.set(xlim=(0, max(2, *ends)), ylim=(0, 1.03), xlabel="radius r, pixels of the image")
            axes.set_title(level, loc="left", fontsize=9.5, color=SOFT)
            axes.grid(linewidth=0.6)
            axes.legend(loc="lower right", fontsize=8.5)
        panels[0].set_ylabel("gradient energy within r")
        figure.suptitle(title, x=0.015, ha="left", weight="bold", fontsize=10.5)


def _known(areas: npt.ArrayLike, importance: npt.ArrayLike) -> Any:
    """Pairs (n, 2) of area and importance that logarithmic axes can show."""
    pair = np.stack([np.asarray(areas, np.float64), np.asarray(importance, np.float64)], 1)
    return pair[np.isfinite(pair).all(1) & (pair > 0).all(1)]
