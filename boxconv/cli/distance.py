"""`boxconv distance`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from ..data.config import at_least
from ..data.data_folder import check_outside_data
from ..errors import UsageError
from ..files import write_atomic
from ..inference.open import TrainedNetwork, open_network
from ..training import recipes
from ..training.config import TrainConfig, to_plain
from .draw import require_picture
from .outputs import check_outputs, check_page, write_page

if TYPE_CHECKING:
    from ..analysis.by_distance import Measured

NAME = "boxconv distance"


@dataclass(frozen=True)
class Distance:
    """Measure on drawn scenes how often networks tell look-alikes apart, by the distance to the evidence.

    Networks are scored after their last epoch, on the validation scenes of their training. Runs that differ only in
    their seed share a line.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders of runs on drawn scenes."""
    kept: Path | None = None
    """JSON file of measurements: those in it are shown, too, and those made here are added to it."""
    networks: tuple[str, ...] = ()
    """Show only these networks, such as enet boxenet, or only runs of these recipes, such as scenes-enet; by default
    all."""
    plot: Path | None = None
    """Picture of the lines, .png or .svg."""
    csv: Path | None = None
    """CSV file of every number, with its confidence interval (95 %, bootstrap over scenes) and its number of pixels."""
    write: Path | None = None
    """Markdown file, which must exist: its section between the comments of `boxconv distance` is replaced."""
    part: str = ""
    """Name of the section, for a file that has several."""
    scenes: int | None = None
    """Number of validation scenes; by default that of the run."""
    device: str = "auto"
    overwrite: bool = False
    """Replace the files of --plot and --csv if they are there already; --kept and --write only add to theirs."""
    quiet: bool = False


def run(args: Distance) -> None:
    from box_convolution import networks

    from ..analysis.by_distance import read_kept, rows_of, sections
    from ..analysis.distance_picture import draw_by_distance
    from ..analysis.run_numbers import csv_text
    from ..data.scenes.evidence import QUESTIONS
    from ..reports.run_comparison import grouped, kept

    section = f"{NAME} {args.part}".strip()
    require_picture("--plot", args.plot)
    outputs = {"--plot": args.plot, "--csv": args.csv}
    check_outside_data({"--kept": args.kept})
    check_page(args.write, section)
    check_outputs(outputs, overwrite=args.overwrite, inputs=(args.kept, args.write))
    for folder in args.runs:
        if not (folder / "last.pt").is_file():
            raise UsageError(f"RUNS: {folder}: no folder of a training run, there is no last.pt in it")
    at_least("scenes", args.scenes, 1)
    defaults = to_plain(TrainConfig())
    chosen = _chosen(args.networks, networks.names(), defaults)
    known = read_kept(args.kept, defaults)
    every = list({run.identity: run for run in (*known, *_measure(args.runs, args, defaults))}.values())
    if args.kept is not None and args.runs:
        write_atomic(args.kept, kept(every))
    shown = [run for run in every if chosen is None or chosen(run)]
    if not shown:
        raise UsageError("RUNS: expected folders of runs on drawn scenes, or --kept FILE with some")
    sizes = sorted({tuple(run.settings["size"]) for run in shown})
    if len(sizes) > 1:
        raise UsageError(f"RUNS: cannot show runs at different image sizes together; found {sizes}")
    width = sizes[0][1]
    groups = grouped(shown, networks.names(), defaults)
    evidence = {question.name: question.evidence for question in QUESTIONS}
    tables = sections(groups, evidence, width)
    for table in tables:
        print(table.plain())
    if args.plot is not None:
        draw_by_distance(groups, evidence, args.plot, width=width)
    if args.csv is not None:
        write_atomic(args.csv, csv_text(rows_of(groups, width)))
    write_page(args.write, section, tables, level=3)


def _chosen(
    names: Sequence[str], networks: Sequence[str], defaults: dict[str, Any]
) -> "Callable[[Measured], bool] | None":
    """Whether a run is of one of ``names``, networks or recipes. UsageError for a name that is neither."""
    from ..reports.run_comparison import Experiment, settings_of

    settings = []
    for name in set(names) - set(networks):
        try:
            plain = to_plain(recipes.settings(name))
        except UsageError:
            raise UsageError(f"--networks: expected a recipe, or one of {', '.join(networks)}, got {name!r}") from None
        chosen = Experiment(plain["network"], plain["seed"], settings_of(plain, defaults))
        settings.append((chosen.network, chosen.decisive))

    def among(run: "Measured") -> bool:
        return run.network in names or (run.network, run.decisive) in settings

    return among if names else None


def _measure(folders: Sequence[Path], args: Distance, defaults: dict[str, Any]) -> "list[Measured]":
    """Measure the networks of the runs' last epochs."""
    from ..analysis.by_distance import Measured, answers_on_scenes
    from ..profiling import machine
    from ..reports.run_comparison import settings_of
    from ..training.device import choose_device

    device = choose_device(args.device)
    networks: list[TrainedNetwork] = []
    configs: list[TrainConfig] = []
    for folder in folders:
        network = open_network(folder / "last.pt")
        assert network.config is not None  # of a checkpoint
        if (data := network.config.data) != "scenes":
            raise UsageError(f"{folder}: trained on {data}; only of drawn scenes it is known where evidence is")
        network.model.to(device)
        networks.append(network)
        configs.append(network.config)
    lengths = [args.scenes or config.scenes_for_validation for config in configs]
    answers = answers_on_scenes(networks, lengths, device, progress=not args.quiet)
    return [
        Measured(
            network=config.network,
            seed=config.seed,
            settings=settings_of(to_plain(config), defaults),
            scenes=length,
            answers=found,
            noted_by=machine.provenance(),
        )
        for config, length, found in zip(configs, lengths, answers, strict=True)
    ]
