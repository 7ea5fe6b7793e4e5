"""From a label map to polygons: its connected regions and their borders, as GeoJSON in pixel coordinates.

Everything is computed from runs, which are the longest sequences of equal pixels in a row. So the memory depends on the
number of runs, not on the size of the map.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from ..data.class_table import ClassTable
from ..data.image_files import shown
from ..files import write_atomic
from .png import bands

Indices = npt.NDArray[np.int64]
Ring = list[tuple[int, int]]
"""Corners (column, row) of a closed line along pixel borders; the last corner is the first one again."""


class Region(NamedTuple):
    """Pixels of one class that are connected through their sides (4-connected).

    area: number of pixels. rings: the outline, then the holes.

    Pixel (row i, column j) covers rows i to i + 1 and columns j to j + 1. No ring touches itself, but rings of a region
    may touch at corners. By the shoelace formula, the outline has a positive area and holes have a negative one.
    """

    label: int
    area: int
    rings: list[Ring]


class _Runs(NamedTuple):
    """Row, first column, column after the last one, and label of every run, in the order of the pixels."""

    row: Indices
    start: Indices
    stop: Indices
    label: Indices


def regions(labels: npt.NDArray[Any], min_area: int = 1) -> Iterator[Region]:
    """The regions, of at least ``min_area`` pixels, of a label map (h, w), in the order of their first pixels."""
    runs = _runs(labels)
    _, first, region = np.unique(_components(runs, labels.shape[1]), return_index=True, return_inverse=True)
    area = np.bincount(region, runs.stop - runs.start).astype(np.int64)
    large = (area >= min_area)[region]
    outlines = _rings(_Runs(*(part[large] for part in runs)), region[large])
    for index in np.flatnonzero(area >= min_area).tolist():
        yield Region(int(runs.label[first[index]]), int(area[index]), outlines[index])


def write_geojson(path: Path, labels: npt.NDArray[Any], classes: ClassTable, *, image: Path, min_area: int = 1) -> None:
    """Write the `regions` of a map of class indices (h, w) as a GeoJSON FeatureCollection, one feature per line.

    Each feature has the properties ``class`` (a name), ``label`` (its value in label files) and ``area`` (in pixels).
    Coordinates are (column, row) in pixels from the upper left corner of the image; rows increase downwards.
    """
    height, width = labels.shape
    about = {"file": shown(image.name), "width": width, "height": height}

    def write(file: BinaryIO) -> None:
        file.write(f'{{"type": "FeatureCollection", "image": {json.dumps(about)}, "features": ['.encode())
        for number, region in enumerate(regions(labels, min_area)):
            file.write(f"{',' if number else ''}\n{json.dumps(_feature(region, classes))}".encode())
        file.write(b"\n]}\n")

    write_atomic(path, write)


def _feature(region: Region, classes: ClassTable) -> dict[str, Any]:
    properties = {"class": classes.names[region.label], "label": classes.values[region.label], "area": region.area}
    geometry = {"type": "Polygon", "coordinates": region.rings}
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def _runs(labels: npt.NDArray[Any]) -> _Runs:
    width = labels.shape[1]
    found = []
    for rows in bands(*labels.shape):
        part = labels[rows]
        begins = np.ones(part.shape, bool)
        np.not_equal(part[:, 1:], part[:, :-1], out=begins[:, 1:])
        row, start = np.nonzero(begins)
        found.append((row + rows.start, start, part[row, start].astype(np.int64)))
    row, start, label = (np.concatenate(parts) for parts in zip(*found, strict=True))
    stop = np.append(start[1:], width)
    stop[stop == 0] = width  # the next run is the first of its row, so this one ends its own row
    return _Runs(row, start, stop, label)


def _components(runs: _Runs, width: int) -> Indices:
    """For each run, the index of the first run of its region."""
    flat = runs.row * width + runs.start
    # In two neighbouring rows, a new pair of runs, one above the other, begins where a run begins in either row.
    places = np.union1d(flat[runs.row > 0], flat[runs.row < runs.row[-1]] + width)
    above, below = (np.searchsorted(flat, there, "right") - 1 for there in (places - width, places))
    alike = runs.label[above] == runs.label[below]
    above, below = above[alike], below[alike]
    root = np.arange(len(flat))
    while len(above):  # join regions by pairs of their first runs, until both of every pair are the same
        np.minimum.at(root, np.maximum(above, below), np.minimum(above, below))
        while not np.array_equal(root, shorter := root[root]):
            root = shorter
        above, below = root[above], root[below]
        apart = above != below
        above, below = above[apart], below[apart]
    return root


def _rings(runs: _Runs, region: Indices) -> dict[int, list[Ring]]:
    """The rings of every region, its outline first.

    The sides of a border are alternately vertical and horizontal. Vertical sides are the ends of runs, joined over
    rows, and their ends are the corners. Sorted along a row, each two successive corners belong to a horizontal side.
    """
    # If four runs meet in a point, and only the two diagonally opposite ones belong to the region, the ring must turn
    # there instead of touching itself. So starts and stops of runs are not joined into one side, and a start is sorted
    # before a stop in the same place.
    end = np.repeat((0, 1), len(runs.row))
    of, column, row = np.tile(region, 2), np.concatenate((runs.start, runs.stop)), np.tile(runs.row, 2)
    order = np.lexsort((row, end, column, of))
    of, column, row, end = of[order], column[order], row[order], end[order]
    joined = (np.diff(of) == 0) & (np.diff(column) == 0) & (np.diff(end) == 0) & (np.diff(row) == 1)
    top = np.flatnonzero(np.append(True, ~joined)[: len(row)])
    bottom = np.flatnonzero(np.append(~joined, True)[: len(row)])
    of, column, end = (np.repeat(part[top], 2) for part in (of, column, end))
    row = np.stack((row[top], row[bottom] + 1), 1).ravel()  # corners 2k and 2k + 1 are the ends of vertical side k
    order = np.lexsort((end, column, row, of))
    beside = np.empty_like(order)  # for each corner, the other corner of its horizontal side
    beside[order] = order.reshape(-1, 2)[:, ::-1].ravel()

    found: dict[int, list[Ring]] = {}
    left = np.ones(len(order), bool).tolist()
    across, columns, rows, regions_ = beside.tolist(), column.tolist(), row.tolist(), of.tolist()
    for first in order.tolist():
        if not left[first]:
            continue
        ring: Ring = []
        corner = first
        while left[corner]:
            opposite = across[corner]
            left[corner] = left[opposite] = False
            ring += [(columns[corner], rows[corner]), (columns[opposite], rows[opposite])]
            corner = opposite ^ 1  # the other corner of its vertical side
        ring.append(ring[0])
        rings = found.setdefault(regions_[first], [])
        rings.append(ring[::-1] if rings else ring)
    return found
