"""The state of a run: what a checkpoint stores of it, and how it is restored exactly."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

import torch

from .config import MOVABLE, TrainConfig, to_plain
from .device import TrainingError
from .distributed import DistributedContext
from .metrics import ConfusionMatrix
from .setup import Run
from .step import TrainStep


@dataclass
class TrainState:
    """The state of a run as plain values: ``epoch`` epochs are complete, and ``step`` batches of the next one.

    best: highest validation class IoU so far; -1 before the first validation.
    loss_sum: sum of the losses of the ``step`` batches.
    seconds, step_seconds: wall time of the epoch so far, and the part of it without loading.
    """

    epoch: int = 0
    step: int = 0
    best: float = -1.0
    loss_sum: float = 0.0
    matrix: dict[str, Any] | None = None
    """Confusion matrix of the epoch's training images so far, in all processes; None at the start of an epoch."""
    seconds: float = 0.0
    step_seconds: float = 0.0
    load_seconds: float = 0.0
    """Seconds that one loading process would have needed for the images of rank 0."""
    records: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[str, Any] = field(default_factory=dict)
    """Scores of the last validation."""
    extended: list[str] = field(default_factory=list)
    """One entry for each time that epochs were added: "12 of 30" if it was after epoch 12 of a run of 30."""

    def finished(self, config: TrainConfig) -> bool:
        """Whether all epochs are complete, or training has stopped early."""
        return self.epoch >= config.epochs or self.stalled(config)

    def stalled(self, config: TrainConfig) -> bool:
        """Whether the validation class IoU has not improved in the last `config.patience` epochs; False for None."""
        if config.patience is None or not self.records or "val_class_iou" not in self.records[-1]:
            return False
        best = max((record for record in self.records if "val_class_iou" in record), key=decisive_score)
        return bool(self.records[-1]["epoch"] - best["epoch"] >= config.patience)

    def confusion(self, num_classes: int, context: DistributedContext) -> ConfusionMatrix:
        """The matrix that this process counts in. Rank 0 starts with the counts from before an interruption."""
        if self.matrix is None or not context.is_main:
            return ConfusionMatrix(num_classes)
        return ConfusionMatrix.from_state(self.matrix)


def decisive_score(record: dict[str, Any]) -> float:
    """The score by which the best epoch is chosen: validation class IoU, that of the averaged weights if there are any.

    ``record`` is that of an epoch with a validation.
    """
    return float(record.get("val_average_class_iou", record["val_class_iou"]))


def content_of(run: Run, train_step: TrainStep, state: TrainState, *, resumable: bool) -> dict[str, Any]:
    """The content of a checkpoint: everything for an exact resume, or, if not ``resumable``, the weights for inference.

    Raises TrainingError if the weights are not finite.
    """
    if not train_step.finite():
        raise TrainingError(
            f"weights are not finite (epoch {state.epoch + 1}, step {state.step}): they were not saved, and the "
            "checkpoints are those of before: try a lower --lr"
        )
    place = {name: value for name, value in vars(state).items() if name != "scores"}
    training = {**train_step.state(), "state": place, "environment": _environment(run)}
    return {
        "network": run.network,
        "classes": run.classes.to_dict(),
        "config": to_plain(run.config),
        "model": (run.model if resumable else train_step.decisive).state_dict(),
        "scores": state.scores,
        "training": training if resumable else None,
    }


def restore(run: Run, train_step: TrainStep, content: dict[str, Any]) -> tuple[TrainState, str]:
    """Restore a run from the content of its ``last.pt``.

    Returns its state, and text that names the differences of environment that may change the last bits of the result;
    "" if there are none. Raises TrainingError if ``content`` cannot be resumed.
    """
    training = content["training"]
    if not isinstance(training, dict):
        raise TrainingError("the checkpoint has no training state: resume from last.pt, not from best.pt")
    try:
        train_step.restore(content["model"], training)
        state = TrainState(**training["state"], scores=dict(content["scores"]))
        then, planned = dict(training["environment"]), int(content["config"]["epochs"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(f"the checkpoint's training state does not fit this version: {error}") from error
    if planned != run.config.epochs:
        state.extended = [*state.extended, f"{state.epoch} of {planned}"]
    changed = {name: now for name, now in _environment(run).items() if then.get(name, now) != now}
    changes = [f"{name} {then[name]} then, {now} now" for name, now in changed.items()]
    return state, "; ".join(changes)


def _environment(run: Run) -> dict[str, Any]:
    """Everything besides the settings that the last bits of the weights depend on."""
    return {
        "processes": run.context.world_size,
        "threads": torch.get_num_threads(),
        "device": run.device.type,
        "compile": run.config.compile,
        "torch": str(torch.__version__),
    }


def fingerprint(run: Run, state: TrainState) -> str:
    """Hash of everything that must be the same in all processes."""
    settings = {name: value for name, value in to_plain(run.config).items() if name not in MOVABLE}
    shapes = [[name, list(value.shape)] for name, value in run.model.state_dict().items()]
    parts = [settings, run.network, run.images, run.class_weight.tolist(), shapes, state.epoch, state.step]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
