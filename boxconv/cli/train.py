"""`boxconv train`."""

import dataclasses
import signal
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..errors import UsageError
from ..inference.load import file_of
from ..inference.start_from import start_from, take_weights
from ..training.config import MOVABLE, TrainConfig
from . import recipes

if TYPE_CHECKING:
    from ..training.distributed import DistributedContext


@dataclass(frozen=True)
class Train(TrainConfig):
    """Train a network. With --out alone, it trains on drawn road scenes."""

    recipe: str | None = None
    """Name of an experiment's settings, or a JSON file of settings; other options override them. `--recipe help` lists
    the names. Settings that a recipe does not name are the paper's. Without a recipe, the defaults are those that
    trained best (docs/results.md): --lr 2e-3 --box-lr 4 --box-weight-decay 0, and in the ENet family --box-dropout
    0.01 0.1 0 0, the dropout of the blocks that box blocks replace."""
    root: Annotated[Path | None, tyro.conf.arg(aliases=["--data-root"])] = None
    """Folder of the data set; for --data folder it holds images/SPLIT/* and labels/SPLIT/*.png."""
    out: Path = Path("runs/default")
    """Folder of the run: settings, metrics, checkpoints."""
    resume: bool = False
    """Continue the run in --out, with its settings."""
    overwrite: bool = False
    """Delete the run in --out, with its report in analysis/, and start again."""
    check_files: bool = True
    """Decode every image and label before training starts."""
    quiet: bool = False


BOX_DROPOUT = (0.01, 0.1, 0.0, 0.0)


def defaults(recipe: str | None) -> Train:
    """The settings that a command line need not name. UsageError for a recipe that is none."""
    if recipe is None:
        return Train(lr=2e-3, box_lr=4.0, box_weight_decay=0.0)
    config = recipes.settings(recipe)
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(TrainConfig)}
    return Train(**values, recipe=recipe, out=Path("runs", Path(recipe).stem))


def run(args: Train) -> None:
    from ..training.distributed import init_distributed

    if not args.resume:  # a run that goes on has been checked, and need not be described again
        args.check()
    with init_distributed(args.timeout) as context, ExitStack() as stack:
        # While it trains, the first ctrl-C only sets a flag (`interrupt`). The second has this effect, to end the
        # process at once: KeyboardInterrupt, Python's own, would wait for the end of a backward pass.
        if threading.current_thread() is threading.main_thread():
            stack.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.SIG_DFL))
        _train(args, context, stack)


def _train(args: Train, context: "DistributedContext", stack: ExitStack) -> None:
    import torch

    from box_convolution import networks
    from box_convolution.deploy import snap_boxes

    from ..data.sources import classes_of, open_split, prepare_of
    from ..profiling import machine
    from ..training import checkpoint, engine
    from ..training.loading import augment_of
    from ..training.metrics import class_weights, count_pixels
    from ..training.records import percent
    from ..training.run_folder import RunFolder

    folder: RunFolder | None = None

    def open_folder() -> None:
        nonlocal folder
        folder = stack.enter_context(RunFolder(args.out, resume=how == "resume", overwrite=how == "overwrite"))
        context.claim(str(args.out.absolute()))

    config = _settings(args)
    how = context.run_on_main("how to open the folder", lambda: _how(args, context))
    resume = None
    if how == "resume":
        context.run_on_main("folder", open_folder)
        resume = checkpoint.load(args.out / "last.pt")
        config = _resumed(config, checkpoint.settings(resume, args.out / "last.pt"), _settings(defaults(args.recipe)))
    config.check()
    if config.network not in networks.names():
        raise UsageError(f"--network: expected one of {', '.join(networks.names())}, got {config.network!r}")
    trained = None
    if resume is None and config.warmup >= config.epochs:
        raise UsageError(f"--warmup: expected less than --epochs {config.epochs}, got {config.warmup}")
    if config.start_from is not None and resume is None:
        if how == "overwrite" and file_of(config.start_from).resolve().is_relative_to(args.out.resolve()):
            raise UsageError(f"--overwrite: would delete {config.start_from}, which --start-from reads")
        config, trained = start_from(config, quiet=args.quiet or not context.is_main)
    options = _options(config)
    if config.batch_size < config.accumulate * context.world_size:
        parts = f"{context.world_size} processes with {config.accumulate} parts each"
        raise UsageError(f"--batch-size: {config.batch_size} images are too few for {parts}")
    device = engine.choose_device(config.device, context.local_rank)
    classes = classes_of(config)
    train_data = open_split(config, config.train_split, classes, augment_of(config), training=True, seed=config.seed)
    val_data = open_split(config, config.val_split, classes, prepare_of(config))
    if config.root is not None and args.check_files:
        splits = [config.train_split, config.val_split]
        context.run_on_main("check", lambda: _require_sound(config, classes, splits, progress=not args.quiet))
    pixels = count_pixels(train_data, max_samples=None if config.root else 50)  # type: ignore[arg-type]

    network = {
        "name": config.network,
        "num_classes": len(classes),
        "input_size": list(config.size),
        "options": options,
    }
    torch.manual_seed(config.seed)
    model = networks.create(config.network, len(classes), input_size=config.size, **options)
    if trained is not None:
        take_weights(trained, model, config, classes, quiet=not context.is_main)
    if config.snap:
        snap_boxes(model)
    if how != "resume":
        context.run_on_main("folder", open_folder)
    if not args.quiet and context.is_main:
        parameters = sum(p.numel() for p in model.parameters())
        processes = f"{context.world_size} processes, each on " if context.world_size > 1 else ""
        print(
            f"{config.network}, {parameters:,} parameters, {len(classes)} classes; {len(train_data)} training and "  # type: ignore[arg-type]
            f"{len(val_data)} validation images at {config.size[0]} x {config.size[1]}; "  # type: ignore[arg-type]
            f"{processes}{device.type}, {torch.get_num_threads()} "
            f"threads; writing to {args.out}"
        )
    records = engine.train(
        model,
        train_data,
        val_data,
        classes,
        config,
        folder,
        class_weight=class_weights(pixels, config.class_balance),
        network=network,
        made_by=machine.made_by(),
        resume=resume,
        progress=not args.quiet,
        context=context,
    )
    if context.is_main:
        best = max(record["val_class_iou"] for record in records if "val_class_iou" in record)
        print(f"best validation class IoU {percent(best)}; weights in {args.out / 'best.pt'}")


