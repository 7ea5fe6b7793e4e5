"""What a run writes to its folder after each epoch: checkpoints, records, boxes, and events for TensorBoard."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.class_table import ClassTable
from . import checkpoint
from .box_history import BoxHistory
from .config import to_plain
from .preview import Preview, previews
from .run_folder import RunFolder
from .setup import Run
from .state import TrainState, content_of, decisive_score
from .step import TrainStep


@dataclass(frozen=True)
class Progress:
    """The state of a run after an epoch, for the caller's `Watch` function."""

    run: Run
    folder: Path
    """Where pictures and pages about the run may be written."""
    records: list[dict[str, Any]]
    previews: list[Preview]
    seconds_left: float
    """Expected seconds until the run ends; 0 at the end."""


Watch = Callable[[Progress], None]


class Recorder:
    """Writes the results of ``run`` to ``folder``. Without a folder, as in all ranks but 0, it writes nothing."""

    def __init__(
        self, run: Run, folder: RunFolder | None, train_step: TrainStep, watch: Watch | None, *, progress: bool
    ) -> None:
        self.run, self.folder, self.train_step, self.progress = run, folder, train_step, progress
        self.watch = watch
        self.began = self.saved = time.monotonic()
        self.first_epoch = 0

    def begin(self, state: TrainState, provenance: str, *, save: bool) -> None:
        """Write settings, records and, with ``save``, a checkpoint: a full disk is noticed before the first epoch."""
        self.began, self.first_epoch = time.monotonic(), state.epoch
        if self.folder is None:
            return
        if save:
            self.save(state)
        run = self.run
        content: dict[str, Any] = {
            "config": to_plain(run.config),
            "network": run.network,
            "classes": run.classes.to_dict(),
        }
        content |= {"extended": state.extended} if state.extended else {}
        self.folder.write_config(content, provenance if state.epoch < run.config.epochs else "")
        self.folder.write_records(state.records)
        self.history = BoxHistory(self.folder.boxes, run.model, state.epoch)
        self.board = TensorBoardLogger(self.folder.tensorboard, state.epoch)

    def due(self) -> bool:
        """Whether the last checkpoint is older than `config.checkpoint_minutes`."""
        return time.monotonic() - self.saved > 60 * self.run.config.checkpoint_minutes

    def save(self, state: TrainState) -> None:
        """Write ``last.pt``."""
        self.saved = time.monotonic()
        if self.folder is not None:
            checkpoint.save(self.folder.last, content_of(self.run, self.train_step, state, resumable=True))

    def epoch(self, state: TrainState, *, better: bool) -> None:
        """Write the results of the epoch that has ended. ``better``: its weights are the best so far."""
        if self.folder is None:
            return
        record = state.records[-1]
        self.history.record(state.epoch)
        if better:
            checkpoint.save(self.folder.best, content_of(self.run, self.train_step, state, resumable=False))
        self.save(state)
        self.folder.write_records(state.records)
        self.board.write(record)
        finished = state.finished(self.run.config)
        # Mean time of an epoch since this process started, with validation.
        pace = (time.monotonic() - self.began) / (state.epoch - self.first_epoch)
        left = 0.0 if finished else pace * (self.run.config.epochs - state.epoch)
        if finished or state.epoch % (self.run.config.report_every or 1) == 0:
            self.report(state, left)
        if self.progress:
            print(one_line(record, better, left), flush=True)
        if finished:
            self.board.close()

    def report(self, state: TrainState, seconds_left: float = 0.0) -> None:
        """Write pictures of predictions and call the `Watch` function, if `config.report_every` is set."""
        if self.folder is None or self.run.config.report_every is None:
            return
        seen = previews(self.run, self.train_step.decisive)
        self.board.pictures(seen, self.run.classes, state.epoch)
        if self.watch is not None:
            self.watch(Progress(self.run, self.folder.progress, state.records, seen, seconds_left))


class TensorBoardLogger:
    """Writes TensorBoard events to ``folder``. TensorBoard will ignore older events of epochs after ``epochs``."""

    def __init__(self, folder: Path, epochs: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=epochs + 1)

    def write(self, record: dict[str, Any]) -> None:
        for name, value in record.items():
            if isinstance(value, float):
                self._writer.add_scalar(name.replace("_", "/", 1), value, record["epoch"])
        self._writer.flush()

    def pictures(self, seen: list[Preview], classes: ClassTable, epoch: int) -> None:
        for preview in seen:
            self._writer.add_image(f"predictions/{preview.name}", preview.strip(classes), epoch, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def percent(share: float) -> str:
    """A score from 0 to 1 as text in percent. Only texts for people use percent; files have numbers from 0 to 1."""
    return f"{100 * share:.1f} %"


def best_of(records: list[dict[str, Any]]) -> str:
    """The score of the best epoch, as text."""
    best = max((record for record in records if "val_class_iou" in record), key=decisive_score)
    averaged = " of averaged weights" if "val_average_class_iou" in best else ""
    return f"best validation class IoU{averaged} {percent(decisive_score(best))}"


def duration(seconds: float) -> str:
    """Seconds as text, in a suitable unit."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def one_line(record: dict[str, Any], better: bool, seconds_left: float) -> str:
    """The record of an epoch as one line of text, with the time until the end of the run."""
    line = f"epoch {record['epoch']:4d}  loss {record['train_loss']:.4f}"
    line += f"  train class IoU {percent(record['train_class_iou'])}"
    if "val_class_iou" in record:
        line += f"  val class IoU {percent(record['val_class_iou'])}"
        if "val_average_class_iou" in record:
            line += f" (averaged weights {percent(record['val_average_class_iou'])})"
        line += f"  val pixel accuracy {percent(record['val_pixel_accuracy'])}"
        line += "  best" if better else ""
    rates = f"loader {record['loader_images_per_second']:.1f}, steps {record['step_images_per_second']:.1f} images/s"
    left = f"; about {duration(seconds_left)} left" if seconds_left else ""
    return f"{line}  ({record['train_seconds']:.0f} s; {rates}{left})"
