"""Writing files safely: a file is replaced only on request, and is never left half written."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

from .errors import UsageError

Existing = Literal["refuse", "resume", "overwrite"]
"""What to do with results that exist already: raise an error, keep them and continue, or replace them."""


def existing(*, resume: bool, overwrite: bool) -> Existing:
    """Return what the options --resume and --overwrite ask for. Raises UsageError if both are given."""
    if resume and overwrite:
        raise UsageError("--resume and --overwrite contradict each other: give one of them")
    return "resume" if resume else "overwrite" if overwrite else "refuse"


def check_outputs(outputs: Mapping[str, Path | None], *, overwrite: bool, inputs: Iterable[Path | None] = ()) -> None:
    """Raise UsageError if an output file must not be written. Call this before any work is done.

    Args:
        outputs: from the name of an option to the file that it writes; None if the option is not given.
        overwrite: allow files that exist already.
        inputs: files that the command reads. No output may replace them, not even with ``overwrite``.
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
    """Raise UsageError if ``folder`` is a file, or holds files already and ``overwrite`` is False."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{option}: {folder} is a file; expected a folder")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise UsageError(f"{option}: {folder} holds files already; choose another folder, or give --overwrite")


def _same(path: Path, other: Path) -> bool:
    """Whether two paths lead to the same file, also through links."""
    return path.resolve() == other.resolve() or (path.exists() and other.exists() and path.samefile(other))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file to write; when the block ends, that file replaces ``path``.

    After an error or a crash, ``path`` holds either the old content or the new content. Raises OSError naming ``path``.
    """
    path = Path(path)
    # The stem is cut because `path` may already be as long as a name can be. The suffix stays because some writers
    # choose the format by it.
    temporary = path.with_name(f".{path.stem[:32]}.tmp.{os.getpid()}{path.suffix[:32]}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # an error while cleaning up must not hide the first error
            temporary.unlink()
        # An OSError about another file, raised inside the block, is passed on as it is.
        if isinstance(error, OSError) and str(error.filename or temporary) == str(temporary):
            reason = f"cannot write: {error.strerror or error}; what was there before is intact"
            raise OSError(error.errno, reason, str(path)) from error
        raise


def write_atomic(path: Path, content: bytes | str | Callable[[BinaryIO], object]) -> None:
    """Write ``content`` to ``path`` with `replacing`. A function is called with the open binary file to write to."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


def write_png(path: Path, image: Any) -> None:
    """Write a Pillow image as a PNG file with `replacing`."""
    write_atomic(path, lambda file: image.save(file, "PNG"))


def sweep(folder: Path, older_than: float = 0.0) -> None:
    """Delete temporary files that killed processes left in ``folder``, if they are at least ``older_than`` s old."""
    for stray in folder.glob(".*.tmp.*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - stray.stat().st_mtime >= older_than:
                stray.unlink()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, if the system can open folders."""
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
