"""Which class the value or the colour of a pixel in a label file is. `label_files` reads the pixels."""

import csv
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import plural
from .class_table import MOST, VOID, ClassTable, DataError

Colour = tuple[int, int, int]
Pixels = npt.NDArray[Any]
"""Values (h, w), integers of any size, or colours (h, w, 3), uint8."""

UNKNOWN = 65535
"""Result of `decode` for a value or colour that is neither a class nor void."""


@dataclass(frozen=True)
class ValueEncoding:
    """Each pixel has a value, which `values` maps to a class: pairs (value, class, or 255 for void).

    described: the values that a file may contain, for messages.
    hint: from the unknown values in a file to a guess what kind of file it is, or "".
    doubt: from all values in a file, even if they are known, to a reason why it cannot have this encoding, or "".
    """

    values: tuple[tuple[int, int], ...]
    described: str
    hint: Callable[[list[int]], str] | None = None
    doubt: Callable[[list[int]], str] | None = None

    def decode(self, pixels: Pixels) -> npt.NDArray[np.uint16]:
        """Classes (h, w) of values (h, w): 0..K-1, 255 for void, `UNKNOWN` for values without a meaning."""
        table = np.full(256 if pixels.dtype == np.uint8 else MOST + 1, UNKNOWN, np.uint16)
        for value, label in self.values:
            table[value : value + 1] = label  # a slice: no error for values that a byte cannot hold
        if pixels.dtype.itemsize <= 2:
            return table[pixels]
        inside = (pixels >= 0) & (pixels <= MOST)
        return np.where(inside, table[np.where(inside, pixels, 0)], np.uint16(UNKNOWN))

    def explain(self, pixels: Pixels, unknown: npt.NDArray[np.bool_]) -> str:
        """Text for a message: what was expected, and which unknown values were found where."""
        values = _values(pixels[unknown])
        found = [f"{value} ({_places(pixels == value)})" for value in values[:5]]
        found += [f"and {plural(len(values) - 5, 'more value')}"] if len(values) > 5 else []
        hint = self.hint(values) if self.hint else ""
        return f"expected {self.described}, found {', '.join(found)}" + (f"; {hint}" if hint else "")

    def doubts(self, pixels: Pixels) -> str:
        return self.doubt(_values(pixels)) if self.doubt else ""


@dataclass(frozen=True)
class ColourEncoding:
    """Each pixel has a colour, which `colours` maps to a class: pairs ((red, green, blue), class, or 255 for void).

    described: the colours that a file may contain, for messages.
    """

    colours: tuple[tuple[Colour, int], ...]
    described: str

    def decode(self, pixels: Pixels) -> npt.NDArray[np.uint16]:
        """Classes (h, w) of colours (h, w, 3): 0..K-1, 255 for void, `UNKNOWN` for colours without a meaning."""
        return _colour_table(self.colours)[_packed(pixels)]

    def explain(self, pixels: Pixels, unknown: npt.NDArray[np.bool_]) -> str:
        packed = _packed(pixels)
        values, counts = np.unique(packed[unknown], return_counts=True)
        values = values[np.argsort(-counts, kind="stable")]
        found = [
            f"({value >> 16}, {value >> 8 & 255}, {value & 255}) ({_places(packed == value)})"
            for value in values[:5].tolist()
        ]
        found += [f"and {plural(len(values) - 5, 'more colour')}"] if len(values) > 5 else []
        hint = "; many colours: was the label compressed as a photograph, or resized?" if len(values) > 50 else ""
        return f"expected {self.described}, found (red, green, blue) {', '.join(found)}{hint}"


LabelEncoding = ValueEncoding | ColourEncoding


def index_encoding(classes: ClassTable) -> ValueEncoding:
    """The encoding of the class table: its values and its void values; 255 is void if it is not a class's value."""
    values = {VOID: VOID, **dict.fromkeys(classes.void, VOID), **{value: k for k, value in enumerate(classes.values)}}
    void = ", ".join(str(value) for value, label in sorted(values.items()) if label == VOID)
    named = f"labels {_ranges(classes.values)}" + (f", or {void} for void" if void else "")
    hint = {19: _label_ids, 37: _sun_rgbd}.get(len(classes)) if classes.values == tuple(range(len(classes))) else None
    return ValueEncoding(tuple(values.items()), named, hint)


