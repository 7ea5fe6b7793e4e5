"""Where a run stands: what a checkpoint holds of it, and taking it up again, to the last bit."""

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
    """Where a run stands, as plain values: ``step`` batches of epoch ``epoch`` are done."""

    epoch: int = 0
    step: int = 0
    best: float = -1.0
    loss_sum: float = 0.0
    matrix: dict[str, Any] | None = None
    """Of the epoch's training images so far, in all processes; None at its beginning."""
    seconds: float = 0.0
    step_seconds: float = 0.0
    load_seconds: float = 0.0
    """Seconds that one loading process would have needed for rank 0's images."""
    records: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[str, Any] = field(default_factory=dict)
    """Of the last validation."""
    extended: list[str] = field(default_factory=list)
    """"12 of 30" for epochs that were added after 12 epochs to a run of 30."""

    def finished(self, config: TrainConfig) -> bool:
        """Whether there is nothing left to do."""
        return self.epoch >= config.epochs or self.stalled(config.patience)

    def stalled(self, patience: int | None) -> bool:
        """Whether the last ``patience`` epochs brought no better validation."""
        if patience is None or not self.records or "val_class_iou" not in self.records[-1]:
            return False
        best = max((record for record in self.records if "val_class_iou" in record), key=decisive_score)
        return bool(self.records[-1]["epoch"] - best["epoch"] >= patience)

    def confusion(self, num_classes: int, context: DistributedContext) -> ConfusionMatrix:
        """This process's part of the matrix: rank 0 has what was counted before an interruption."""
        if self.matrix is None or not context.is_main:
            return ConfusionMatrix(num_classes)
        return ConfusionMatrix.from_state(self.matrix)


def decisive_score(record: dict[str, Any]) -> float:
    """The score of a validated epoch by which the best one is chosen: of the averaged weights where there are some."""
    return float(record.get("val_average_class_iou", record["val_class_iou"]))


def content_of(run: Run, train_step: TrainStep, state: TrainState, *, resumable: bool) -> dict[str, Any]:
    """A checkpoint: all that an exact resume needs, or, not ``resumable``, the weights for inference.

    Raises TrainingError for weights that are not finite.
    """
    if not train_step.finite():
        raise TrainingError(
            f"weights are not finite (epoch {state.epoch + 1}, step {state.step}): they were not saved, and the "
            "checkpoints are those of before: try a lower --lr"
        )
    averaged = None if resumable else train_step.averaged()
    place = {name: value for name, value in vars(state).items() if name != "scores"}
    training = {**train_step.state(), "state": place, "environment": _environment(run)}
    return {
        "network": run.network,
        "classes": run.classes.to_dict(),
        "config": to_plain(run.config),
        "model": (run.model if averaged is None else averaged).state_dict(),
        "scores": state.scores,
        "training": training if resumable else None,
    }


def restore(run: Run, train_step: TrainStep, content: dict[str, Any]) -> tuple[TrainState, str]:
    """Take up a run where its ``last.pt`` left it; also returns in what the last bits may differ, "" for in nothing."""
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
    now = _environment(run)
    changes = [f"{name} {then.get(name)} then, {value} now" for name, value in now.items() if then.get(name) != value]
    return state, "; ".join(changes)


def _environment(run: Run) -> dict[str, Any]:
    """What the last bits of the weights depend on beside the settings."""
    return {
        "processes": run.context.world_size,
        "threads": torch.get_num_threads(),
        "device": run.device.type,
        "torch": str(torch.__version__),
    }


def fingerprint(run: Run, state: TrainState) -> str:
    """What must be the same in all processes."""
    settings = {name: value for name, value in to_plain(run.config).items() if name not in MOVABLE}
    shapes = [[name, list(value.shape)] for name, value in run.model.state_dict().items()]
    length = len(run.train_data)  # type: ignore[arg-type]
    parts = [settings, run.network, length, run.class_weight.tolist(), shapes, state.epoch, state.step]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
