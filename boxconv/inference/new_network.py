"""The network for a training run: with fresh weights, or with those of a trained network."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.config import expect, option
from ..errors import UsageError, plural
from ..training.config import TrainConfig, to_plain
from .open import TrainedNetwork, file_of, open_layers

if TYPE_CHECKING:
    from ..data.class_table import ClassTable
    from ..training.setup import CreateNetwork

OPTIONS = ("in_channels", "symmetric", "initial_boxes", "dilations", "dropout", "box_dropout")
"""Settings that are passed to `networks.create` as options of the same name."""
INHERITED = ("size", "mean", "std", "dropout", "box_dropout")
"""Settings that a run takes over from the trained network that it starts from, unless it sets them itself."""


def network_for(
    config: TrainConfig, *, resume: bool = False, quiet: bool = False
) -> "tuple[TrainConfig, CreateNetwork]":
    """Return a run's settings, with those `INHERITED` from trained weights, and a function that creates its network.

    resume: do not read the weights that the run started from, because its checkpoint has newer ones.
    quiet: print nothing about what is taken over from the trained network.

    Raises UsageError for settings that describe no network, or a trained network of another kind; and what
    `open_network` raises.
    """
    from box_convolution import networks

    config.check()
    known = networks.names()
    expect("network", config.network in known, f"one of {', '.join(known)}", repr(config.network))
    trained = None
    if config.start_from is not None and not resume:
        trained = open_layers(config.start_from)
        config = _inheriting(config, trained, quiet=quiet)
    options = _options(config)

    def create(classes: "ClassTable") -> tuple[Any, dict[str, Any]]:
        from box_convolution.deploy import snap_boxes

        model = networks.create(config.network, len(classes), config.size, **options)
        if trained is not None:
            _take_weights(trained, model, config, classes, quiet=quiet)
        if config.snap:
            snap_boxes(model)
        size = list(config.size)
        return model, {
            "name": config.network, "num_classes": len(classes), "input_size": size, "options": options
        }  # fmt: skip

    return config, create


def _options(config: TrainConfig) -> dict[str, Any]:
    """The settings in `OPTIONS` that are not at their defaults. Raises UsageError if the network does not take them."""
    import torch

    from box_convolution import networks

    default = to_plain(TrainConfig())
    options = {name: value for name, value in to_plain(config).items() if name in OPTIONS and value != default[name]}
    try:
        with torch.device("meta"):
            networks.create(config.network, 1, config.size, **options)
    except (TypeError, ValueError) as error:  # such as "box_dropout must be 4 probabilities"
        name, _, rest = str(error).partition(" ")
        raise UsageError(f"{option(name)}: {config.network}: {rest}") from error
    return options


def _inheriting(config: TrainConfig, trained: TrainedNetwork, *, quiet: bool) -> TrainConfig:
    name, kind = config.start_from, trained.network["name"]
    if kind.removesuffix("_frozen") != config.network.removesuffix("_frozen"):
        raise UsageError(f"--start-from: {name} is a {kind}, which does not fit --network {config.network}")
    theirs = {**trained.network["options"], "size": trained.transform.size}
    if len(trained.transform.mean) == config.in_channels:
        theirs |= vars(trained.transform)
    # A setting that was given is another object than the default, even if it is equal.
    taken: dict[str, Any] = {
        setting: tuple(theirs[setting])
        for setting in INHERITED
        if theirs.get(setting) is not None
        and getattr(config, setting) is getattr(TrainConfig, setting) != tuple(theirs[setting])
    }
    if taken and not quiet:
        print(f"from {name}: " + ", ".join(f"{option(key)} {' '.join(map(str, taken[key]))}" for key in taken))
    if "licence" in trained.about and not quiet:
        print(f"licence of {name}: {trained.about['licence']}")
    return dataclasses.replace(config, **taken)


def _take_weights(
    trained: TrainedNetwork, model: Any, config: TrainConfig, classes: "ClassTable", *, quiet: bool
) -> None:
    """Copy the weights of a trained network into ``model``; the last layer stays fresh if the classes differ."""
    from box_convolution.networks.transfer import transfer

    same = trained.classes.names == classes.names
    transfer(trained.model, model, head=same)
    channels = trained.model.in_channels
    if channels != model.in_channels and not quiet:
        print(f"{config.start_from} is for images of {plural(channels, 'channel')}: the first block starts afresh")
    if not (same or quiet):
        theirs = ", ".join(trained.classes.names)
        print(f"{config.start_from} tells other classes apart ({theirs}): the last layer starts afresh")


def finetuning(opened: TrainedNetwork, name: Path, **changes: Any) -> TrainConfig:
    """Settings of a new run that starts from a checkpoint's weights: those of the old run, with ``changes``.

    Raises UsageError for a network without settings, or for data with other classes.
    """
    from ..data.registry import classes_of

    if opened.config is None:
        raise UsageError(
            f"{name}: expected a checkpoint, with the settings of its run; from other weights, train: boxconv train "
            f"--start-from {name} --network NAME --data ..."
        )
    tables = {table: getattr(opened.config, table) for table in ("classes", "palette")}
    if "root" in changes:  # the files of classes and palette may have been in the old root
        changes |= {table: path if path and path.exists() else None for table, path in tables.items()}
    start = file_of(name).resolve()
    config = dataclasses.replace(opened.config, warmup=0.0, start_from=start, **changes)
    config.check()
    if (found := classes_of(config).names) != opened.classes.names:
        raise UsageError(
            f"--root: {name} tells apart {', '.join(opened.classes.names)}; {config.root} has the classes "
            f"{', '.join(found)}: boxconv train --start-from gives the network a fresh last layer for them"
        )
    return config
