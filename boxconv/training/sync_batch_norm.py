"""Batch normalisation over all processes: with it, training is the same, to rounding, for any number of them.

PyTorch's own `SyncBatchNorm` refuses CPU tensors; this one takes all that collectives take.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """Sum over the processes, each of which has its own loss; the gradient is that of the losses' sum."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return total


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose mean and variance, in training, are those of all processes' pixels. Same state dict."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape. B may differ between the processes."""
        if not (self.training and dist.is_initialized()):
            return super().forward(input)
        values = input.float()
        pixels = input.numel() // input.shape[1]
        # Summed without gradient: how many pixels there are is no function of them.
        count = torch.tensor([float(pixels)], device=input.device)
        dist.all_reduce(count)
        # The variance from centred values, with a second collective: E[x^2] - E[x]^2 would lose its digits.
        mean = _Sum.apply(values.sum((0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum((0, 2, 3))) / count
        if self.track_running_stats:
            self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp_min(1))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            return (centred * (scale * self.weight)[:, None, None] + self.bias[:, None, None]).to(input.dtype)
        return (centred * scale[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


def synchronise(module: nn.Module) -> None:
    """Make every `nn.BatchNorm2d` in ``module`` one over all processes, keeping its weights and statistics."""
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = SyncBatchNorm2d
