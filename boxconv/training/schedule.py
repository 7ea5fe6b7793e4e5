"""The learning rate over the epochs of a run. Importing this does not import torch."""

import bisect
import math

from .config import TrainConfig


def learning_rate(config: TrainConfig, progress: float, step: float = 0.0) -> float:
    """Learning rate of a step.

    ``progress`` is the share of the run before this step, from 0 to less than 1; ``step`` is the share that it takes.
    During the warm-up the rate at the end of the step counts, so that the first step has a rate above 0.
    """
    reached = (progress + step) * config.epochs
    return _scheduled(config, progress) * (reached / config.warmup if reached < config.warmup else 1)


def _scheduled(config: TrainConfig, progress: float) -> float:
    if config.schedule == "poly":
        return config.lr * (1 - progress) ** 0.9
    if config.schedule == "step":
        # 1e-9: rounding may put the beginning of an epoch just below the whole number.
        epoch = math.floor(progress * config.epochs + 1e-9)
        passed = bisect.bisect_right(config.milestones, epoch) if config.milestones else epoch // config.step_epochs
        return config.lr * config.step_factor**passed
    return config.lr
