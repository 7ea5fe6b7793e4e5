"""A whole report as text and as Markdown, and its section on how the figures were measured."""

import importlib
import importlib.util
import textwrap
from collections.abc import Iterable
from typing import NamedTuple

from box_convolution.ops import cpu_library
from boxconv.profiling import machine
from boxconv.reports.tables import LINE, Section, Table


class Document(NamedTuple):
    title: str
    text: str
    sections: list[Section]

    def plain(self) -> str:
        head = f"{self.title.upper()}\n{textwrap.fill(self.text, LINE)}\n"
        return "\n".join([head, *(section.plain() for section in self.sections)])

    def markdown(self) -> str:
        head = f"# {self.title}\n\n{self.text}\n"
        return "\n".join([head, *(section.markdown() for section in self.sections)])


def facts_section(implementation: str, threads: Iterable[int], keeps_memory: bool, command: str) -> Section:
    """The section with command, implementation, hardware, versions, threads and date."""
    rows = [
        ["command", f"`{command}`"],
        ["implementation", f"{implementation}, {cpu_library.isa()}" if implementation == "cpu" else implementation],
        *machine.facts(threads, keeps_memory),
    ]
    if importlib.util.find_spec("cv2") is not None:
        rows.append(["OpenCV", importlib.import_module("cv2").__version__])
    text = (
        "All contenders take turns in one process, after their results were checked. Times of one thread are processor "
        "time. Times of several threads are wall time, which other programs on the machine lengthen. All figures on "
        "this page are those of the commit in the table; later versions may be faster or slower."
    )
    return Section("How it was measured", text, Table(["", ""], rows, text=True))
