"""Halving and doubling the resolution: the blocks that the families share."""

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import max_pool2d


@fx.wrap
def halve(image: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H/2, W/2): max pooling over 2 x 2 pixels, for even H and W.

    In inference on the CPU it is computed as two maxima of slices: for an image of 3 channels this takes a tenth of the
    time. Not in training, because gradients would differ where pixels are equal: pooling gives all to one pixel.
    """
    recorded = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
    if image.device.type != "cpu" or recorded:
        return max_pool2d(image, 2)
    rows = torch.maximum(image[:, :, ::2], image[:, :, 1::2])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


class ConvBesidePool(nn.Module):
    """(B, n, H, W) -> (B, m, H/2, W/2): m - n filters of 3x3 beside the pooled input, BatchNorm, dropout, ``act``.

    If n is more than half of m, too few filters would be left: then there are m filters, and no pooled input.
    """

    def __init__(self, channels_in: int, channels_out: int, act: nn.Module, *, eps: float, dropout: float = 0.0):
        super().__init__()
        self.beside = channels_in <= channels_out // 2
        filters = channels_out - channels_in if self.beside else channels_out
        self.conv = nn.Conv2d(channels_in, filters, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(channels_out, eps=eps)
        self.dropout = nn.Dropout2d(dropout)
        self.act = act

    def forward(self, input: Tensor) -> Tensor:
        filtered = self.conv(input)
        if self.beside:
            filtered = torch.cat((filtered, halve(input)), 1)
        output: Tensor = self.act(self.dropout(self.norm(filtered)))
        return output


def deconv3x3(channels_in: int, channels_out: int) -> nn.ConvTranspose2d:
    """Make a transposed convolution that doubles the resolution: (B, n, H, W) -> (B, m, 2H, 2W)."""
    return nn.ConvTranspose2d(channels_in, channels_out, 3, stride=2, padding=1, output_padding=1)
