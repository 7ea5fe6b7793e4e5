"""The command line: the only place that wires networks, data and training together.

Exit status: 0 done, 1 the run failed, 2 wrong usage, 130 / 143 stopped by a signal after saving.
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from .segmentation.config import DataConfig, TrainConfig, UsageError


@dataclass(frozen=True)
class Train(TrainConfig):
    """Train a network. Give --out, and nothing else, to see it work on drawn road scenes."""

    out: Path = Path("runs/default")
    """Folder of the run: settings, metrics, checkpoints."""
    resume: bool = False
    """Go on with the run in --out, with the settings it was started with."""
    overwrite: bool = False
    """Delete the run in --out and start afresh."""
    check_files: bool = True
    """Decode every image and label before training starts."""
    quiet: bool = False


@dataclass(frozen=True)
class Evaluate:
    """Score a checkpoint on a data set."""

    checkpoint: tyro.conf.Positional[Path]
    root: Path | None = None
    """Folder with images/ and labels/; the one it was trained on if left out."""
    split: str | None = None
    """Name of the split; the validation split of the training run if left out."""
    full_resolution: bool = False
    """Compare with the labels at the size they have in their files, not at the network's."""
    batch_size: int = 8
    device: str = "auto"
    json: Path | None = None
    """Also write the scores and the confusion matrix here."""
    quiet: bool = False


@dataclass(frozen=True)
class Predict:
    """Write label maps (NAME.png, class indices) and colour pictures (NAME_colour.png) for images."""

    checkpoint: tyro.conf.Positional[Path]
    inputs: tyro.conf.Positional[tuple[Path, ...]]
    """Images, or folders of images."""
    out: Path
    """Folder for the results."""
    overwrite: bool = False
    device: str = "auto"
    quiet: bool = False


@dataclass(frozen=True)
class CheckData:
    """Look for everything in a data set that training would stumble over. Changes nothing."""

    root: tyro.conf.Positional[Path]
    """Folder with images/SPLIT/* and labels/SPLIT/*.png."""
    classes: str | None = None
    """CSV file of the classes, or `camvid`; ROOT/classes.csv if left out."""
    quiet: bool = False


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[CheckData, tyro.conf.subcommand("check-data")]
)


def train(args: Train) -> None:
    import torch

    from . import networks
    from .segmentation import checkpoint, engine
    from .segmentation.metrics import class_weights, count_pixels
    from .segmentation.run_folder import RunFolder
    from .segmentation.sources import classes_of, open_split
    from .segmentation.transforms import Augment, Prepare

    args.check()
    config = _settings(args)
    resume = None
    if args.resume:
        RunFolder(args.out, resume=True)
        resume = checkpoint.load(args.out / "last.pt")
        config = _resumed(config, checkpoint.settings(resume, args.out / "last.pt"))
    if config.network not in networks.names():
        raise UsageError(f"--network: expected one of {', '.join(networks.names())}, got {config.network!r}")
    engine.choose_device(config.device)
    classes = classes_of(config)
    augment = Augment(
        config.crop or config.size,
        whole=config.size,
        flip=config.flip,
        scale=config.scale,
        brightness=config.brightness,
        contrast=config.brightness,
    )
    train_data = open_split(config, config.train_split, classes, augment, training=True, seed=config.seed)
    val_data = open_split(config, config.val_split, classes, Prepare(config.size))
    if config.root is not None and args.check_files:
        _require_sound(config.root, classes, [config.train_split, config.val_split], progress=not args.quiet)
    pixels = count_pixels(train_data, max_samples=None if config.root else 50)  # type: ignore[arg-type]

    network = {
        "name": config.network,
        "num_classes": len(classes),
        "input_size": list(config.size),
        "options": {},
    }
    torch.manual_seed(config.seed)
    model = networks.create(config.network, len(classes), input_size=config.size)
    folder = RunFolder(args.out, resume=args.resume, overwrite=args.overwrite)
    if not args.quiet:
        parameters = sum(p.numel() for p in model.parameters())
        print(
            f"{config.network}, {parameters:,} parameters, {len(classes)} classes; {len(train_data)} training and "  # type: ignore[arg-type]
            f"{len(val_data)} validation images at {config.size[0]} x {config.size[1]}; "  # type: ignore[arg-type]
            f"{engine.choose_device(config.device)}, {torch.get_num_threads()} threads; writing to {args.out}"
        )
    records = engine.train(
        model,
        train_data,
        val_data,
        classes,
        config,
        folder,
        class_weight=class_weights(pixels),
        network=network,
        resume=resume,
        progress=not args.quiet,
    )
    best = max(record["val_class_iou"] for record in records if "val_class_iou" in record)
    print(f"best validation class IoU {best:.4f}; weights in {folder.best}")


