"""`boxconv analyze`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..data.config import at_least
from ..errors import UsageError
from ..inference.open import file_of, open_layers, require_layers
from ..inference.scoring_data import classes_of_labels, data_of
from .outputs import check_output_folder


@dataclass(frozen=True)
class Analyze:
    """Report what the boxes of a network learned and how far it sees, as HTML; all numbers as JSON and CSV."""

    run: tyro.conf.Positional[Path]
    """Folder of a run (its best.pt) or a checkpoint; or, with --root, a .safetensors file or a packaged network
    (boxenet-camvid, boxonlyenet-camvid)."""
    against: tuple[Path, ...] = ()
    """Other runs or checkpoints, whose receptive fields are drawn beside those of this network."""
    out: Path | None = None
    """Folder for the report; by default RUN/analysis, or NAME-analysis without a run."""
    overwrite: bool = False
    """Replace the report that is there already."""
    levels: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="[STR [STR ...]]")] = None
    """Modules whose receptive fields are measured, besides the output; by default the first box block."""
    images: int = 30
    """Validation images to look at."""
    positions: int = 20
    """Random positions in each image. The time grows with images x positions x channels; 0 skips receptive fields."""
    root: Path | None = None
    """Folder with images/ and labels/; by default that of the training."""
    split: str | None = None
    """Name of the split that the images come from; by default the validation split of the run."""
    gamma: bool = False
    """Importance as in the authors' script: also multiplied by the weights of the BatchNorms."""
    seed: int = 0
    """Seed of the positions."""
    device: str = "auto"
    quiet: bool = False


def run(args: Analyze) -> None:
    require_layers(args.run, *args.against)

    import torch

    from ..analysis.importance import importance
    from ..analysis.run_numbers import RunAnalysis, with_history
    from ..analysis.run_report import report_on
    from ..data.datasets import evenly_spaced
    from ..data.registry import open_split
    from ..training.device import choose_device
    from ..training.recorder import percent

    at_least("images", args.images, 1)
    at_least("positions", args.positions, 0)
    at_least("seed", args.seed, 0)
    device = choose_device(args.device)
    path = _checkpoint_in(args.run)
    opened = open_layers(path)
    out = args.out or (Path(f"{args.run.stem}-analysis") if opened.config is None else path.parent / "analysis")
    config = data_of(opened, args.run, root=args.root)
    check_output_folder("--out", out, overwrite=args.overwrite, root=config.root)
    name = _label(opened.network)
    opened.model.to(device)
    data: Any = open_split(config, args.split or config.val_split, classes_of_labels(opened, config), opened.transform)
    images = torch.stack([data[index][0] for index in evenly_spaced(len(data), args.images)]).to(device)
    layers = importance(opened.model, images[:1], gamma=args.gamma)
    fields = _fields(args, {name: opened.model}, layers, images) if args.positions else {}
    lines = _history(path) if opened.config and layers else []
    pixels = opened.transform.picture(images[len(images) // 2])
    analysis = RunAnalysis(name, layers, fields=fields, image=pixels, **with_history(lines, layers))
    scores = opened.about.get("scores", {})
    summary = {
        "network": name,
        "weights": str(path),
        "data": f"{config.root or 'drawn scenes'}, {config.size[0]} x {config.size[1]}",
        "class IoU": percent(scores["class_iou"]) if "class_iou" in scores else "not scored",
    }
    print(f"report: {report_on(analysis, out, summary)}")


def _fields(args: Analyze, networks: dict[str, Any], layers: Any, images: Any) -> dict[str, dict[str, Any]]:
    """Measure the receptive fields of the network and of --against. UsageError is raised before measuring starts."""
    from box_convolution.networks import names

    for other in args.against:
        theirs = open_layers(_checkpoint_in(other))
        label = _label(theirs.network)
        networks[label if label not in networks else f"{label} ({other})"] = theirs.model.to(images.device)
    # In the order of every other picture, so that a network has one colour.
    networks = dict(sorted(networks.items(), key=lambda item: names().index(item[0].partition(" (")[0])))
    levels = {"output": ""}
    for level in args.levels if args.levels is not None else [layer.name.rpartition(".")[0] for layer in layers[:1]]:
        if level:
            levels[level if args.levels is not None else f"{level}, the first box block"] = level
    for label, network in networks.items():
        missing = [level for level in levels.values() if level not in dict(network.named_modules())]
        if missing:
            raise UsageError(f"--levels: {label} has no module named {missing[0]!r}")
    return _measure(networks, levels, images, args)


def _history(path: Path) -> list[dict[str, Any]]:
    """The boxes that the run of a checkpoint recorded."""
    from ..training.box_history import read_history
    from ..training.checkpoint import CheckpointError

    history = path.parent / "boxes.jsonl"
    try:
        return read_history(history) if history.exists() else []
    except ValueError as error:
        raise CheckpointError(history, str(error)) from error


def _measure(networks: dict[str, Any], levels: dict[str, str], images: Any, args: Analyze) -> dict[str, dict[str, Any]]:
    """Receptive fields by level's title and network; every network sees the same images at the same positions."""
    from ..analysis.receptive_field import draw_positions, receptive_field
    from ..progress_bar import progress_bar

    units = len(networks) * len(levels) * len(images) * args.positions
    if not args.quiet:
        print(
            f"measuring receptive fields at {units} positions: about 0.2 s each on one core at 176 x 240 pixels; "
            "--positions 0 leaves them out",
            flush=True,
        )
    positions = draw_positions(len(images), args.positions, tuple(images.shape[2:]), args.seed)
    fields: dict[str, dict[str, Any]] = {}
    for title, level in levels.items():
        fields[title] = {}
        for name, model in networks.items():
            total = positions.shape[0] * positions.shape[1]
            with progress_bar(desc=f"{name}, {title}", unit="position", total=total, shown=not args.quiet) as bar:
                try:
                    fields[title][name] = receptive_field(model, images, positions, level=level, advance=bar.update)
                except ValueError as error:
                    raise UsageError(f"{name}: {error}") from error
    return fields


def _label(network: dict[str, Any]) -> str:
    """Return a network's name in figures: with the options that change what it computes."""
    options = [
        name if value is True else f"{name}={value}"
        for name, value in network["options"].items()
        if name not in ("dropout", "box_dropout", "initial_boxes")  # of training only
    ]
    return f"{network['name']} ({', '.join(options)})" if options else str(network["name"])


def _checkpoint_in(path: Path) -> Path:
    """The checkpoint of a run folder, or another file of a network."""
    for name in ("best.pt", "last.pt"):
        if (path / name).exists():
            return path / name
    if not path.is_dir() or file_of(path) != path:
        return path
    raise UsageError(f"{path}: no run, there is neither best.pt nor last.pt in it")
