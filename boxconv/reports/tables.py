"""Tables and sections as aligned text and as Markdown, and writing them into a Markdown file."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UsageError
from ..files import write_atomic

LINE = 110  # characters of running text on the terminal


class Table(NamedTuple):
    """A table. The first column is text; the others are numbers and aligned to the right, unless ``text`` is True."""

    header: list[str]
    rows: list[list[str]]
    text: bool = False

    def plain(self) -> str:
        lines = ["  ".join(cells).rstrip() for cells in self._aligned()]
        if not lines[0]:
            return "\n".join(lines[1:])
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])

    def markdown(self) -> str:
        lines = ["| " + " | ".join(cells) + " |" for cells in self._aligned()]
        rules = ["-" * width for width in self._widths()]
        if not self.text:
            rules[1:] = [rule[1:] + ":" for rule in rules[1:]]
        return "\n".join([lines[0], "| " + " | ".join(rules) + " |", *lines[1:]])

    def _widths(self) -> list[int]:
        return [max(3, *map(len, cells)) for cells in zip(self.header, *self.rows, strict=True)]

    def _aligned(self) -> list[list[str]]:
        widths = self._widths()
        return [
            [
                cell.ljust(width) if self.text or column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            for row in (self.header, *self.rows)
        ]


class Picture(NamedTuple):
    """A PNG, JPEG or GIF file.

    `caption` says in words what the picture shows. It is printed below the picture, and screen readers read it out.
    """

    path: str | Path
    caption: str


class Section(NamedTuple):
    """A heading, and below it text (with blank lines between paragraphs), pictures (in HTML only) and a table."""

    title: str
    text: str = ""
    table: Table | None = None
    pictures: Sequence[Picture] = ()

    def plain(self) -> str:
        table = f"\n\n{self.table.plain()}" if self.table else ""
        return f"{self.title.upper()}\n{textwrap.fill(self.text, LINE)}{table}\n"

    def markdown(self, level: int = 2) -> str:
        table = f"\n\n{self.table.markdown()}" if self.table else ""
        return f"{'#' * level} {self.title}\n\n{self.text}{table}\n"


def number(value: float, digits: int = 3) -> str:
    """A number as text with at least ``digits`` significant digits, never in exponent form."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def rounded(value: float | int | None, digits: int = 2) -> str:
    """A number as text for a table: "–" for None or NaN, all digits of an int, ``digits`` decimals of a float."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def replaced_section(path: Path, command: str, section: str) -> str:
    """The text of the file ``path``, with ``section`` between the two comments of ``command``, or else at its end.

    Raises UsageError if the comments are not one begin followed by one end, FileNotFoundError if there is no file.
    """
    begin, end = f"<!-- {command}: begin -->", f"<!-- {command}: end -->"
    text = path.read_text(encoding="utf-8")
    if (text.count(begin), text.count(end)) == (0, 0):
        return f"{text.rstrip()}\n\n{begin}\n{section}{end}\n"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if (text.count(begin), text.count(end)) != (1, 1) or not found:
        raise UsageError(f"--write: {path} must hold {begin} and, after it, {end}, once each or not at all")
    return f"{before}{begin}\n{section}{end}{after}"


def write_sections(path: Path, command: str, sections: Sequence[Section], level: int = 2) -> None:
    """Write ``sections``, with headings of ``level``, to the part of ``command`` in the file (`replaced_section`)."""
    text = replaced_section(path, command, "\n".join(section.markdown(level) for section in sections))
    write_atomic(path, text)
