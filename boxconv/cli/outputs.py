"""Where a command may write: it replaces a file only on request, and never one that it reads or a data set's."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..data.data_folder import check_outside_data
from ..errors import UsageError
from ..reports.tables import Section, replaced_section, write_sections


def check_outputs(
    outputs: Mapping[str, Path | None],
    *,
    overwrite: bool,
    inputs: Iterable[Path | None] = (),
    root: Path | None = None,
) -> None:
    """Raise UsageError if an output file must not be written. Call this before any work is done.

    Args:
        outputs: from the name of an option to the file that it writes; None if the option is not given.
        overwrite: allow files that exist already.
        inputs: files that the command reads. No output may replace them, not even with ``overwrite``.
        root: the data folder that the command reads, if known. No output may be in it, nor in any other data folder.
    """
    check_outside_data(outputs, root)
    named = {option: path for option, path in outputs.items() if path is not None}
    read = [path for path in inputs if path is not None]
    for option, path in named.items():
        if any(_same(path, other) for other in read):
            raise UsageError(f"{option}: {path} is an input of this command and would be replaced; choose another name")
        twin = next((other for other in named if other != option and _same(path, named[other])), None)
        if twin is not None:
            raise UsageError(f"{option}: {path} is also the output of {twin}; choose another name")
        if path.is_dir():
            raise UsageError(f"{option}: {path} is a folder; expected the name of a file")
        if path.exists() and not overwrite:
            raise UsageError(f"{option}: {path} exists already; choose another name, or give --overwrite")


def check_output_folder(option: str, folder: Path, *, overwrite: bool, root: Path | None = None) -> None:
    """Raise UsageError if ``folder`` is a file, is in a data folder, or holds files already without ``overwrite``.

    root: as in `check_outputs`.
    """
    check_outside_data({option: folder}, root)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{option}: {folder} is a file; expected a folder")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise UsageError(f"{option}: {folder} holds files already; choose another folder, or give --overwrite")


def check_page(path: Path | None, command: str) -> None:
    """Raise UsageError if --write names no file for the sections of ``command``. Call this before any work is done."""
    check_outside_data({"--write": path})
    if path is not None:
        replaced_section(path, command, "")


def write_page(path: Path | None, command: str, sections: Sequence[Section], level: int = 2) -> None:
    """Write the sections of ``command`` to the file --write, if it is given."""
    if path is not None:
        write_sections(path, command, sections, level)
        print(f"written to {path}")


def _same(path: Path, other: Path) -> bool:
    """Whether two paths lead to the same file, also through links."""
    return path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other))
