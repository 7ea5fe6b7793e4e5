"""`boxconv compare`."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..segmentation.config import TrainConfig, UsageError, to_plain
from .sections import replaced_section, write_sections

NAME = "boxconv compare"
# Class and category IoU in per cent on Cityscapes' validation images, Table 1 of the paper.
PAPER = {
    "enet": (59.4, 81.8),
    "boxenet": (64.6, 83.2),
    "boxenet_frozen": (60.3, 80.9),
    "enet_minus": (54.1, 81.7),
    "boxonlyenet": (61.0, 81.8),
    "erfnet": (68.8, 85.3),
    "boxerfnet": (69.0, 85.4),
    "boxerfnet_frozen": (63.6, 84.1),
    "erfnet_minus": (59.8, 84.1),
}


@dataclass(frozen=True)
class Compare:
    """Finished training runs side by side: scores after the last epoch, mean and spread over seeds, curves, classes.

    Runs that differ by nothing but their seed share a row; settings by which others differ are named.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders of boxconv train."""
    kept: Path | None = None
    """JSON file of runs: those in it are compared too, and the given ones are added to it."""
    write: Path | None = None
    """Markdown file whose section of `boxconv compare`, between two comments, is written anew; appended if missing."""
    plot: Path | None = None
    """Picture of the curves over the epochs, .png or .svg."""


def run(args: Compare) -> None:
    from .. import networks
    from ..analysis import machine
    from ..analysis.run_comparison import draw_curves, grouped, kept, merged, read_kept, read_run, sections
    from ..segmentation.files import write_atomic

    if args.write is not None:
        replaced_section(args.write, NAME, "")
    made_by = f"{machine.commit()}; {machine.processor()}"
    runs = [read_run(folder, made_by) for folder in args.runs]
    if args.kept is not None:
        runs = merged(read_kept(args.kept) if args.kept.exists() else [], runs)
    if not runs:
        raise UsageError("RUNS: expected folders of finished runs, or --kept FILE with some")
    if len({json.dumps([run.settings["data"], run.settings["size"]]) for run in runs}) > 1:
        raise UsageError("RUNS: cannot compare runs on different data or image sizes; give those of one kind only")
    groups = grouped(runs, networks.names(), to_plain(TrainConfig()))
    found = sections(groups, PAPER)
    for section in found:
        print(section.plain())
    if args.kept is not None:
        text = kept(runs)
        write_atomic(args.kept, lambda file: file.write(text.encode()))
    if args.plot is not None:
        draw_curves(groups, args.plot, title="Validation class IoU while training")
    if args.write is not None:
        write_sections(args.write, NAME, found)
        print(f"written to {args.write}")
