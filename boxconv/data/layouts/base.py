"""What a data set's layout is: which files a split has, and what is wrong with them. Only names are looked at."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from ..classes import ClassTable
from ..image_files import SUFFIXES, entries, images_in, shown
from ..label_encoding import LabelEncoding, index_encoding


class Pair(NamedTuple):
    image: Path
    label: Path


@dataclass(frozen=True)
class DataIssue:
    """One thing wrong with one file. `message` is complete: it names the file, what was found and what was expected."""

    file: Path
    kind: str
    message: str


@dataclass
class SplitFiles:
    """The files of one split, before they are paired by their keys.

    images, labels: (key, path), in the order of the samples. place: folder of the images, for messages.
    expected: the path of the label of a key, with {} for the key. others: entries that belong to no sample.
    needs_labels: whether an image without a label is a fault.
    """

    place: Path
    expected: str
    images: list[tuple[str, Path]] = field(default_factory=list)
    labels: list[tuple[str, Path]] = field(default_factory=list)
    faults: list[DataIssue] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    needs_labels: bool = True


class Layout(ABC):
    """How the files of a data set lie below its root."""

    description: ClassVar[str]
    """What is expected, for messages."""
    published: ClassVar[dict[str, int]] = {}
    """Images per split of the complete data set."""

    @abstractmethod
    def splits(self, root: Path) -> list[str]:
        """Names of the splits that are there, in part at least."""

    @abstractmethod
    def files(self, root: Path, split: str) -> SplitFiles:
        """The files of one split; what is missing is among their faults."""

    def encoding(self, root: Path, split: str, classes: ClassTable) -> LabelEncoding:
        """What the pixels of the split's labels mean."""
        return index_encoding(classes)


def missing_folders(root: Path, folders: list[Path], splits: list[str]) -> DataIssue:
    """The fault that says which folders are not there, and what is there instead."""
    if not os.path.lexists(root):
        found = f"{shown(root)} does not exist"
    else:
        found = f"splits there: {', '.join(map(shown, splits))}" if splits else f"{shown(root)} has no splits"
    return DataIssue(folders[0], "missing folder", f"{' and '.join(map(shown, folders))}: no such folder; {found}")


def by_stem(folder: Path, suffixes: frozenset[str] = SUFFIXES) -> tuple[list[tuple[str, Path]], list[Path]]:
    """The images of a folder with their stems as keys, and what else is in it."""
    images = images_in(folder, suffixes)
    return [(path.stem, path) for path in images], sorted(set(entries(folder)) - set(images))
