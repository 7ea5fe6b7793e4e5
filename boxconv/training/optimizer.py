"""The optimiser. Boxes can have a learning rate and a weight decay of their own."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from box_convolution.layer import BoxConv2d

from .config import TrainConfig

MOMENTUM = 0.9  # of SGD


def create_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of a run, over all parameters of ``model``."""
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "sgd": partial(torch.optim.SGD, momentum=MOMENTUM),
    }
    return kinds[config.optimizer](parameter_groups(model, config), lr=config.lr, weight_decay=config.weight_decay)


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """All parameters as one group, or boxes in a second group if `box_lr` or `box_weight_decay` sets them apart.

    ``factor`` multiplies the learning rate of a group (`set_learning_rate`).
    """
    if config.box_weight_decay is None and config.box_lr == 1:
        return [{"params": list(model.parameters())}]
    boxes = {id(layer.scaled_boxes) for layer in model.modules() if isinstance(layer, BoxConv2d)}
    decay = config.weight_decay if config.box_weight_decay is None else config.box_weight_decay
    return [
        {"params": [p for p in model.parameters() if id(p) not in boxes]},
        {"params": [p for p in model.parameters() if id(p) in boxes], "weight_decay": decay, "factor": config.box_lr},
    ]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate for the next step: ``rate``, times the ``factor`` of each group that has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
