"""Writing files so that a crash, a full disk or a second writer never costs what was there before."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a new file beside ``path``, flush it to the disk, then put it in the place of ``path``.

    Whatever happens, ``path`` holds either the old content or the new one. Raises OSError naming ``path``.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(
                error.errno, f"cannot write: {error.strerror}; what was there before is intact", str(path)
            ) from error
        if isinstance(error, RuntimeError):
            # torch.save reports a full disk as a RuntimeError of its archive writer.
            raise OSError(None, f"cannot write ({error}); what was there before is intact", str(path)) from error
        raise


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
