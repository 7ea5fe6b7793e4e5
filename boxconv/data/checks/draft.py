"""Draft a class table from the values, colours or names in labels, for the user to name and correct."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..class_table import VOID, ClassTable, DataError, distinct_colours
from ..label_encoding import Colour
from ..label_files import label_pixels
from ..layouts.base import Layout
from ..layouts.folder import FOLDER
from ..layouts.pairing import split_files, splits_of
from ..polygons import IGNORED, names_of


def draft_classes(root: str | Path, layout: Layout = FOLDER) -> ClassTable:
    """One class for each value, or each colour, or each name of a polygon, in the labels of all splits of `root`.

    Values of files with a colour table get its colours, if these tell the classes apart. As in most data sets, value
    255 is void if there are at least two others. Raises DataError for labels of several sorts, for more than 255
    classes, and for labels that cannot be read.
    """
    values: dict[int, Colour | None] = {}
    colours: dict[Colour, None] = {}
    names: dict[str, None] = {}
    for path in labels_of(root, layout):
        if path.suffix.lower() == ".json":
            names |= dict.fromkeys(name for name in names_of(path) if name.lower() not in IGNORED)
        elif (pixels := label_pixels(path)).ndim == 2:
            present, first = np.unique(pixels, return_index=True)
            if not set(present.tolist()) <= values.keys():
                table = label_pixels(path, coloured=True)  # (h, w) if it is grey, or if there is none
                drawn = map(tuple, table.reshape(-1, 3)[first].tolist()) if table.ndim == 3 else [None] * len(first)
                values = dict(zip(present.tolist(), drawn, strict=True)) | values
        else:
            colours |= dict.fromkeys(tuple(colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0).tolist())
        if max(len(values), len(colours), len(names)) > VOID:
            raise DataError(f"{path}: more than {VOID} classes so far: are these photographs, or instances?")
    if colours and values:  # in a data set with colours, a label of only grey pixels was read as values
        colours = dict.fromkeys([*((value, value, value) for value in sorted(values)), *colours])
        values = {}
    if bool(values) + bool(colours) + bool(names) != 1:
        empty = f"no labels in {root}/labels{layout.instead(Path(root))}"
        found = "labels in pixels and in polygons" if names else empty
        raise DataError(f"{root}: expected labels of one sort to draft a class table from, found {found}")
    if names:
        return ClassTable(tuple(names), distinct_colours(len(names)))
    if colours:
        return ClassTable(tuple(f"colour_{i}" for i in range(len(colours))), tuple(colours))
    void = {VOID} if VOID in values and len(values) > 2 else set()
    classes = tuple(sorted(values.keys() - void))
    named = tuple(f"class_{value}" for value in classes)
    tables = tuple(colour for value in classes if (colour := values[value]) is not None)
    told_apart = tables if len(set(tables)) == len(classes) else distinct_colours(len(classes))
    return ClassTable(named, told_apart, void=frozenset(void), values=classes)


def labels_of(root: str | Path, layout: Layout) -> Iterable[Path]:
    """The label files of all splits."""
    return (path for split in splits_of(root, layout) for _, path in split_files(root, split, layout).labels)
