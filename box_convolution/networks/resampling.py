"""Halving and doubling the resolution: the blocks that the families share."""

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d


class ConvBesidePool(nn.Module):
    """(B, n, H, W) -> (B, m, H/2, W/2): m - n filters of 3x3 beside the pooled input, BatchNorm, dropout, ``act``."""

    def __init__(self, channels_in: int, channels_out: int, act: nn.Module, *, eps: float, dropout: float = 0.0):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out - channels_in, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(channels_out, eps=eps)
        self.dropout = nn.Dropout2d(dropout)
        self.act = act

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.act(self.dropout(self.norm(torch.cat((self.conv(input), max_pool2d(input, 2)), 1))))
        return output


def deconv3x3(channels_in: int, channels_out: int) -> nn.ConvTranspose2d:
    """(B, n, H, W) -> (B, m, 2H, 2W)."""
    return nn.ConvTranspose2d(channels_in, channels_out, 3, stride=2, padding=1, output_padding=1)
