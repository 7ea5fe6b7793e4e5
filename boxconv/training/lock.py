"""A lock file, so that only one process writes to a folder. The system releases it whenever the process ends."""

import os
import socket
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

_HELD: dict[Path, BinaryIO] = {}
"""The lock files of this process. Closing any other handle of such a file would release the lock."""


class LockedError(RuntimeError):
    """Another process has the lock; the message says which one."""


def lock(path: Path) -> None:
    """Lock the file ``path`` until `unlock` or the end of this process. Raises LockedError if another process has it.

    It is a POSIX record lock. Child processes do not inherit such a lock, so a loading process that outlives its parent
    does not keep it, and it works over NFS.
    """
    path = path.absolute()
    if path in _HELD or fcntl is None:
        return
    while True:
        file = open(path, "a+b")  # noqa: SIM115 - open as long as the lock is held
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read(200).decode(errors="replace").strip()
            file.close()
            raise LockedError(f"in use by {holder or 'another process'}") from error
        if _same_file(file, path):
            break
        file.close()  # the process that had the lock deleted the file in the meantime: open the new one
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    file.flush()
    _HELD[path] = file


def unlock(path: Path) -> None:
    """Release the lock of this process and delete its file; nothing happens without a lock."""
    file = _HELD.pop(path.absolute(), None)
    if file is not None:
        path.unlink(missing_ok=True)
        file.close()


def _same_file(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