def evaluate(args: Evaluate) -> None:
    from .segmentation import checkpoint, engine
    from .segmentation.classes import ClassTable
    from .segmentation.evaluate import PrepareImageOnly, score_table
    from .segmentation.evaluate import evaluate as score
    from .segmentation.files import write_atomic
    from .segmentation.sources import open_split
    from .segmentation.transforms import Prepare

    if args.batch_size < 1:
        raise UsageError(f"--batch-size: expected at least 1, got {args.batch_size}")
    device = engine.choose_device(args.device)
    content = checkpoint.load(args.checkpoint)
    config = checkpoint.settings(content, args.checkpoint)
    if args.root is not None:
        config = dataclasses.replace(config, root=args.root)
    DataConfig.check(config)
    classes = ClassTable.from_dict(content["classes"])
    model = _network(content, args.checkpoint).to(device)
    prepare = Prepare(config.size)
    split = args.split or config.val_split
    data = open_split(config, split, classes, PrepareImageOnly(prepare) if args.full_resolution else prepare)
    matrix = score(
        model,
        data,
        classes,
        device=device,
        batch_size=1 if args.full_resolution else args.batch_size,
        progress=not args.quiet,
    )
    scores = matrix.scores(classes)
    where = "the labels' own resolution" if args.full_resolution else f"{config.size[0]} x {config.size[1]}"
    print(f"{args.checkpoint} on {config.root or 'drawn scenes'}, {split}: {len(data)} images, scored at {where}")  # type: ignore[arg-type]
    print(score_table(scores))
    if args.json is not None:
        text = json.dumps({"scores": scores, **matrix.state(), "classes": list(classes.names)}, indent=2) + "\n"
        write_atomic(args.json, lambda file: file.write(text.encode()))


def predict(args: Predict) -> None:
    from .segmentation import checkpoint, engine
    from .segmentation.classes import ClassTable
    from .segmentation.predict import plan
    from .segmentation.predict import predict as run
    from .segmentation.transforms import Prepare

    device = engine.choose_device(args.device)
    content = checkpoint.load(args.checkpoint)
    config = checkpoint.settings(content, args.checkpoint)
    jobs = plan(args.inputs, args.out, overwrite=args.overwrite)
    model = _network(content, args.checkpoint)
    classes = ClassTable.from_dict(content["classes"])
    done = sum(1 for _ in run(model, jobs, classes, Prepare(config.size), device=device, progress=not args.quiet))
    print(f"{done} image{'' if done == 1 else 's'} labelled in {args.out}")


def check_data(args: CheckData) -> int:
    from .segmentation.check_data import check
    from .segmentation.classes import CAMVID, read_classes

    if args.classes == "camvid":
        classes = CAMVID
    else:
        classes = read_classes(args.classes or args.root / "classes.csv")
    report = check(args.root, classes, progress=not args.quiet)
    print(report.text())
    return 0 if report.ok else 1


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status. Errors of the user's making are one message, never a traceback."""
    args: Any = tyro.cli(
        Command,
        prog="boxconv",
        description="Train, evaluate and use segmentation networks with box convolutions.",
        args=argv,
    )
    from .segmentation.checkpoint import CheckpointError
    from .segmentation.classes import DataError
    from .segmentation.engine import Interrupted, TrainingError
    from .segmentation.run_folder import RunFolderError

    commands = {Train: train, Evaluate: evaluate, Predict: predict, CheckData: check_data}
    try:
        return commands[type(args)](args) or 0  # type: ignore[operator]
    except (UsageError, RunFolderError) as error:
        return _fail(error, 2)
    except (DataError, CheckpointError, TrainingError) as error:
        return _fail(error, 1)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror or error}" if error.filename else error, 1)
    except Interrupted as stop:
        print(f"boxconv: stopped by {stop}; the state is saved, go on with --resume", file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        print("boxconv: stopped", file=sys.stderr)
        return 130


def _fail(message: object, status: int) -> int:
    print(f"boxconv: error: {message}", file=sys.stderr)
    return status


def _settings(args: Train) -> TrainConfig:
    """The run's settings without the command's own switches."""
    return TrainConfig(**{f.name: getattr(args, f.name) for f in dataclasses.fields(TrainConfig)})


def _resumed(given: TrainConfig, saved: TrainConfig) -> TrainConfig:
    """The saved settings; where images are and how they are loaded may differ, all else decides the result."""
    movable = ("root", "classes", "device", "workers")
    default = TrainConfig()
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(TrainConfig):
        value = getattr(given, field.name)
        if value == getattr(default, field.name) or value == getattr(saved, field.name):
            continue
        if field.name not in movable:
            option = "--" + field.name.replace("_", "-")
            raise UsageError(f"{option}: --resume goes on with the run's {getattr(saved, field.name)!r}, got {value!r}")
        changes[field.name] = value
    return dataclasses.replace(saved, **changes)


def _require_sound(root: Path, classes: Any, splits: list[str], *, progress: bool) -> None:
    from .segmentation.check_data import check
    from .segmentation.classes import DataError

    report = check(root, classes, splits, progress=progress)
    if not report.ok:
        raise DataError("the data has faults, nothing was trained\n" + report.text())


def _network(content: dict[str, Any], path: Path) -> Any:
    """The network of a checkpoint, with its weights."""
    from . import networks
    from .segmentation.checkpoint import CheckpointError, load_weights

    network = content["network"]
    try:
        model = networks.create(
            network["name"], network["num_classes"], tuple(network["input_size"]), **network["options"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(path, f"describes a network that cannot be made: {error}") from error
    load_weights(model, content, path)
    return model
