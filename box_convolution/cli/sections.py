"""The part of a Markdown file that a command writes: between two comments, anew each time."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..segmentation.config import UsageError

if TYPE_CHECKING:
    from ..analysis.tables import Section


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


def write_sections(path: Path, command: str, sections: "Sequence[Section]", level: int = 2) -> None:
    """Put ``sections``, with headings of ``level``, into the part of ``command``."""
    from ..segmentation.files import write_atomic

    text = replaced_section(path, command, "\n".join(section.markdown(level) for section in sections))
    write_atomic(path, lambda file: file.write(text.encode()))
