"""From settings to the data set that they name: its classes, layout, transform and reader."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from ..errors import UsageError
from .class_table import ClassTable, DataError, read_classes
from .config import DataConfig
from .data_folder import SIGNS
from .datasets import SegmentationFolder
from .image_cache import ImageCache
from .image_reader import ImageReader
from .layouts.base import Layout
from .layouts.camvid import CAMVID, CAMVID_FILMS, CamVidLayout
from .layouts.cityscapes import CITYSCAPES, CityscapesLayout
from .layouts.folder import FolderLayout
from .layouts.sunrgbd import SUNRGBD, SunRgbdLayout
from .scenes.dataset import SCENE_CLASSES, RoadScenes
from .transforms import EvalTransform

_CLASSES = {"scenes": SCENE_CLASSES, "camvid": CAMVID, "cityscapes": CITYSCAPES, "sunrgbd": SUNRGBD}
_LAYOUTS = {"camvid": CamVidLayout(), "cityscapes": CityscapesLayout(), "sunrgbd": SunRgbdLayout()}


def detect(root: Path) -> str:
    """Guess the value of --data from the folders in `root`; "folder" if no known data set has such folders."""
    for name, signs in SIGNS.items():
        if any((root / sign).is_dir() for sign in signs):
            return name
    return "camvid" if not (root / "classes.csv").exists() and _is_sorted_camvid(root) else "folder"


def _is_sorted_camvid(root: Path) -> bool:
    """Whether images/SPLIT holds CamVid. Only the names of its images, which begin with one of four films, show it."""
    names = [path.name for path in (root / "images").glob("*/*") if not path.name.startswith(".")]
    return bool(names) and all(name.startswith(CAMVID_FILMS) for name in names)


def classes_of(config: DataConfig) -> ClassTable:
    """Class table of the data set. Raises UsageError if a folder has none, DataError for a missing or faulty file."""
    if config.classes is not None:
        return read_classes(config.classes)
    if config.data != "folder":
        return _CLASSES[config.data]
    path = Path(config.root or ".") / "classes.csv"
    if not path.parent.is_dir():
        raise DataError(f"{path.parent}: no such folder")
    if not path.exists():
        raise UsageError(
            f"--classes: {config.root} holds no classes.csv; give --classes FILE (boxconv check-data {config.root} "
            "--write-classes FILE drafts one), or --data camvid, cityscapes or sunrgbd"
        )
    return read_classes(path)


def layout_of(config: DataConfig) -> Layout:
    """Layout of the files of a data set. Drawn scenes have none (KeyError)."""
    return FolderLayout(config.palette, config.val_share) if config.data == "folder" else _LAYOUTS[config.data]


def prepare_of(config: DataConfig) -> EvalTransform:
    """The transform for evaluation and prediction."""
    return EvalTransform(config.size, config.mean, config.std)


def reader_of(config: DataConfig) -> ImageReader:
    """The reader of the image files."""
    return ImageReader(config.in_channels, config.white)


def open_split(
    config: DataConfig,
    split: str,
    classes: ClassTable,
    transform: Callable[..., Any] | None,
    *,
    seed: int | None = None,
) -> Dataset[Any]:
    """Open a split of the data set. Raises DataError if its files cannot be used.

    seed: that of a training, for its samples; None for evaluation. For drawn scenes ``split`` is ignored: with a seed
    every epoch has new scenes, without one they are always the same.
    """
    if config.data == "scenes":
        if seed is None:
            return RoadScenes(config.scenes_for_validation, config.size, split="val", transform=transform)
        return RoadScenes(config.scenes_per_epoch, config.size, seed=seed, transform=transform)
    assert config.root is not None  # DataConfig.check
    return SegmentationFolder(
        config.root,
        split,
        classes,
        layout=layout_of(config),
        reader=reader_of(config),
        transform=transform,
        seed=seed or 0,
        border=config.border,
        cache=None if config.cache is None else ImageCache(config.cache, config.size),
    )
