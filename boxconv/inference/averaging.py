"""Test-time augmentation: probabilities averaged over several views of an image."""

from torch import Tensor, nn
from torch.nn.functional import interpolate

from .options import MULTIPLE, SMALLEST

SCALES = (0.75, 1.0, 1.25)


def averaged(model: nn.Module, images: Tensor) -> Tensor:
    """Mean probabilities (B, K, h, w) of ``images`` (B, C, h, w) at each of `SCALES`, as they are and mirrored.

    Scaled sizes are rounded to multiples of 8, so that the network need not pad.
    """
    size = images.shape[2:]
    total: Tensor | None = None
    for scale in SCALES:
        seen = _resized(images, [max(SMALLEST, round(side * scale / MULTIPLE) * MULTIPLE) for side in size], scale)
        for mirrored in (False, True):
            probabilities = model(seen.flip(-1) if mirrored else seen).softmax(1)
            probabilities = _resized(probabilities.flip(-1) if mirrored else probabilities, list(size), scale)
            total = probabilities if total is None else total.add_(probabilities)
    assert total is not None
    return total.div_(2 * len(SCALES))


def _resized(images: Tensor, size: list[int], scale: float) -> Tensor:
    """Images resized to ``size``; at scale 1 the images themselves, whose size need not be a multiple of 8."""
    if scale == 1:
        return images
    shrinks = size[0] < images.shape[2]
    return interpolate(images, size, mode="bilinear", align_corners=False, antialias=shrinks)
