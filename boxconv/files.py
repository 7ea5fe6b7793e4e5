"""Write files so that nothing is lost: a file is replaced only on request, and never half written."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

from .errors import UsageError

Existing = Literal["refuse", "resume", "overwrite"]
"""What becomes of results that are there already: an error, kept and gone on with, replaced."""


def existing(*, resume: bool, overwrite: bool) -> Existing:
    """What the two options of a command ask for. UsageError where they contradict each other."""
    if resume and overwrite:
        raise UsageError("--resume and --overwrite contradict each other: give one of them")
    return "resume" if resume else "overwrite" if overwrite else "refuse"


def check_outputs(outputs: Mapping[str, Path | None], *, overwrite: bool, inputs: Iterable[Path | None] = ()) -> None:
    """Raise UsageError, before any work is done, for a file that must not be written.

    Args:
        outputs: files to write by the options that name them; None is not asked for.
        overwrite: allow files that exist already.
        inputs: files that are read, which nothing may replace, not even with ``overwrite``.
    """
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


def check_output_folder(option: str, folder: Path, *, overwrite: bool) -> None:
    """The same for a folder whose files are written under names of the command's own."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{option}: {folder} is a file; expected a folder")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise UsageError(f"{option}: {folder} holds files already; choose another folder, or give --overwrite")


def _same(path: Path, other: Path) -> bool:
    """Whether two names are one file, also through links."""
    return path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name of a file beside ``path``, to be written inside the block; at its end it takes the place of ``path``.

    Whatever happens, ``path`` holds either the old content or the new one. Raises OSError naming ``path``.
    """
    path = Path(path)
    # Not the whole name: it may be as long as names can be. The same suffix: some writers go by it.
    temporary = path.with_name(f".{path.stem[:32]}.tmp.{os.getpid()}{path.suffix[:32]}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # a failed clean-up must not hide why there is something to clean up
            temporary.unlink()
        if isinstance(error, OSError) and str(error.filename or temporary) == str(temporary):  # not another file's
            reason = f"cannot write: {error.strerror or error}; what was there before is intact"
            raise OSError(error.errno, reason, str(path)) from error
        raise


def write_atomic(path: Path, content: bytes | str | Callable[[BinaryIO], object]) -> None:
    """Put ``content``, or what it writes into an open file, in the place of ``path``, by `replacing`."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


def write_png(path: Path, image: Any) -> None:
    """A Pillow image as a PNG file, by `replacing`."""
    write_atomic(path, lambda file: image.save(file, "PNG"))


def sweep(folder: Path, older_than: float = 0.0) -> None:
    """Delete what processes left in ``folder`` that were killed in `replacing`, ``older_than`` seconds ago."""
    for stray in folder.glob(".*.tmp.*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - stray.stat().st_mtime >= older_than:
                stray.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system allows to open folders."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
