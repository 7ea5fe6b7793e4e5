"""Training: one plain loop, resumable to the last bit, in one process or many."""

import hashlib
import json
import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..data.classes import ClassTable
from ..progress import progress_bar
from . import checkpoint
from .box_history import BoxHistory
from .config import MOVABLE, TrainConfig, to_plain
from .distributed import DistributedContext
from .evaluate import evaluate
from .interrupt import Interrupt, Interrupted, defer_signals
from .loading import EpochBatches, Loader, share
from .metrics import ConfusionMatrix
from .records import TensorBoardLogger, one_line, percent
from .run_folder import RunFolder
from .step import LossNotFinite, TrainingError, TrainStep, choose_device, segmentation_loss

SCORES = ("class_iou", "category_iou", "class_accuracy", "pixel_accuracy", "iou")

__all__ = ["Interrupted", "TrainingError", "choose_device", "segmentation_loss", "train"]


@dataclass
class TrainState:
    """Where a run stands, as plain values: ``step`` batches of epoch ``epoch`` are done."""

    epoch: int = 0
    step: int = 0
    best: float = -1.0
    loss_sum: float = 0.0
    matrix: dict[str, Any] | None = None
    seconds: float = 0.0
    step_seconds: float = 0.0
    load_seconds: float = 0.0
    """Seconds that one loading process would have needed for rank 0's images."""
    records: list[dict[str, Any]] = field(default_factory=list)


def train(
    model: nn.Module,
    train_data: Dataset[Any],
    val_data: Dataset[Any],
    classes: ClassTable,
    config: TrainConfig,
    folder: RunFolder | None,
    *,
    class_weight: Tensor,
    network: dict[str, Any],
    made_by: str = "",
    resume: dict[str, Any] | None = None,
    progress: bool = True,
    context: DistributedContext = DistributedContext(),  # noqa: B008 - frozen
) -> list[dict[str, Any]]:
    """Train ``model`` and return one record per epoch (what `metrics.jsonl` holds).

    Args:
        train_data: indexed by (epoch, index), yields (image (3, h, w), label (h, w)).
        val_data: yields the same for int indices.
        folder: where the run is kept; None in processes that are not rank 0.
        class_weight: (K,), weights of the loss.
        network: how the model was made; goes into the checkpoints untouched.
        made_by: software and machine, for ``config.json``.
        resume: content of a ``last.pt``; training goes on behind its last step, with the same result, to the last bit
            on the same machine with the same number of threads and processes, as a run that was never interrupted.

    Raises:
        Interrupted: after a signal, with ``last.pt`` written.
        TrainingError: the loss or the weights are not finite, or memory does not suffice.
        DistributedError: another process of the run is gone.
        DataError: a file cannot be read.
        OSError: a checkpoint cannot be written.
    """
    run = _Run(model, train_data, val_data, classes, config, folder, class_weight, network, context, progress)
    if resume is not None:
        run.restore(resume)
    context.require_equal("the training data, the network or the settings", run.fingerprint(class_weight))
    run.begin(made_by, new=resume is None)
    with defer_signals() as interrupt:
        while run.position.epoch < config.epochs:
            run.epoch(interrupt)
    return run.position.records


