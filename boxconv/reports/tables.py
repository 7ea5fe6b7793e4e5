"""Tables and sections, as aligned text and as Markdown, and how they are written into a file."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UsageError
from ..files import write_atomic

LINE = 110  # characters of running text on the terminal


class Table(NamedTuple):
    """The first column is text; the others are numbers, aligned to the right, unless ``text`` says otherwise."""

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

    `caption` says in words what is to be seen: it stands below, and is read out in its place.
    """

    path: str | Path
    caption: str


class Section(NamedTuple):
    """A heading, and under it text (a blank line parts paragraphs), pictures and a table. Pictures are for HTML."""

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
    """At least ``digits`` significant ones, and never in exponent form."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def rounded(value: float | int | None, digits: int = 2) -> str:
    """A number for a table: "–" for none, whole numbers as they are."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def replaced_section(path: Path, command: str, section: str) -> str:
    """The text of ``path`` with ``section`` between the comments of ``command``; at its end where there are none.

    UsageError if there is one without the other, FileNotFoundError where there is no file.
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
    """Put ``sections``, with headings of ``level``, into the part of ``command``."""
    text = replaced_section(path, command, "\n".join(section.markdown(level) for section in sections))
    write_atomic(path, text)
