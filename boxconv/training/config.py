"""Settings: every number that a training run depends on. Importing this does not import torch."""

import dataclasses
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..data.config import DataConfig, at_least, expect, option
from ..errors import UsageError

InitialBoxes = Literal["uniform", "log-uniform", "mixed"]
Optimizer = Literal["adam", "adamw", "sgd"]
Loss = Literal["weighted", "cross-entropy", "focal", "dice"]


@dataclass(frozen=True)
class TrainConfig(DataConfig):
    """A training run."""

    network: str = "boxenet"
    """One of enet, boxenet, boxenet_frozen, enet_minus, boxonlyenet, erfnet, boxerfnet, boxerfnet_frozen,
    erfnet_minus."""
    symmetric: bool = False
    """Boxes that extend equally far to the left and to the right, with three parameters each instead of four."""
    initial_boxes: InitialBoxes = "uniform"
    """Distribution of fresh boxes. uniform: the paper's; log-uniform: around the output pixel, small ones as often as
    large ones; mixed: half of each channel's boxes log-uniform, half uniform."""
    dilations: tuple[int, ...] = ()
    """Four dilations for enet instead of 2 4 8 16. Larger ones widen its receptive field without boxes."""
    dropout: tuple[float, ...] = ()
    """Dropout of plain blocks, stage by stage: two numbers. By default the paper's: 0.01 0.1 in the ENet family, 0.03
    0.3 in the ERFNet family."""
    box_dropout: tuple[float, ...] = ()
    """Dropout of box blocks, stage by stage: four numbers in the ENet family (the paper's are 0.15 0.25 0.15 0.15), two
    in the ERFNet family (by default those of its plain blocks)."""
    start_from: Path | None = None
    """Trained network to start from: a checkpoint, a run, a .safetensors file, or one from the package (boxenet-camvid,
    boxonlyenet-camvid). For other classes, the last layer starts afresh; for another size, boxes keep their size in
    pixels. --size, --mean, --std, --dropout and --box-dropout are those of the network unless they are given."""
    snap: bool = False
    """Move the boxes to whole pixel borders before training starts, and keep them there."""
    epochs: int = 30
    """Number of times that the training images are gone through."""
    batch_size: int = 8
    """Images in a step."""
    lr: float = 1e-3
    """Learning rate at the start."""
    optimizer: Optimizer = "adam"
    """adamw and sgd (momentum 0.9) need another --lr and --weight-decay than adam."""
    box_lr: float = 1.0
    """Learning rate of the boxes, as a multiple of --lr (4, not 4e-3). In a step, Adam moves an edge by up to about
    this times --lr times the network's reparametrization_factor (0.5 to 1.6) of the image."""
    weight_decay: float = 2e-4
    """L2 regularisation of all weights (section 3.1 of the paper), and of boxes without --box-weight-decay."""
    box_weight_decay: float | None = None
    """L2 regularisation of the boxes' stored coordinates; --weight-decay if left out."""
    clip: float | None = None
    """Largest norm of a step's gradient; a larger gradient is scaled down to it. No limit if left out."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, updated after every step: 0.99 averages over about the
    last 100 steps. best.pt then holds the averaged weights, and is chosen by their scores. No average if left out."""
    loss: Loss = "weighted"
    """weighted: cross-entropy with --class-balance; cross-entropy: without; focal; dice: weighted plus Dice."""
    class_balance: float = 1.10
    """c in the class weights of the loss, 1 / ln(c + share of the pixels): smaller values give rare classes more
    weight. The paper's authors use 1.10, ENet's authors 1.02."""
    schedule: Literal["poly", "step", "constant"] = "poly"
    """poly: (1 - progress)^0.9; step: times STEP_FACTOR every STEP_EPOCHS, or after each of MILESTONES."""
    step_epochs: int = 100
    """Epochs between two drops of the learning rate by --schedule step, without --milestones."""
    milestones: tuple[int, ...] = ()
    """Epochs after which --schedule step multiplies the learning rate, in ascending order."""
    step_factor: float = 0.1
    """Factor of such a drop."""
    warmup: float = 0.0
    """Epochs at the start in which the learning rate grows linearly to that of the schedule."""
    patience: int | None = None
    """Epochs without a better validation class IoU after which training stops. Never if left out."""
    flip: bool = True
    """Mirror half of the training images, left to right."""
    scale: tuple[float, float] = (0.8, 1.25)
    """Range of the random scale of training images."""
    rotate: float = 0.0
    """Largest random rotation of training images, in degrees either way."""
    blur: float = 0.0
    """Probability that a training image is blurred: 5 x 5 Gaussian, sigma 0.7 to 3."""
    brightness: float = 0.2
    """Largest relative change of brightness, and of contrast."""
    crop: tuple[int, int] | None = None
    """Height and width of the training crop; --size if left out."""
    balanced_crops: float = 0.0
    """Probability that a training crop is placed around a pixel of a class that is drawn uniformly from those in the
    image."""
    train_split: str = "train"
    """Name of the split to train on."""
    val_split: str = "val"
    """Name of the split to validate on."""
    val_every: int = 1
    """Epochs between validations; the last epoch is always validated."""
    report_every: int | None = None
    """Epochs between pictures of predictions, in TensorBoard and OUT/progress/report.html. Off if left out."""
    seed: int = 0
    """Seed of all random numbers: weights, order and changes of images, dropout."""
    device: str = "auto"
    """auto: cuda if there is one, else cpu."""
    workers: int = 0
    """Processes that load images; 0 loads in the training process."""
    accumulate: int = 1
    """Parts in which a batch goes through the network, to save memory; the gradient is that of the whole batch."""
    amp: Literal["off", "bf16", "fp16"] = "off"
    """Mixed precision: bf16, or fp16 with a loss scale that adapts itself."""
    compile: bool = False
    """Train with torch.compile's code for the network: faster steps after minutes of compiling."""
    sync_bn: bool = False
    """Under torchrun: batch normalisation with the statistics of all processes."""
    checkpoint_minutes: float = 10.0
    """Longest time in minutes between two checkpoints, also within an epoch."""
    timeout: float = 60.0
    """Under torchrun: seconds after which a process that does not answer counts as failed."""

    def check(self) -> None:
        """Raise UsageError for a value out of range."""
        super().check()
        for name in ("epochs", "batch_size", "step_epochs", "val_every", "accumulate", "patience", "report_every"):
            at_least(name, getattr(self, name), 1)
        for name in ("workers", "seed"):
            at_least(name, getattr(self, name), 0)
        for name in ("clip", "lr", "box_lr", "step_factor", "checkpoint_minutes", "timeout"):
            value = getattr(self, name)
            expect(name, value is None or 0 < value < math.inf, "a positive number", value)
        expect("warmup", 0 <= self.warmup < math.inf, "a number of epochs, at least 0", self.warmup)
        expect("warmup", self.warmup < self.epochs, f"less than --epochs {self.epochs}", self.warmup)
        for name in ("dropout", "box_dropout"):
            values = getattr(self, name)
            right = all(isinstance(value, (int, float)) and 0 <= value < 1 for value in values)
            expect(name, right, "probabilities from 0 up to 1", values)
        for name, kind in (("initial_boxes", InitialBoxes), ("optimizer", Optimizer), ("loss", Loss)):
            value = getattr(self, name)
            expect(name, value in get_args(kind), " or ".join(get_args(kind)), repr(value))
        expect("class_balance", 1 < self.class_balance < math.inf, "a number above 1", self.class_balance)
        for name in ("weight_decay", "box_weight_decay"):
            value = getattr(self, name)
            right = value is None or (isinstance(value, (int, float)) and 0 <= value < math.inf)
            expect(name, right, "a number of at least 0", repr(value))
        right = self.ema is None or (isinstance(self.ema, (int, float)) and 0 < self.ema < 1)
        expect("ema", right, "a decay between 0 and 1", repr(self.ema))
        low, high = self.scale
        expect("scale", 0 < low <= high < math.inf, "0 < low <= high", f"{low} {high}")
        right = all(before < after for before, after in itertools.pairwise((0, *self.milestones)))
        expect("milestones", right, "ascending epochs", " ".join(map(str, self.milestones)))
        expect("rotate", 0 <= self.rotate <= 45, "0 to 45 degrees", self.rotate)
        for name in ("blur", "balanced_crops"):
            expect(name, 0 <= getattr(self, name) <= 1, "a probability from 0 to 1", getattr(self, name))
        expect("brightness", 0 <= self.brightness < 1, "a number from 0 up to 1", self.brightness)
        if self.crop is not None:
            expect("crop", min(self.crop) >= 16, "at least 16 pixels", f"{self.crop[0]} {self.crop[1]}")
        most = self.batch_size
        expect("accumulate", self.accumulate <= most, f"at most --batch-size {most}", self.accumulate)

    def validates(self, epoch: int) -> bool:
        """Whether a validation follows this epoch, the first of which is 1."""
        return epoch % self.val_every == 0 or epoch == self.epochs

    def check_processes(self, count: int) -> None:
        """Raise UsageError for a value that does not fit a run in ``count`` processes."""
        if self.batch_size < self.accumulate * count:
            parts = f"{count} processes with {self.accumulate} parts each"
            raise UsageError(f"--batch-size: {self.batch_size} images are too few for {parts}")
        if self.compile and count > 1 and self.timeout < 600:
            raise UsageError(
                f"--compile: each process compiles for minutes while the others wait: expected --timeout 600 or more, "
                f"got {self.timeout:g}"
            )

    @property
    def padding(self) -> str:
        """A sentence about the padding of training crops that are larger than --size; "" if they are not."""
        if self.crop is None or (self.crop[0] <= self.size[0] and self.crop[1] <= self.size[1]):
            return ""
        h, w = self.size
        most = f"{round(self.scale[1] * h)} x {round(self.scale[1] * w)}"
        return (
            f"--crop {self.crop[0]} {self.crop[1]} is larger than --size {h} {w}: --scale enlarges images to at most "
            f"{most}, and the rest of a crop is padding"
        )


