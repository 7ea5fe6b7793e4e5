"""The interface of a layout: it finds the files of a split, and faults in their names. It opens no file."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from ..class_table import ClassTable
from ..image_files import SUFFIXES, entries, images_in, shown
from ..label_encoding import LabelEncoding, index_encoding


class Pair(NamedTuple):
    image: Path
    label: Path


@dataclass(frozen=True)
class DataIssue:
    """A problem with one file. `message` is complete: it names the file, what was found and what was expected.

    `kind` is a short phrase under which reports group issues.
    """

    file: Path
    kind: str
    message: str


@dataclass
class SplitFiles:
    """The files of one split, before images and labels with the same key are paired.

    place: folder of the images, for messages.
    expected: path of a label for messages, with {} in place of the key.
    images, labels: pairs (key, path) in the order of the samples.
    faults: what is missing or misnamed.
    others: entries of the folders that are neither.
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
    """Layout of the files of a data set below its root."""

    description: ClassVar[str]
    """The expected folders and names, for messages."""
    published: ClassVar[dict[str, int]] = {}
    """Number of images in each split of the complete data set; empty if it is not known."""

    @abstractmethod
    def splits(self, root: Path) -> list[str]:
        """Names of the splits that exist, at least in part."""

    @abstractmethod
    def files(self, root: Path, split: str) -> SplitFiles:
        """The files of one split. Missing folders are reported as faults, not raised."""

    def missing_folders(self, root: Path, folders: list[Path]) -> DataIssue:
        """The fault for missing folders; its message says which splits, or `instead` of them what else, is there."""
        if not os.path.lexists(root):
            found = f"{shown(root)} does not exist"
        elif splits := self.splits(root):
            found = f"splits there: {', '.join(map(shown, splits))}"
        else:
            found = f"{shown(root)} has no splits{self.instead(root)}"
        return DataIssue(folders[0], "missing folder", f"{' and '.join(map(shown, folders))}: no such folder; {found}")

    def instead(self, root: Path) -> str:
        """What is in a folder without splits, to be added to a message: by default its folders."""
        folders = [path.name for path in entries(root) if path.is_dir()] if os.path.isdir(root) else []
        more = " ..." if len(folders) > 5 else ""
        return f"; its folders: {shown(', '.join(folders[:5]))}{more}" if folders else ""

    def encoding(self, root: Path, split: str, classes: ClassTable) -> LabelEncoding:
        """The meaning of the pixels in the split's labels; by default they have the values of the class table."""
        return index_encoding(classes)


def by_stem(folder: Path, suffixes: frozenset[str] = SUFFIXES) -> tuple[list[tuple[str, Path]], list[Path]]:
    """The images of a folder, with the stems of their names as keys, and the other entries of the folder."""
    images = images_in(folder, suffixes)
    return [(path.stem, path) for path in images], sorted(set(entries(folder)) - set(images))
