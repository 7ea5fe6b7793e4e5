"""Any image size for networks that halve the resolution three times."""

from typing import Final

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import pad

from ..argument_checks import as_int


class PaddedNetwork(nn.Module):
    """Base of the networks: pads the image to multiples of 8 below and on the right, crops the logits back.

    Input (B, in_channels, H, W), any H and W; output (B, num_classes, H, W); both without B for a single image. The
    padding repeats the border pixels, because zeros would look like an object to the network.

    On the CPU the network works in the channels_last memory format, whatever format the image has: there PyTorch pools
    ten times as fast, and transposed convolutions take half the time. The weights may have any format. On other devices
    the image's format is kept.
    """

    MULTIPLE: Final = 8

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = as_int("in_channels", in_channels, least=1)
        self.deployed = False  # by `deploy`, which lets some blocks overwrite what they read

    def logits(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) with H and W multiples of 8 -> (B, num_classes, H, W)."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        return cropped(self.logits(padded(image, self.in_channels, self.MULTIPLE)), image)


@fx.wrap
def padded(image: Tensor, channels: int, multiple: int) -> Tensor:
    """Prepare the image for `PaddedNetwork.logits`: a batch, padded to multiples, and on the CPU in channels_last."""
    # A traced graph is used for other sizes later, so it must pad even if this image needs no padding.
    traced = torch.jit.is_tracing()
    batch = image[None] if image.ndim == 3 else image
    if not traced and (batch.ndim != 4 or batch.shape[1] != channels):
        raise ValueError(f"image must have shape (batch, {channels}, height, width), got {list(image.shape)}")
    h, w = batch.shape[2], batch.shape[3]
    below, right = -h % multiple, -w % multiple
    if torch.compiler.is_compiling() and batch.requires_grad:
        # Inductor expects another memory format from the gradient of `pad` than it gets on the CPU.
        batch = _repeat_last(_repeat_last(batch, 2, below), 3, right)
    elif traced or torch.compiler.is_compiling() or below or right:
        batch = pad(batch, (0, right, 0, below), mode="replicate")
    return by_pixels(batch) if batch.device.type == "cpu" else batch


def _repeat_last(image: Tensor, axis: int, times: int) -> Tensor:
    """Append the last row or column as often as ``times`` says."""
    size = image.shape[axis]
    return image.index_select(axis, torch.arange(size + times, device=image.device).clamp(max=size - 1))


@fx.wrap
def cropped(logits: Tensor, image: Tensor) -> Tensor:
    """Crop logits (B, classes, ...) to the size of the image; without B if the image has none."""
    single = logits[0] if image.ndim == 3 else logits
    return single[..., : image.shape[-2], : image.shape[-1]]


def by_pixels(image: Tensor) -> Tensor:
    """Put (B, C, H, W) into channels_last memory, by operations that vmap supports, too."""
    return image.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def extents(input_size: tuple[int, int]) -> dict[int, tuple[int, int]]:
    """Height and width at 1/2, 1/4 and 1/8 resolution of a padded image: {2: (h, w), 4: ..., 8: ...}."""
    h, w = (-(-size // PaddedNetwork.MULTIPLE) * PaddedNetwork.MULTIPLE for size in input_size)
    return {divisor: (h // divisor, w // divisor) for divisor in (2, 4, 8)}
