"""Writing files so that a crash, a full disk or a second writer never costs what was there before."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a new file beside ``path``, flush it to the disk, then put it in the place of ``path``.

    Whatever happens, ``path`` holds either the old content or the new one. Raises OSError naming ``path``.
    """
    path = Path(path)
    # Not the whole name: it may be as long as names can be.
    temporary = path.with_name(f".{path.name[:32]}.tmp.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):  # a failed clean-up must not hide why there is something to clean up
            temporary.unlink()
        if isinstance(error, OSError):
            reason = f"cannot write: {error.strerror or error}; what was there before is intact"
            raise OSError(error.errno, reason, str(path)) from error
        raise


def sweep(folder: Path, older_than: float = 0.0) -> None:
    """Delete what processes left in ``folder`` that were killed in :func:`write_atomic`, ``older_than`` seconds ago."""
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
