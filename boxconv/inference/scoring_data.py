"""Scoring a trained network: the data, their class table, and the scores."""

import dataclasses
from pathlib import Path
from typing import Any

from ..data.config import Data, DataConfig
from ..errors import UsageError
from ..training.config import TrainConfig
from .open import KEPT, TrainedNetwork


def data_of(opened: TrainedNetwork, name: Path, data: Data | None = None, root: Path | None = None) -> TrainConfig:
    """Settings of the data to score a network on: by default those of its training, with their validation split.

    ``name`` is that of the network in messages; ``data`` and ``root`` choose other data. Raises UsageError if the
    training data are not known, or if the data have other classes than the network.
    """
    about = opened.about
    same = data is None or data == about.get("data")
    kind = about.get("data") if data is None else data
    if kind is None:
        raise UsageError(
            f"{name} does not say what it was trained on: export it again from its checkpoint, or give boxconv "
            "evaluate --data and --root"
        )
    if opened.config is not None and same:
        config = dataclasses.replace(opened.config, root=root or opened.config.root, cache=None)
    else:
        kept: dict[str, Any] = {name: about[name] for name in KEPT if name in about} if same else {"data": kind}
        reader = opened.reader
        seen = vars(opened.transform) | {"in_channels": reader.channels, "white": reader.white}
        config = TrainConfig(**kept | seen | {"root": root})
    DataConfig.check(config)
    trained_on = None if opened.config is None or opened.config.root is None else opened.config.root.resolve()
    moved = root is not None and root.resolve() != trained_on
    if root is not None and moved and data is None and kind != "folder" and (own := _own_table(root, opened)):
        raise UsageError(
            f"--root: {own} is for --data folder, but --data is {kind} (default: that of the training of {name}); "
            f"boxconv evaluate --data folder reads it, --data {kind} ignores it"
        )
    theirs, ours = classes_of_labels(opened, config).names, opened.classes.names
    if theirs != ours:
        where = f"{kind}, {_table_of(config)}" if kind == "folder" else kind
        raise UsageError(f"--data: {where} has the classes {', '.join(theirs)}; {name} tells apart {', '.join(ours)}")
    return config


def _own_table(root: Path, opened: TrainedNetwork) -> Path | None:
    """A table that says that a folder is not the network's data set: other classes, or colours."""
    from ..data.class_table import DataError, read_classes

    classes, palette = root / "classes.csv", root / "palette.csv"
    try:
        if classes.is_file() and read_classes(classes).names != opened.classes.names:
            return classes
    except DataError:  # a file of another kind
        pass
    return palette if palette.is_file() else None


def classes_of_labels(opened: TrainedNetwork, config: TrainConfig) -> Any:
    """The class table for reading labels: that of the data set, or the network's if the data set has none."""
    from ..data.registry import classes_of

    own = _table_of(config).is_file() or (config.data != "folder" and config.classes is None)
    return classes_of(config) if own else opened.classes


def _table_of(config: TrainConfig) -> Path:
    return config.classes or (config.root or Path()) / "classes.csv"


def validation_scores(model: Any, classes: Any, config: TrainConfig) -> dict[str, Any]:
    """Scores of ``model`` on the validation split of the settings ``config``; ``classes`` is its class table."""
    from ..data.registry import open_split, prepare_of
    from ..training.device import choose_device
    from ..training.evaluation import evaluate

    data = open_split(config, config.val_split, classes, prepare_of(config))
    matrix = evaluate(model.to(choose_device(config.device)), data, classes, batch_size=config.batch_size)
    return matrix.scores(classes)
