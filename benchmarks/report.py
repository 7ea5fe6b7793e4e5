"""Sections of a document as text and as Markdown, and what a reader must know of the machine."""

import datetime
import importlib
import importlib.util
import os
import platform
import textwrap
from collections.abc import Iterable
from typing import NamedTuple

import torch

import box_convolution
from box_convolution.analysis import machine
from box_convolution.analysis.tables import Table

LINE = 110  # characters of running text on the terminal


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


def facts(implementation: str, threads: Iterable[int], keeps_memory: bool, command: str) -> Table:
    """Hardware, versions, threads, date and command."""
    rows = [
        ["date", datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")],
        ["command", f"`{command}`"],
        ["implementation", _implementation(implementation)],
        ["processor", f"{machine.processor()}, {os.cpu_count()} logical cores; {machine.caches()}"],
        ["threads", ", ".join(map(str, threads))],
        ["malloc", "keeps freed memory: no fresh pages in the times" if keeps_memory else "as the system has it"],
        ["load when it began", machine.load()],
        ["box_convolution", f"{box_convolution.__version__}, {machine.commit()}"],
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
