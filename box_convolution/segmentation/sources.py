"""Which data set a name means."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from .classes import CAMVID, ClassTable, read_classes
from .config import DataConfig
from .datasets import SegmentationFolder
from .scenes import SCENE_CLASSES, RoadScenes


def classes_of(config: DataConfig) -> ClassTable:
    """Class table of a data set. Raises DataError for a missing or faulty file."""
    if config.classes is not None:
        return read_classes(config.classes)
    if config.data == "folder":
        return read_classes(Path(config.root or ".") / "classes.csv")
    return CAMVID if config.data == "camvid" else SCENE_CLASSES


def open_split(
    config: DataConfig,
    split: str,
    classes: ClassTable,
    transform: Callable[..., Any] | None,
    *,
    training: bool = False,
    seed: int = 0,
) -> Dataset[Any]:
    """One split. Drawn scenes are new in every epoch where ``training``, else the same for ever."""
    if config.data == "scenes":
        length = config.scenes_per_epoch if training else config.scenes_for_validation
        return RoadScenes(length, config.size, seed=seed, split="train" if training else "val", transform=transform)
    assert config.root is not None  # DataConfig.check
    return SegmentationFolder(config.root, split, classes, transform=transform, seed=seed)