def _ranges(values: tuple[int, ...]) -> str:
    """Numbers as text such as "0 to 2, 7", cut after ten parts."""
    spans: list[list[int]] = []
    for value in sorted(values):
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    parts = [f"{low} to {high}" if high > low else str(low) for low, high in spans]
    return ", ".join([*parts[:10], *(["..."] if len(parts) > 10 else [])])


def read_palette(path: str | Path, classes: ClassTable) -> ColourEncoding:
    """Read a CSV file with columns red, green, blue and name, in any order; other columns are ignored.

    `name` is a class of the table, or `void`; several colours may have the same name. A file for `read_classes` with
    colours is also a valid palette. Raises DataError, naming the file and the line if there is one.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            header = [column.strip().lower() for column in reader.fieldnames or ()]
            if not {"red", "green", "blue", "name"} <= set(header):
                found = ",".join(header) or "nothing"
                raise _palette_error(path, f"the first line must hold red, green, blue and name, found {found}")
            reader.fieldnames = header
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _palette_error(path, f"cannot read the palette: {error}") from error
    labels = {name.lower(): label for label, name in enumerate(classes.names)} | {"void": VOID}
    colours: dict[Colour, int] = {}
    for line, row in rows:
        name = row["name"].strip().lower()
        if name not in labels:
            names = ", ".join(classes.names)
            raise _palette_error(path, f"expected the name of a class ({names}) or void, found {row['name']!r}", line)
        parts = [row[part].strip() for part in ("red", "green", "blue")]
        if not all(part.isdecimal() and int(part) <= 255 for part in parts):
            raise _palette_error(path, f"red, green and blue must be 0 to 255, found {', '.join(parts)}", line)
        colour = int(parts[0]), int(parts[1]), int(parts[2])
        if colours.setdefault(colour, labels[name]) != labels[name]:
            raise _palette_error(path, f"colour {colour} stands for two classes", line)
    if not set(colours.values()) - {VOID}:
        raise _palette_error(path, "no colour stands for a class")
    return ColourEncoding(tuple(sorted(colours.items())), f"the {len(colours)} colours of {Path(path).name}")


def _palette_error(path: str | Path, what: str, line: int | None = None) -> DataError:
    return DataError(f"{path}{'' if line is None else f', line {line}'}: {what}", "palette")


def _values(pixels: Pixels) -> list[int]:
    present: list[int] = np.unique(pixels).tolist()
    return present


def _label_ids(values: list[int]) -> str:
    return "Cityscapes labelIds? Use --data cityscapes, or its labelTrainIds files" if max(values) <= 33 else ""


def _sun_rgbd(values: list[int]) -> str:
    return "SUN RGB-D, where 0 is void and 1 to 37 are the classes? Use --data sunrgbd" if values == [37] else ""


def _places(mask: npt.NDArray[np.bool_]) -> str:
    rows, columns = np.nonzero(mask)
    return f"first at row {rows[0]}, column {columns[0]}; {plural(len(rows), 'pixel')}"


def _packed(pixels: Pixels) -> npt.NDArray[Any]:
    """Colours (h, w, 3) as one number each, uint32 (h, w)."""
    red, green, blue = (np.asarray(pixels[..., i], np.uint32) for i in range(3))
    return red << 16 | green << 8 | blue


@functools.lru_cache(maxsize=2)
def _colour_table(colours: tuple[tuple[Colour, int], ...]) -> npt.NDArray[np.uint16]:
    """The class of each of the 2^24 colours, 32 MiB: a table lookup is several times as fast as a sorted search."""
    table = np.full(1 << 24, UNKNOWN, np.uint16)
    for (red, green, blue), label in colours:
        table[red << 16 | green << 8 | blue] = label
    return table
