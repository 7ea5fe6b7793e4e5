"""The classes of a segmentation data set: names, display colours, categories, and which label values mean void."""

import colorsys
import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..files import write_atomic

VOID = 255
"""The label value that losses and metrics ignore. Files may use others, see `ClassTable.void`."""

MOST = 65535
"""The largest value that a label file may contain."""

COLUMNS = ("label", "name", "red", "green", "blue", "category")


def as_hex(colour: Iterable[int]) -> str:
    """A colour (red, green, blue) as web pages and matplotlib write it, such as #804080."""
    return f"#{bytes(colour).hex()}"


class DataError(ValueError):
    """The user's data cannot be used; the message names the file, what was found and what was expected.

    `kind` is a short phrase under which a report groups errors of the same sort.
    """

    def __init__(self, message: str, kind: str = "unusable data") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class ClassTable:
    """K classes. In the network and in tensors they are 0..K-1; in label files, class k has the value `values[k]`.

    names: K distinct names, none of them "void".
    colours: K distinct (red, green, blue) triples of 0..255, for pictures only.
    categories: the category of each class; several classes may share one. If empty, every class is its own category.
    void: values in label files that mean void. 255 also means void, listed or not, unless it is the value of a class.
    values: K distinct label values from 0 to 65535; if empty, 0..K-1.

    Raises ValueError if the arguments contradict this.
    """

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    categories: tuple[str, ...] = ()
    void: frozenset[int] = frozenset()
    values: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.categories:
            object.__setattr__(self, "categories", self.names)
        count = len(self.names)
        if not self.values:
            object.__setattr__(self, "values", tuple(range(count)))
        if not 1 <= count <= VOID:
            raise ValueError(f"a class table needs 1 to {VOID} classes, found {count}")
        if not len(self.colours) == len(self.categories) == len(self.values) == count:
            raise ValueError(
                f"expected one name, colour, category and label per class, found {count} names, {len(self.colours)} "
                f"colours, {len(self.categories)} categories, {len(self.values)} labels"
            )
        for name in (*self.names, *self.categories):
            if not isinstance(name, str) or not name or name != name.strip():
                raise ValueError(f"class and category names must not be empty or padded with blanks, found {name!r}")
        if any(name.lower() == "void" for name in self.names):
            raise ValueError("no class may be named 'void': void is what is not scored")
        for what, values in (("name", self.names), ("colour", self.colours), ("label", self.values)):
            if len(set(values)) != count:
                twice = next(value for i, value in enumerate(values) if value in values[:i])
                raise ValueError(f"class {what} {twice!r} occurs more than once")
        for name, colour in zip(self.names, self.colours, strict=True):
            if len(colour) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in colour):
                raise ValueError(f"the colour of class {name!r} must be three integers from 0 to 255, found {colour!r}")
        for value in (*self.values, *self.void):
            if not isinstance(value, int) or not 0 <= value <= MOST:
                raise ValueError(f"label {value!r} must be an integer from 0 to {MOST}")
        for value in self.void.intersection(self.values):
            raise ValueError(f"void label {value} is that of class {self.names[self.values.index(value)]!r} as well")

    def __len__(self) -> int:
        return len(self.names)

    def to_dict(self) -> dict[str, Any]:
        """The table as lists, strings and integers, for checkpoints and JSON; `from_dict` is the inverse."""
        return {
            "names": list(self.names),
            "colours": [list(colour) for colour in self.colours],
            "categories": list(self.categories),
            "void": sorted(self.void),
            "values": list(self.values),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "ClassTable":
        """The inverse of `to_dict`. Raises ValueError for anything else."""
        try:
            return cls(
                names=tuple(state["names"]),
                colours=tuple((red, green, blue) for red, green, blue in state["colours"]),
                categories=tuple(state["categories"]),
                void=frozenset(state["void"]),
                values=tuple(state.get("values", ())),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a class table: {error!r}") from error

    def colourise(self, label: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Picture (h, w, 3), uint8, of a map of class indices (h, w), uint8; values that are not a class are black."""
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(self)] = self.colours
        return colours[label]

    def in_files(self, label: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Convert class indices (h, w) to the values of label files: uint8, or uint16 if a class has one above 255."""
        kind = np.uint8 if max(self.values) <= 255 else np.uint16
        return np.array(self.values, kind)[label]


def read_classes(path: str | Path) -> ClassTable:
    """Read a CSV file with the columns `label,name,red,green,blue,category`, in any order; others are ignored.

    There is one row per class, in the network's order. `label` is its value in the label files, 0 to 65535. Without a
    column `category`, every class is its own category; without colours, each class gets one. Rows named `void`, in
    upper or lower case, give the values that mean void; their colour and category are ignored. 255 means void anyway,
    unless it is the value of a class. Raises DataError, naming the file and the line if there is one.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            header = [name.strip().lower() for name in reader.fieldnames or ()]
            coloured = not {"red", "green", "blue"}.isdisjoint(header)
            if not set(COLUMNS[: 5 if coloured else 2]) <= set(header) or len(set(header)) < len(header):
                raise DataError(
                    f"{path}: the first line must name the columns label, name and, if you like, red, green, blue and "
                    f"category, each once; found {','.join(header)!r}"
                )
            reader.fieldnames = header
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot read the class table: {error}") from error

    names: list[str] = []
    colours: list[tuple[int, int, int]] = []
    categories: list[str] = []
    values: list[int] = []
    void: set[int] = set()
    for line, row in rows:
        if None in row or None in row.values():
            raise DataError(f"{path}, line {line}: expected {len(header)} values: {','.join(header)}")
        cells = {column: value.strip() for column, value in row.items()}
        label = _integer(cells["label"], f"{path}, line {line}: label", MOST)
        if cells["name"].lower() == "void":
            void.add(label)
            continue
        names.append(cells["name"])
        values.append(label)
        if coloured:
            red, green, blue = (_integer(cells[part], f"{path}, line {line}: {part}", 255) for part in COLUMNS[2:5])
            colours.append((red, green, blue))
        categories.append(cells.get("category") or cells["name"])
    try:
        drawn = tuple(colours) if coloured else distinct_colours(len(names))
        return ClassTable(tuple(names), drawn, tuple(categories), frozenset(void), tuple(values))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def write_classes(path: str | Path, table: ClassTable) -> None:
    """Write a class table as a file for `read_classes`. Raises OSError naming the file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for k, name in enumerate(table.names):
        writer.writerow((table.values[k], name, *table.colours[k], table.categories[k]))
    for label in sorted(table.void):
        writer.writerow((label, "void", 0, 0, 0, "void"))
    write_atomic(Path(path), lambda file: file.write(text.getvalue().encode()))


def distinct_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """``count`` different bright colours with evenly spaced hues."""
    hues = (colorsys.hsv_to_rgb(k / count, 0.55 + 0.35 * (k % 2), 0.95 - 0.25 * (k % 3) / 2) for k in range(count))
    found: dict[tuple[int, int, int], None] = {}
    for red, green, blue in hues:
        colour = round(255 * red), round(255 * green), round(255 * blue)
        while colour in found:
            colour = colour[0], colour[1], (colour[2] + 1) % 256
        found[colour] = None
    return tuple(found)


def _integer(text: str, where: str, most: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= most:
        raise DataError(f"{where} must be an integer from 0 to {most}, found {text!r}")
    return value
