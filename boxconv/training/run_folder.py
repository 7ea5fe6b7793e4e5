"""The folder of a training run: what is in it, and that an earlier run is never lost unasked.

config.json      settings, network and classes          best.pt   weights with the highest validation class IoU;
                                                         with --ema the averaged ones, by their IoU
metrics.jsonl    one JSON object per epoch              last.pt   all that an exact resume needs
boxes.jsonl      the boxes after each epoch (`box_history`)
tensorboard/     the same numbers for TensorBoard
progress/        report.html with its pictures, of a run with --report-every
analysis/        what `boxconv analyze` wrote; goes with the run when that is overwritten
.lock            while a process writes here: which one
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
    """Opens ``path`` for a new run, or for going on with the one in it (``resume``), or in its place (``overwrite``).

    The folder is locked until `close`, or the end of a `with` block, or of the process. Raises RunFolderError
    where a run is in the way, none is there to resume, another process works in it, or it cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool = False, overwrite: bool = False) -> None:
        self.path = Path(path)
        if not _is_utf8(self.path):
            raise RunFolderError(f"{self.path}: a name that is not UTF-8, which TensorBoard needs; choose another one")
        existing(resume=resume, overwrite=overwrite)
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path}: a file is in the place of the run folder")
        present = sorted(entry.name for entry in self.path.iterdir()) if self.path.exists() else []
        present = [name for name in present if not name.startswith(".")]  # a lock, what a killed process left
        run = [name for name in present if name in _OURS]
        if resume and not self.last.exists():
            raise RunFolderError(f"{self.path}: nothing to resume, there is no last.pt in it")
        if run and not (resume or overwrite):
            raise RunFolderError(
                f"{self.path}: holds a run already ({', '.join(run)}); choose another folder, give --resume to go on "
                "with it, or --overwrite to delete it"
            )
        if present and not run and not resume:
            raise RunFolderError(f"{self.path}: holds other files ({', '.join(present[:3])}); choose a new folder")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock(self.path / ".lock")
            sweep(self.path)
            if overwrite:
                report = ("analysis",) if (self.path / "analysis" / "report.html").exists() else ()
                for name in (*run, *report):
                    target = self.path / name
                    shutil.rmtree(target) if target.is_dir() and not target.is_symlink() else target.unlink()
        except LockedError as error:
            raise RunFolderError(f"{self.path}: {error}, which writes here; wait until it ends, or end it") from error
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Let others write here."""
        unlock(self.path / ".lock")

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def best(self) -> Path:
        return self.path / "best.pt"

    @property
    def last(self) -> Path:
        return self.path / "last.pt"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def boxes(self) -> Path:
        return self.path / "boxes.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def progress(self) -> Path:
        return self.path / "progress"

    def write_config(self, content: dict[str, Any], provenance: str) -> None:
        """Settings, and software and machine ("": nothing is computed any more); all of them if a run was resumed."""
        try:
            before = json.loads((self.path / "config.json").read_text(encoding="utf-8")).get("provenance", "")
        except (OSError, ValueError, AttributeError):
            before = ""
        sources = dict.fromkeys(source for source in (*str(before).split(" | "), provenance) if source)
        text = json.dumps({**content, "provenance": " | ".join(sources)}, indent=2) + "\n"
        write_atomic(self.path / "config.json", text)

    def write_records(self, records: list[dict[str, Any]]) -> None:
        """All epochs so far: rewritten whole, so that a resumed run never has an epoch twice."""
        text = "".join(json.dumps(record) + "\n" for record in records)
        write_atomic(self.metrics, text)


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