def _options(config: TrainConfig) -> dict[str, Any]:
    """The network's options that differ from its own. UsageError where it does not take them."""
    import torch

    from box_convolution import networks

    given = {
        "symmetric": config.symmetric,
        "initial_boxes": config.initial_boxes if config.initial_boxes != "uniform" else None,
        "dropout": list(config.dropout),
        "box_dropout": list(config.box_dropout),
    }
    options: dict[str, Any] = {name: value for name, value in given.items() if value}
    try:
        with torch.device("meta"):
            networks.create(config.network, 1, config.size, **options)
    except ValueError as error:  # such as "box_dropout must be 4 probabilities"
        option, _, rest = str(error).partition(" ")
        raise UsageError(f"--{option.replace('_', '-')}: {config.network}: {rest}") from error
    return options


def _how(args: Train, context: "DistributedContext") -> str:
    """Whether the run folder is opened as new, to resume, or to overwrite."""
    if context.claimed_before(str(args.out.absolute())):  # torchrun has restarted us: go on, whatever the options say
        return "resume" if (args.out / "last.pt").exists() else "overwrite"
    if args.resume and args.overwrite:
        raise UsageError("--resume and --overwrite contradict each other: give one of them")
    return "resume" if args.resume else "overwrite" if args.overwrite else "new"


def _settings(args: Train) -> TrainConfig:
    """The run's settings without the command's own switches."""
    from box_convolution.networks.enet import TABLES

    config = TrainConfig(**{f.name: getattr(args, f.name) for f in dataclasses.fields(TrainConfig)})
    table = TABLES.get(config.network)
    boxes = table is not None and "X" in f"{table.s1} {table.s2} {table.s3} {table.s4}"
    if args.recipe is None and config.start_from is None and boxes and not config.box_dropout:
        config = dataclasses.replace(config, box_dropout=BOX_DROPOUT)
    return config


def _resumed(given: TrainConfig, saved: TrainConfig, default: TrainConfig) -> TrainConfig:
    """The saved settings; where images are and how they are loaded may differ, all else decides the result.

    What equals `default` was not asked for.
    """
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(TrainConfig):
        value = getattr(given, field.name)
        if value == getattr(default, field.name) or value == getattr(saved, field.name):
            continue
        if field.name not in MOVABLE:
            option = "--" + field.name.replace("_", "-")
            raise UsageError(f"{option}: --resume goes on with the run's {getattr(saved, field.name)!r}, got {value!r}")
        changes[field.name] = value
    return dataclasses.replace(saved, **changes)


def _require_sound(config: TrainConfig, classes: Any, splits: list[str], *, progress: bool) -> None:
    from ..data.checks.check import check
    from ..data.classes import DataError
    from ..data.sources import layout_of

    assert config.root is not None
    report = check(config.root, classes, splits, layout=layout_of(config), progress=progress)
    if not report.ok:
        raise DataError("the data has faults, nothing was trained\n" + report.text())
