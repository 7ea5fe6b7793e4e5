"""One writer per folder: a lock that ends with its process, however that ends."""

import os
import socket
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows: there is no lock there
    fcntl = None  # type: ignore[assignment]

_HELD: dict[Path, BinaryIO] = {}
"""Locks of this process. Closing a second handle of the file would give up the lock, so there is only one."""


class LockedError(RuntimeError):
    """Another process holds the lock; the message says which."""


def lock(path: Path) -> None:
    """Take the lock file ``path`` until `unlock` or the end of this process. LockedError where another has it.

    A POSIX record lock: child processes do not inherit it, so that a data-loading process that outlives its parent does
    not hold it, and it works over NFS.
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
        file.close()  # its former holder has deleted it meanwhile
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    file.flush()
    _HELD[path] = file


def unlock(path: Path) -> None:
    """Give the lock up, and delete its file."""
    file = _HELD.pop(path.absolute(), None)
    if file is not None:
        path.unlink(missing_ok=True)
        file.close()


def _same_file(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
