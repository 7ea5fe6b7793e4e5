"""The folder of a training run. An earlier run in it is deleted only on request.

config.json      settings, network and classes          best.pt   weights with the highest validation class IoU;
                                                         with --ema the averaged ones, by their IoU
metrics.jsonl    one JSON object per epoch              last.pt   everything that an exact resume needs
boxes.jsonl      the boxes after each epoch (`box_history`)
tensorboard/     the same numbers for TensorBoard
progress/        report.html with its pictures, of a run with --report-every
analysis/        what `boxconv analyze` wrote; deleted together with the run by --overwrite
.lock            exists while a process writes here, and names it
"""

import json
import shutil
from pathlib import Path
from typing import Any

from ..files import existing, sweep, write_atomic
from .lock import LockedError, lock, unlock

_OURS = ("config.json", "metrics.jsonl", "boxes.jsonl", "best.pt", "last.pt", "tensorboard", "progress")


class RunFolderError(ValueError):
    """The folder cannot be used as asked; the message names it and what to do."""


class RunFolder:
    """Opens the folder ``path`` for a new run; with ``resume`` for the run in it; with ``overwrite`` deletes that run.

    The folder is locked until `close`, the end of a `with` block, or the end of the process. Raises RunFolderError if
    the folder has a run already, has none to resume, has other files, is in use by another process, or cannot be
    written; UsageError for both ``resume`` and ``overwrite``.
    """

    def __init__(self, path: Path, *, resume: bool = False, overwrite: bool = False) -> None:
        self.path = path = Path(path)
        self.best, self.last = path / "best.pt", path / "last.pt"
        self.metrics, self.boxes = path / "metrics.jsonl", path / "boxes.jsonl"
        self.tensorboard, self.progress = path / "tensorboard", path / "progress"
        check_folder(self.path, resume=resume, overwrite=overwrite)  # before a folder is made
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock(self.path / ".lock")
        except LockedError as error:
            raise RunFolderError(f"{self.path}: {error}, which writes here; wait until it ends, or end it") from error
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            # Another process may have written until now.
            run = check_folder(self.path, resume=resume, overwrite=overwrite)
            sweep(self.path)
            if overwrite:
                report = ("analysis",) if (self.path / "analysis" / "report.html").exists() else ()
                for name in (*run, *report):
                    target = self.path / name
                    shutil.rmtree(target) if target.is_dir() and not target.is_symlink() else target.unlink()
        except OSError as error:
            self.close()
            raise self._unwritable(error) from error
        except RunFolderError:
            self.close()
            raise

    def _unwritable(self, error: OSError) -> RunFolderError:
        return RunFolderError(f"{self.path}: cannot be written: {error.strerror or error}")

    def close(self) -> None:
        """Release the lock, so that other processes can write here."""
        unlock(self.path / ".lock")

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write_config(self, content: dict[str, Any], provenance: str) -> None:
        """Write ``config.json``. ``provenance``, if not "", is added to those of earlier parts of a resumed run."""
        try:
            before = json.loads((self.path / "config.json").read_text(encoding="utf-8")).get("provenance", "")
        except (OSError, ValueError, AttributeError):
            before = ""
        sources = dict.fromkeys(source for source in (*str(before).split(" | "), provenance) if source)
        text = json.dumps({**content, "provenance": " | ".join(sources)}, indent=2) + "\n"
        write_atomic(self.path / "config.json", text)

    def write_records(self, records: list[dict[str, Any]]) -> None:
        """Write the records of all epochs. The file is rewritten, so that a resumed run never has an epoch twice."""
        text = "".join(json.dumps(record) + "\n" for record in records)
        write_atomic(self.metrics, text)


def check_folder(path: Path, *, resume: bool = False, overwrite: bool = False) -> list[str]:
    """Return which files of a run are in the folder ``path``. Raises what `RunFolder` raises; writes nothing."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise RunFolderError(f"{path}: a name that is not UTF-8, which TensorBoard needs; choose another one") from None
    existing(resume=resume, overwrite=overwrite)
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"{path}: a file is in the place of the run folder")
    present = sorted(entry.name for entry in path.iterdir()) if path.exists() else []
    # Hidden files are the lock, and temporary files that a killed process left.
    present = [name for name in present if not name.startswith(".")]
    run = [name for name in present if name in _OURS]
    if resume and not (path / "last.pt").exists():
        raise RunFolderError(f"{path}: nothing to resume, there is no last.pt in it")
    if run and not (resume or overwrite):
        raise RunFolderError(
            f"{path}: holds a run already ({', '.join(run)}); choose another folder, go on with it by boxconv train "
            "--resume, or give --overwrite to delete it"
        )
    if present and not run and not resume:
        raise RunFolderError(f"{path}: holds other files ({', '.join(present[:3])}); choose a new folder")
    return run
