"""Plot of validation scores over the epochs, for several training runs."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from box_convolution.drawing import canvas

from .line_colours import LINES
from .run_comparison import FinishedRun, by_epochs, shared_epochs


def _without_epochs(label: str) -> str:
    network, _, settings = label.partition(" (")
    others = [setting for setting in settings.removesuffix(")").split(", ") if setting and setting[:7] != "epochs "]
    return f"{network} ({', '.join(others)})" if others else network


def draw_curves(groups: Mapping[str, Sequence[FinishedRun]], path: str | Path, *, title: str) -> None:
    """Plot validation class IoU over the epochs: for each group a line for the mean, and a band from the lowest to the
    highest seed.

    Each length of schedule has a panel. Groups that differ only in the number of epochs have the same colour.
    """
    from matplotlib.ticker import MaxNLocator

    styles = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))
    schedules = by_epochs(groups)
    names = {label: _without_epochs(label) for label in groups}
    places = {name: k for k, name in enumerate(dict.fromkeys(names.values()))}
    columns = min(3, len(places), max(1, 150 // (8 + max(map(len, places)))))
    rows = -(-len(places) // columns)
    with canvas(path, 8.2 if len(schedules) == 1 else 10.0, 4.4 + 0.22 * rows, pad=(0.08, 0.08)) as figure:
        panels = figure.subplots(1, len(schedules), squeeze=False, sharey=True)[0]
        lines = {}
        for axes, (epochs, members) in zip(panels, schedules.items(), strict=True):
            for label, runs in members.items():
                common = shared_epochs(runs)
                curves = [{int(epoch): 100 * iou for epoch, iou in run.curve} for run in runs]
                seeds = [[curve[epoch] for curve in curves] for epoch in common]
                k = places[names[label]]
                colour, style = LINES[k % len(LINES)], styles[k // len(LINES) % 3]
                (lines[k],) = axes.plot(
                    common, list(map(statistics.mean, seeds)), color=colour, linewidth=1.6, linestyle=style,
                    label=names[label], marker="o" if len(common) < 4 else None, markersize=3,
                )  # fmt: skip
                if len(runs) > 1:
                    low, high = list(map(min, seeds)), list(map(max, seeds))
                    axes.fill_between(common, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.set(xlabel="epoch", ylabel="validation class IoU, %" if axes is panels[0] else "")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(linewidth=0.6)
            if len(schedules) > 1:
                axes.set_title(f"{epochs} epochs", loc="left", fontsize=9.5)
        figure.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=10.5)
        figure.legend(handles=[lines[k] for k in sorted(lines)], loc="outside lower left", ncols=columns, fontsize=8.5)