class _Run:
    """The parts of a run, and where it stands."""

    def __init__(
        self,
        model: nn.Module,
        train_data: Dataset[Any],
        val_data: Dataset[Any],
        classes: ClassTable,
        config: TrainConfig,
        folder: RunFolder | None,
        class_weight: Tensor,
        network: dict[str, Any],
        context: DistributedContext,
        progress: bool,
    ) -> None:
        self.model, self.train_data, self.val_data, self.classes = model, train_data, val_data, classes
        self.config, self.folder, self.network, self.context = config, folder, network, context
        self.progress = progress and context.is_main
        self.device = choose_device(config.device, context.local_rank)
        self.length = len(train_data)  # type: ignore[arg-type]
        self.steps = math.ceil(self.length / config.batch_size)
        self.stepper = TrainStep(model, config, class_weight, self.device, context)
        self.position = TrainState()
        self.scores: dict[str, Any] = {}
        self.saved = time.monotonic()

    def fingerprint(self, class_weight: Tensor) -> str:
        """What must be the same in all processes."""
        settings = {name: value for name, value in to_plain(self.config).items() if name not in MOVABLE}
        shapes = [[name, list(value.shape)] for name, value in self.model.state_dict().items()]
        place = self.position.epoch, self.position.step
        text = json.dumps([settings, self.network, self.length, class_weight.tolist(), shapes, place], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def begin(self, made_by: str, *, new: bool) -> None:
        """Write down what is known, and the first checkpoint: a full disk is noticed now, not after an epoch."""
        self.began, self.first_epoch = time.monotonic(), self.position.epoch
        if self.folder is not None:
            if new:
                self._save_last()
            content = {"config": to_plain(self.config), "network": self.network, "classes": self.classes.to_dict()}
            self.folder.write_config(content, made_by if self.position.epoch < self.config.epochs else "")
            self.folder.write_records(self.position.records)
            self.history = BoxHistory(self.folder.boxes, self.model, self.position.epoch)
            self.board = TensorBoardLogger(self.folder.tensorboard, self.position.epoch)

    def epoch(self, interrupt: Interrupt) -> None:
        """One epoch, or the rest of one, and the scores behind it."""
        config, context, position = self.config, self.context, self.position
        self.model.train()
        matrix = ConfusionMatrix(len(self.classes))
        if position.matrix is not None and context.is_main:
            matrix = ConfusionMatrix.from_state(position.matrix)
        batches = EpochBatches(self.length, config.batch_size, config.seed, position.epoch, position.step)
        shares = [share(batch, config.accumulate, context.rank, context.world_size) for batch in batches]
        loader = Loader(self.train_data, [part.keys for parts in shares for part in parts], workers=config.workers)
        loaded = iter(loader)
        bar = progress_bar(
            desc=f"epoch {position.epoch + 1}/{config.epochs}",
            unit="batch",
            initial=position.step,
            total=self.steps,
            shown=self.progress,
        )
        began = time.monotonic() - position.seconds
        loaded_before = position.load_seconds
        with bar:
            for batch, parts in zip(batches, shares, strict=True):
                inputs = [(*next(loaded), part.counted) for part in parts]
                moment = time.monotonic()
                stop, due = self._step(batch, inputs, matrix, interrupt)
                position.step_seconds += time.monotonic() - moment
                position.seconds = time.monotonic() - began
                position.load_seconds = loaded_before + loader.seconds
                bar.update()
                if not bar.disable:
                    mean = position.loss_sum / position.step
                    bar.set_postfix(loss=f"{mean:.3f}", mIoU=percent(_mean_iou(matrix, self.classes)))
                if stop or due:
                    self._save_halfway(self._total(matrix))
                if stop:
                    raise Interrupted(stop)
        self._finish(self._total(matrix), interrupt)

    def _step(
        self,
        batch: list[tuple[int, int]],
        inputs: list[tuple[Tensor, Tensor, bool]],
        matrix: ConfusionMatrix,
        interrupt: Interrupt,
    ) -> tuple[int, bool]:
        """Train on one batch. Returns the signal that came to any process, or 0, and whether to save."""
        position = self.position
        rate = self._learning_rate(position.step)
        due = time.monotonic() - self.saved > 60 * self.config.checkpoint_minutes
        self.stepper.seed_step(position.epoch, position.step)
        try:
            loss, results, flags = self.stepper.step(inputs, rate, (interrupt.number or 0, due))
        except LossNotFinite as error:
            samples = ", ".join(_name(self.train_data, index) for _, index in batch)
            raise TrainingError(
                f"{error} in epoch {position.epoch + 1}, step {position.step + 1} (learning rate {rate:.3g}, samples "
                f"{samples}); the weights were left as they were, and the checkpoints are those of before: "
                "try a lower --lr"
            ) from error
        for prediction, labels in results:
            matrix.update(prediction, labels)
        position.step += 1
        position.loss_sum += loss
        return int(max(number for number, _ in flags)), bool(flags[0][1])

    def _learning_rate(self, step: int) -> float:
        total = self.steps * self.config.epochs
        return self.config.learning_rate((self.position.epoch * self.steps + step) / total, 1 / total)

    def _finish(self, matrix: ConfusionMatrix, interrupt: Interrupt) -> None:
        """Score the network, write the epoch down, go on to the next."""
        config, position = self.config, self.position
        record: dict[str, Any] = {
            "epoch": position.epoch + 1,
            "learning_rate": self._learning_rate(self.steps - 1),
            "train_loss": position.loss_sum / self.steps,
            "train_class_iou": _mean_iou(matrix, self.classes),
        }
        if (position.epoch + 1) % config.val_every == 0 or position.epoch + 1 == config.epochs:
            try:
                self.scores = self._score(self.model, interrupt)
                record |= {f"val_{name}": self.scores[name] for name in SCORES}
                if (averaged := self.stepper.averaged()) is not None:
                    self.scores = self._score(averaged, interrupt)
                    record |= {f"val_average_{name}": self.scores[name] for name in SCORES}
            except Interrupted:
                self._save_halfway(matrix)
                raise
        record |= self._speeds()
        better = "val_class_iou" in record and self.scores["class_iou"] > position.best
        self.position = TrainState(
            epoch=position.epoch + 1,
            best=self.scores["class_iou"] if better else position.best,
            records=[*position.records, record],
        )
        if self.folder is not None:
            self.history.record(self.position.epoch)
            if better:
                checkpoint.save(self.folder.best, self._content(resumable=False))
            self._save_last()
            self.folder.write_records(self.position.records)
            self.board.write(record)
            if self.progress:
                print(one_line(record, better, self._seconds_left()), flush=True)
            if self.position.epoch == config.epochs:
                self.board.close()
        stop = int(max(row[0] for row in self.context.all_gather(interrupt.number or 0)))
        if stop and self.position.epoch < config.epochs:
            raise Interrupted(stop)

    def _seconds_left(self) -> float:
        """Until the end of the last epoch, at the mean pace of this process's epochs, validation included."""
        done = self.position.epoch - self.first_epoch
        return (time.monotonic() - self.began) / done * (self.config.epochs - self.position.epoch)

    def _score(self, model: nn.Module, interrupt: Interrupt) -> dict[str, Any]:
        matrix = evaluate(
            model,
            self.val_data,
            self.classes,
            device=self.device,
            batch_size=self.config.batch_size,
            workers=self.config.workers,
            progress=self.progress,
            context=self.context,
            stop=lambda: interrupt.number or 0,
        )
        return matrix.scores(self.classes)

    def _speeds(self) -> dict[str, float]:
        """How fast an epoch went, and what it waited for: a loader that is slower than the steps makes a GPU idle."""
        position = self.position
        # Rank 0 loaded 1 / size of the images, and there are size times as many loading processes: it cancels out.
        loading = position.load_seconds / max(self.config.workers, 1)
        return {
            "train_seconds": round(position.seconds, 2),
            "loader_images_per_second": round(self.length / max(loading, 1e-9), 1),
            "step_images_per_second": round(self.length / max(position.step_seconds, 1e-9), 1),
        }

    def _total(self, matrix: ConfusionMatrix) -> ConfusionMatrix:
        """Sum of the processes' matrices."""
        total = ConfusionMatrix(len(self.classes))
        total.counts = self.context.sum(matrix.counts)
        return total

    def _save_halfway(self, total: ConfusionMatrix) -> None:
        self.position.matrix = total.state()
        self._save_last()

    def _save_last(self) -> None:
        self.saved = time.monotonic()
        if self.folder is not None:
            checkpoint.save(self.folder.last, self._content(resumable=True))

    def _content(self, *, resumable: bool) -> dict[str, Any]:
        if not self.stepper.finite():
            raise TrainingError(
                f"weights are not finite (epoch {self.position.epoch + 1}, step {self.position.step}): they were not "
                "saved, and the checkpoints are those of before: try a lower --lr"
            )
        averaged = None if resumable else self.stepper.averaged()
        training = {**self.stepper.state(), "position": dict(vars(self.position)), "made_by": self._made_by()}
        return {
            "network": self.network,
            "classes": self.classes.to_dict(),
            "config": to_plain(self.config),
            "model": (self.model if averaged is None else averaged).state_dict(),
            "scores": self.scores,
            "training": training if resumable else None,
        }

    def _made_by(self) -> dict[str, Any]:
        """What the last bits of the weights depend on beside the settings."""
        return {
            "processes": self.context.world_size,
            "threads": torch.get_num_threads(),
            "device": self.device.type,
            "torch": str(torch.__version__),
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Take up a run where its ``last.pt`` left it."""
        training = content["training"]
        if not isinstance(training, dict):
            raise TrainingError("the checkpoint has no training state: resume from last.pt, not from best.pt")
        try:
            self.stepper.restore(content["model"], training)
            self.position = TrainState(**training["position"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise TrainingError(f"the checkpoint's training state does not fit this version: {error}") from error
        self.scores = dict(content["scores"])
        made_by = training.get("made_by", {})
        others = [f"{name} {made_by.get(name)} then, {now} now" for name, now in self._made_by().items()
                  if made_by.get(name) != now]  # fmt: skip
        if others and self.progress:
            print(f"going on with the same samples, but the last bits will differ ({'; '.join(others)})")


def _name(data: Dataset[Any], index: int) -> str:
    return str(data.name(index)) if hasattr(data, "name") else str(index)


def _mean_iou(matrix: ConfusionMatrix, classes: ClassTable) -> float:
    """0 as long as all pixels were void: there is nothing to score then."""
    return float(matrix.scores(classes)["class_iou"]) if matrix.counts.any() else 0.0
