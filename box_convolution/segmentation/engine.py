"""Training: one plain loop, resumable to the last bit."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from . import checkpoint
from .box_history import BoxHistory
from .classes import VOID, ClassTable
from .config import TrainConfig, to_plain
from .evaluate import evaluate
from .interrupt import noticed
from .metrics import ConfusionMatrix
from .run_folder import RunFolder


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where and why. The last checkpoint is intact."""


class Interrupted(Exception):
    """A signal ended the run after its state was saved; ``number`` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


@dataclass
class Position:
    """Where a run stands, as plain values: ``step`` batches of epoch ``epoch`` are done."""

    epoch: int = 0
    step: int = 0
    best: float = -1.0
    loss_sum: float = 0.0
    matrix: dict[str, Any] | None = None
    seconds: float = 0.0
    records: list[dict[str, Any]] = field(default_factory=list)


def choose_device(name: str) -> torch.device:
    """``auto`` is cuda if there is one. Raises TrainingError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise TrainingError(f"--device {name}: not available here ({str(error).splitlines()[0]})") from error
    return device


class EpochBatches:
    """Batches of (epoch, index) in an order that depends on the seed and the epoch alone, from batch ``first`` on."""

    def __init__(self, length: int, batch_size: int, seed: int, epoch: int, first: int) -> None:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
        order = torch.randperm(length, generator=generator).tolist()
        batches = [order[i : i + batch_size] for i in range(0, length, batch_size)]
        self.batches = [[(epoch, index) for index in batch] for batch in batches[first:]]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def segmentation_loss(logits: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy of (B, K, h, w) against (B, h, w), void left out. 0, not NaN, where all is void."""
    total = cross_entropy(logits, label, weight, ignore_index=VOID, reduction="sum")
    valid = label != VOID
    return total / (weight[label.where(valid, 0)] * valid).sum().clamp_min(1e-12)


def train(
    model: nn.Module,
    train_data: Dataset[Any],
    val_data: Dataset[Any],
    classes: ClassTable,
    config: TrainConfig,
    folder: RunFolder,
    *,
    class_weight: Tensor,
    network: dict[str, Any],
    resume: dict[str, Any] | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Train ``model`` and return one record per epoch (what `metrics.jsonl` holds).

    Args:
        train_data: indexed by (epoch, index), yields (image (3, h, w), label (h, w)).
        val_data: yields the same for int indices.
        class_weight: (K,), weights of the loss.
        network: how the model was made; goes into the checkpoints untouched.
        resume: content of a ``last.pt``; training goes on behind its last step, with the same result, to the last bit
            on the same machine with the same number of threads, as a run that was never interrupted.

    Raises:
        Interrupted: after a signal, with ``last.pt`` written.
        TrainingError: the loss is not finite.
        OSError: a checkpoint cannot be written.
    """
    device = choose_device(config.device)
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    class_weight = class_weight.to(device)
    position = Position()
    if resume is not None:
        position = _restore(resume, model, optimizer, device)
    else:
        torch.manual_seed(config.seed)  # dropout, from here on
    folder.write_config({"config": to_plain(config), "network": network, "classes": classes.to_dict()})
    folder.write_records(position.records)
    history = BoxHistory(folder.boxes, model, position.epoch)
    board = _tensorboard(folder, position)
    length = len(train_data)  # type: ignore[arg-type]
    steps = math.ceil(length / config.batch_size)

    def state(scores: dict[str, Any], *, resumable: bool) -> dict[str, Any]:
        return {
            "network": network,
            "classes": classes.to_dict(),
            "config": to_plain(config),
            "model": model.state_dict(),
            "scores": scores,
            "training": _training_state(optimizer, position, device) if resumable else None,
        }

    scores: dict[str, Any] = dict(resume["scores"]) if resume else {}
    with noticed() as interrupt:
        while position.epoch < config.epochs:
            model.train()
            matrix = (
                ConfusionMatrix(len(classes))
                if position.matrix is None
                else ConfusionMatrix.from_state(position.matrix)
            )
            batches = EpochBatches(length, config.batch_size, config.seed, position.epoch, position.step)
            # A generator of its own: the loader's draws must not move the numbers that dropout gets.
            loader = DataLoader(
                train_data, batch_sampler=batches, num_workers=config.workers, generator=torch.Generator()
            )
            bar = tqdm(
                loader,
                desc=f"epoch {position.epoch + 1}/{config.epochs}",
                unit="batch",
                initial=position.step,
                total=steps,
                leave=False,
                disable=not progress,
            )
            started = time.monotonic()
            for keys, (images, labels) in zip(batches, bar, strict=True):
                rate = config.learning_rate((position.epoch + position.step / steps) / config.epochs)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                images, labels = images.to(device), labels.to(device)
                logits = model(images)
                loss = segmentation_loss(logits, labels, class_weight)
                value = loss.item()
                if not math.isfinite(value):
                    raise TrainingError(
                        f"the loss is {value} in epoch {position.epoch + 1}, step {position.step + 1} (learning rate "
                        f"{rate:.3g}, samples {', '.join(_name(train_data, key[1]) for key in keys)}); the weights "
                        "were left as they were, and the checkpoints are those of before: try a lower --lr"
                    )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                matrix.update(logits.detach().argmax(1), labels)
                position.step += 1
                position.loss_sum += value
                bar.set_postfix(
                    loss=f"{position.loss_sum / position.step:.3f}", mIoU=f"{_mean_iou(matrix, classes):.3f}"
                )
                if interrupt and position.step < steps:
                    position.matrix = matrix.state()
                    position.seconds += time.monotonic() - started
                    checkpoint.save(folder.last, state(scores, resumable=True))
                    raise Interrupted(interrupt.number or 0)
            bar.close()

            record: dict[str, Any] = {
                "epoch": position.epoch + 1,
                "learning_rate": rate,
                "train_loss": position.loss_sum / steps,
                "train_class_iou": _mean_iou(matrix, classes),
            }
            position.seconds += time.monotonic() - started
            if (position.epoch + 1) % config.val_every == 0 or position.epoch + 1 == config.epochs:
                scores = evaluate(
                    model,
                    val_data,
                    classes,
                    device=device,
                    batch_size=config.batch_size,
                    workers=config.workers,
                    progress=progress,
                ).scores(classes)
                names = ("class_iou", "category_iou", "class_accuracy", "pixel_accuracy", "iou")
                record |= {f"val_{name}": scores[name] for name in names}
            record["train_seconds"] = round(position.seconds, 2)
            better = "val_class_iou" in record and record["val_class_iou"] > position.best
            position = Position(
                epoch=position.epoch + 1,
                best=record["val_class_iou"] if better else position.best,
                records=[*position.records, record],
            )
            history.record(position.epoch)
            if better:
                checkpoint.save(folder.best, state(scores, resumable=False))
            checkpoint.save(folder.last, state(scores, resumable=True))
            folder.write_records(position.records)
            _report(board, record, better, progress)
            if interrupt and position.epoch < config.epochs:
                raise Interrupted(interrupt.number or 0)
    board.close()
    return position.records


def _name(data: Dataset[Any], index: int) -> str:
    return str(data.name(index)) if hasattr(data, "name") else str(index)


def _training_state(optimizer: torch.optim.Optimizer, position: Position, device: torch.device) -> dict[str, Any]:
    return {
        "optimizer": optimizer.state_dict(),
        "position": dict(vars(position)),
        "rng": torch.get_rng_state(),
        "device_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def _restore(
    content: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> Position:
    training = content["training"]
    if not isinstance(training, dict):
        raise TrainingError("the checkpoint has no training state: resume from last.pt, not from best.pt")
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(training["optimizer"])
    torch.set_rng_state(training["rng"])
    if device.type == "cuda" and training["device_rng"] is not None:
        torch.cuda.set_rng_state(training["device_rng"], device)
    return Position(**training["position"])


def _tensorboard(folder: RunFolder, position: Position) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder.tensorboard), purge_step=position.epoch + 1)


def _report(board: Any, record: dict[str, Any], better: bool, progress: bool) -> None:
    for name, value in record.items():
        if isinstance(value, float):
            board.add_scalar(name.replace("_", "/", 1), value, record["epoch"])
    board.flush()
    line = f"epoch {record['epoch']:4d}  loss {record['train_loss']:.4f}  train mIoU {record['train_class_iou']:.3f}"
    if "val_class_iou" in record:
        line += f"  val mIoU {record['val_class_iou']:.3f}  val pixels {record['val_pixel_accuracy']:.3f}"
        line += "  best" if better else ""
    if progress:
        tqdm.write(f"{line}  ({record['train_seconds']:.0f} s)")


def _mean_iou(matrix: ConfusionMatrix, classes: ClassTable) -> float:
    """0 as long as all pixels were void: there is nothing to score then."""
    return float(matrix.scores(classes)["class_iou"]) if matrix.counts.any() else 0.0