MOVABLE = (
    "root", "classes", "palette", "report_every", "device", "compile", "workers", "checkpoint_minutes", "timeout",
)  # fmt: skip
"""Run-time settings, which may change when a run is resumed."""
LENGTH = ("epochs", "patience")
"""Settings for the length of a run, which may change as well."""


def resumed(given: TrainConfig, saved: TrainConfig) -> TrainConfig:
    """Return the settings ``given`` for a resumed run, if they may differ from the ``saved`` ones.

    Run-time settings (`MOVABLE`) and the length of the run (`LENGTH`) may differ, but the run cannot get fewer epochs.
    Raises UsageError for any other difference.
    """
    for field in dataclasses.fields(TrainConfig):
        value, before = getattr(given, field.name), getattr(saved, field.name)
        if value != before and field.name not in (*MOVABLE, *LENGTH):
            raise UsageError(f"{option(field.name)}: --resume goes on with the run's {before!r}, got {value!r}")
    if given.epochs < saved.epochs:
        raise UsageError(
            f"--epochs: --resume may add epochs to the run's {saved.epochs}, not take any away, got {given.epochs}"
        )
    return given


def to_plain(config: Any) -> dict[str, Any]:
    """A configuration as strings, numbers and lists, for checkpoints and JSON; `from_plain` is the inverse."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return {
        name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }


def from_plain(values: dict[str, Any]) -> TrainConfig:
    """The inverse of `to_plain`; a setting that is missing gets its default. Raises ValueError for unknown names."""
    known = {f.name: f for f in dataclasses.fields(TrainConfig)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(unknown)}")
    restored = dict(values)
    for name, value in values.items():
        if isinstance(value, list):
            restored[name] = tuple(value)
        elif isinstance(value, str) and Path in get_args(known[name].type):
            restored[name] = Path(value)
    return TrainConfig(**restored)
