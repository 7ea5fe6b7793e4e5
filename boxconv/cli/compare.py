"""`boxconv compare`."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from ..data.data_folder import check_outside_data
from ..errors import UsageError
from ..files import write_atomic
from ..training.config import TrainConfig, to_plain
from .draw import require_picture
from .outputs import check_outputs, check_page, write_page

if TYPE_CHECKING:
    from ..reports.run_comparison import FinishedRun

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
    """Compare finished training runs: scores after the last epoch, mean and spread over seeds, curves, classes.

    Runs that differ only in their seed share a row. Rows are named by the settings in which they differ.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders of runs; unfinished runs are left out."""
    kept: Path | None = None
    """JSON file of runs: its runs are compared, too, and the runs given here are added to it."""
    write: Path | None = None
    """Markdown file, which must exist: its section between the comments of `boxconv compare` is replaced, or appended
    if missing."""
    part: str = ""
    """Name of the section, for a file that has several."""
    plot: Path | None = None
    """Picture of the curves over the epochs, .png or .svg."""
    overwrite: bool = False
    """Replace the picture of --plot if it is there already; --kept and --write only add to their files."""


def run(args: Compare) -> None:
    from box_convolution import networks

    from ..profiling import machine
    from ..reports.run_comparison import Unfinished, grouped, kept, merged, read_kept, read_run, sections
    from ..reports.run_curves import draw_curves

    section = f"{NAME} {args.part}".strip()
    require_picture("--plot", args.plot)
    check_outside_data({"--kept": args.kept})
    check_page(args.write, section)
    check_outputs({"--plot": args.plot}, overwrite=args.overwrite, inputs=(args.kept, args.write))
    defaults = to_plain(TrainConfig())
    noted_by = machine.provenance()
    runs: dict[Path, FinishedRun] = {}
    for folder in args.runs:
        try:
            runs[folder] = read_run(folder, defaults, noted_by)
        except Unfinished as error:
            print(f"boxconv: left out: {error}", file=sys.stderr)
    folders = {run.identity: folder for folder, run in runs.items()}
    for folder, run in runs.items():
        if folders[run.identity] != folder:
            raise UsageError(
                f"RUNS: {folder} and {folders[run.identity]} are the same experiment with the same seed: leave one of "
                "them out, or train the other with another --seed"
            )
    every = merged(read_kept(args.kept, defaults), list(runs.values()))
    if not every:
        raise UsageError("RUNS: expected folders of finished runs, or --kept FILE with some")
    kinds = {json.dumps([run.settings["data"], run.settings["size"], run.classes]) for run in every}
    if len(kinds) > 1:
        raise UsageError(
            "RUNS: cannot compare runs on different data, image sizes or classes; found " + " and ".join(sorted(kinds))
        )
    groups = grouped(every, networks.names(), defaults)
    found = sections(groups, PAPER)
    for each in found:
        print(each.plain())
    if args.kept is not None and runs:
        write_atomic(args.kept, kept(every))
    if args.plot is not None:
        draw_curves(groups, args.plot, title="Validation class IoU while training")
    write_page(args.write, section, found, level=3)
