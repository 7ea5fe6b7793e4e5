"""Batch normalisation over all processes. Training is then the same, up to rounding, for any number of processes.

PyTorch's own `SyncBatchNorm` refuses CPU tensors; this one works on every device that has collectives.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """Sum over the processes. Each has its own loss; the gradient is that of the sum of all losses."""

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
    """`nn.BatchNorm2d` whose mean and variance in training are over the pixels of all processes. Same state dict."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape. B may differ between the processes."""
        if not (self.training and dist.is_initialized()):
            return super().forward(input)
        values = input.float()
        pixels = input.numel() // input.shape[1]
        # No gradient is needed: the number of pixels does not depend on their values.
        count = torch.tensor([float(pixels)], device=input.device)
        dist.all_reduce(count)
        # A second collective for the variance of centred values: E[x^2] - E[x]^2 would lose precision.
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
    """Turn every `nn.BatchNorm2d` in ``module`` into a `SyncBatchNorm2d`, in place; weights and statistics stay."""
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            child.__class__ = SyncBatchNorm2d
