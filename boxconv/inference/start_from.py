"""What a training run takes from the trained network that it starts from."""

import dataclasses
from typing import Any

from ..errors import UsageError
from ..training.config import TrainConfig
from .load import Opened, open_trained

INHERITED = ("mean", "std", "dropout", "box_dropout")
"""Settings that weights were made for: those of the trained network where the run leaves them at their defaults."""


def start_from(config: TrainConfig, *, quiet: bool) -> tuple[TrainConfig, Opened]:
    """The run's settings, with what is `INHERITED`, and the trained network. UsageError where it is of another kind."""
    name = config.start_from
    assert name is not None
    trained = open_trained(name)
    kind = trained.network["name"]
    if kind.removesuffix("_frozen") != config.network.removesuffix("_frozen"):
        raise UsageError(f"--start-from: {name} is a {kind}, which does not fit --network {config.network}")
    theirs = {"mean": trained.prepare.mean, "std": trained.prepare.std, **trained.network["options"]}
    default = TrainConfig()
    taken: dict[str, Any] = {
        option: tuple(theirs[option])
        for option in INHERITED
        if theirs.get(option) is not None
        and getattr(config, option) == getattr(default, option) != tuple(theirs[option])
    }
    if taken and not quiet:
        print(
            f"from {name}: "
            + ", ".join(f"--{key.replace('_', '-')} {' '.join(map(str, value))}" for key, value in taken.items())
        )
    if "licence" in trained.about and not quiet:
        print(f"licence of {name}: {trained.about['licence']}")
    return dataclasses.replace(config, **taken), trained


def take_weights(trained: Opened, model: Any, config: TrainConfig, classes: Any, *, quiet: bool) -> None:
    """The weights of a trained network for ``model``, with a fresh last layer for other classes."""
    from box_convolution.networks.transfer import transfer

    same = trained.classes.names == classes.names
    transfer(trained.model, model, head=same)
    channels = trained.model.in_channels
    if channels != model.in_channels and not quiet:
        print(f"{config.start_from} is for images of {channels} channels: the first block starts afresh")
    if not (same or quiet):
        theirs = ", ".join(trained.classes.names)
        print(f"{config.start_from} tells other classes apart ({theirs}): the last layer starts afresh")
