"""Writing files safely: a file is replaced only on request, and is never left half written."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
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
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
