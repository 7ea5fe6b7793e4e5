"""Finding a learning rate: train while the rate grows from step to step (L. N. Smith 2017, section 3.3)."""

import itertools
import math
from typing import NamedTuple

from ..progress_bar import progress_bar
from .loading import StepInputs, epoch_batches
from .setup import Run
from .step import LossNotFinite, TrainStep

LOWEST, HIGHEST = 1e-6, 1.0
STEPS = 120
DOUBLING = round((STEPS - 1) / math.log2(HIGHEST / LOWEST))
"""Number of steps in which the rate doubles."""
MEMORY = 0.9
"""Share of the previous value in each smoothed loss."""
LOST = 2.0
"""The search stops when the smoothed loss is this many times as large as its lowest value."""


class Tried(NamedTuple):
    """One step: its learning rate, and the smoothed loss of all steps up to it."""

    rate: float
    loss: float


def try_rates(run: Run, *, progress: bool = True) -> list[Tried]:
    """Train for up to `STEPS` steps while the learning rate grows exponentially from `LOWEST` to `HIGHEST`.

    Except for the rate, the steps are those of `train`: same samples, loss, optimiser and processes. They end early if
    the loss becomes large (`LOST`) or is not finite. The weights of the model are useless afterwards.

    Raises TrainingError, DistributedError and DataError like `train`.
    """
    config = run.config
    run.model.train()
    train_step = TrainStep(run.model, config, run.class_weight, run.device, run.context)
    epochs = (epoch_batches(config, run.images, epoch) for epoch in itertools.count())
    batches = itertools.islice(itertools.chain.from_iterable(epochs), STEPS)
    steps = StepInputs(run.train_data, batches, config, run.context)
    tried: list[Tried] = []
    mean = 0.0
    for step, inputs in enumerate(progress_bar(steps, desc="trying rates", unit="step", shown=progress)):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
        train_step.seed_step(0, step)
        try:
            loss, _, _ = train_step.step(inputs, rate)
        except LossNotFinite:
            break
        mean = MEMORY * mean + (1 - MEMORY) * loss
        smooth = mean / (1 - MEMORY ** (step + 1))  # removes the influence of the initial zero
        tried.append(Tried(rate, smooth))
        if smooth > LOST * min(tried, key=lambda one: one.loss).loss:
            break
    return tried


def suggested(tried: list[Tried]) -> float | None:
    """The rate at which the smoothed loss falls fastest while the rate doubles; None if it never falls."""
    falls = [one.loss - double.loss for one, double in zip(tried, tried[DOUBLING:], strict=False)]
    steepest = max(range(len(falls)), key=falls.__getitem__, default=0)
    return tried[steepest + DOUBLING // 2].rate if falls and falls[steepest] > 0 else None


def described(tried: list[Tried]) -> str:
    """Text with a line each time that the rate has doubled, and with the suggested rate."""
    lines = ["learning rate  loss", *(f"{one.rate:13.2g}  {one.loss:.3f}" for one in tried[::DOUBLING])]
    rate = suggested(tried)
    if rate is None:
        return "\n".join([*lines, "the loss never fell: no rate can be told from this"])
    return "\n".join([*lines, f"the loss fell fastest at {rate:.2g}: begin with about --lr {rate:.1g}"])
