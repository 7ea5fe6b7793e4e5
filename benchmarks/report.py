"""Tables as aligned text and as Markdown, and what a reader must know of the machine."""

import datetime
import importlib
import importlib.util
import math
import os
import platform
import subprocess
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch

import box_convolution

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


class Section(NamedTuple):
    title: str
    text: str
    table: Table

    def plain(self) -> str:
        return f"{self.title.upper()}\n{textwrap.fill(self.text, LINE)}\n\n{self.table.plain()}\n"

    def markdown(self) -> str:
        return f"## {self.title}\n\n{self.text}\n\n{self.table.markdown()}\n"


class Document(NamedTuple):
    title: str
    text: str
    about: Table
    sections: list[Section]

    def plain(self) -> str:
        head = f"{self.title.upper()}\n{textwrap.fill(self.text, LINE)}\n\n{self.about.plain()}\n"
        return "\n".join([head, *(section.plain() for section in self.sections)])

    def markdown(self) -> str:
        head = f"# {self.title}\n\n{self.text}\n\n{self.about.markdown()}\n"
        return "\n".join([head, *(section.markdown() for section in self.sections)])


def number(value: float, digits: int = 3) -> str:
    """At least ``digits`` significant ones, and never in exponent form."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def facts(implementation: str, threads: Iterable[int], keeps_memory: bool, command: str) -> Table:
    """Hardware, versions, threads, date and command."""
    rows = [
        ["date", datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")],
        ["command", f"`{command}`"],
        ["implementation", _implementation(implementation)],
        ["processor", f"{_processor()}, {os.cpu_count()} logical cores; {_caches()}"],
        ["threads", ", ".join(map(str, threads))],
        ["malloc", "keeps freed memory: no fresh pages in the times" if keeps_memory else "as the system has it"],
        ["load when it began", _load()],
        ["box_convolution", f"{box_convolution.__version__}, {_commit()}"],
        ["torch", f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"],
        ["python, system", f"{platform.python_version()}, {platform.system()} {platform.machine()}"],
    ]
    if importlib.util.find_spec("cv2") is not None:
        rows.append(["OpenCV", importlib.import_module("cv2").__version__])
    settings = [f"`{name}={value}`" for name, value in sorted(os.environ.items()) if name.startswith(("OMP_", "KMP_"))]
    if settings:
        rows.append(["environment", ", ".join(settings)])
    return Table(["", ""], rows, text=True)


def _implementation(name: str) -> str:
    """With the instruction set that its kernels chose, where it has a choice."""
    isa = getattr(getattr(box_convolution.ops, name, None), "isa", None)
    return f"{name}, {isa()}" if isa else name


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    fields = (line.partition(":") for line in info.read_text().splitlines()) if info.exists() else ()
    first: dict[str, str] = {}
    for key, _, value in fields:
        first.setdefault(key.strip(), value.strip())
    if "model name" not in first:
        return platform.processor() or platform.machine()
    return f"{first['model name']} (family {first.get('cpu family')}, model {first.get('model')})"


def _caches() -> str:
    """Size of each level of data cache that a core sees."""
    found = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    return ", ".join(found) or "caches unknown"


def _load() -> str:
    if not hasattr(os, "getloadavg"):
        return "unknown"
    return ", ".join(f"{load:.1f}" for load in os.getloadavg()) + " (mean of 1, 5, 15 minutes)"


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return "commit " + subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not in a repository"
