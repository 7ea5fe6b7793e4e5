"""What a box is: coordinates, scaling, initialisation, projection and snapping, as pure functions.

A set of boxes is a tensor (..., 4) of edges (top, bottom, left, right) in pixels relative to the output pixel's centre;
pixel i covers [i - 1/2, i + 1/2]. The extent (h, w) is the size of the largest image that a layer is meant for, in
pixels.
"""

import math

import torch
from torch import Tensor

EDGES = ("top", "bottom", "left", "right")
MIN_SIZE = 1.0
SIZES = ("uniform", "log-uniform", "mixed")


def scale_of(extent: float, factor: float) -> float:
    """Pixels in one unit of a stored coordinate: ``factor * extent``, rounded to a power of two.

    Adam moves every number by about its learning rate; dividing pixels by this lets it move an edge by a sensible part
    of the image. The authors divide by ``factor * extent`` itself. A power of two makes the scaling exact, so that
    stored boxes are read back to the last bit: whole pixels stay whole, sizes of 1 stay 1.
    """
    return 2.0 ** round(math.log2(factor * extent))


def per_axis(vertical: float, horizontal: float, like: Tensor) -> Tensor:
    """A number for each axis as (axis, edge) = (2, 2), beside boxes ``like`` seen as ``unflatten(-1, (2, 2))``.

    It is filled in on the device: copying it there from the host would wait for all work queued on a GPU.
    """
    numbers = (vertical, horizontal)
    return torch.stack([torch.full((2,), number, dtype=like.dtype, device=like.device) for number in numbers])


def initialise(channels: int, per_channel: int, h: int, w: int, sizes: str = "uniform") -> Tensor:
    """Random boxes (channels, per_channel, 4), float32 on the CPU, drawn from torch's global generator.

    ``sizes``, one of `SIZES`:
        uniform: as in section 3.1 of the paper. The centre is uniform in [-h/2, h/2] x [-w/2, w/2]; then height and
            width are uniform between 1 pixel and what keeps the box in that rectangle. So that a pixel fits, the centre
            stays half a pixel away from its border.
        log-uniform: as many boxes of 2 to 4 pixels as of 4 to 8, and so on. Height and width are log-uniform between 1
            pixel and the extent; the box lies anywhere about the output pixel that keeps this pixel in it.
        mixed: the first half of each channel's boxes log-uniform (of an odd number, one more), the others uniform.
    """
    if sizes not in SIZES:
        raise ValueError(f"sizes must be one of {', '.join(SIZES)}, got {sizes!r}")
    if sizes == "mixed":
        about = (per_channel + 1) // 2
        parts = initialise(channels, about, h, w, "log-uniform"), initialise(channels, per_channel - about, h, w)
        return torch.cat(parts, 1)
    random = torch.rand(4, channels, per_channel, device="cpu", dtype=torch.float64)
    edges: list[Tensor] = []
    for extent, place, size in ((h, random[0], random[1]), (w, random[2], random[3])):
        if sizes == "log-uniform":
            half = torch.exp(size * math.log(extent / MIN_SIZE)) * MIN_SIZE / 2
            middle = (2 * place - 1) * (half - MIN_SIZE / 2)
        else:
            middle = (2 * place - 1) * (extent - MIN_SIZE) / 2
            half = MIN_SIZE / 2 + size * (extent / 2 - middle.abs() - MIN_SIZE / 2)
        edges += [middle - half, middle + half]
    return torch.stack(edges, -1).float()


def project(boxes: Tensor, h: float, w: float) -> Tensor:
    """Valid boxes, as the paper projects them: clip to [-h, h] and [-w, w], widen about the middle to 1 pixel.

    A box that widening pushed over the limit is moved back, so that both constraints hold and projecting twice changes
    nothing.
    """
    extent = per_axis(h, w, boxes)
    edges = boxes.unflatten(-1, (2, 2)).clamp(-extent, extent)
    low, high = edges.unbind(-1)
    # Both steps are exact no-ops for a valid box: it is never moved by rounding.
    middle = (low + high) / 2
    limit = extent[:, 0] - MIN_SIZE / 2
    start = middle.clamp(-limit, limit) - MIN_SIZE / 2
    end = start + MIN_SIZE
    narrow = high - low < MIN_SIZE
    # Rounded to the coarser of the two edges' grids, the size is 1 to the last bit.
    low, high = torch.where(narrow, end - MIN_SIZE, low), torch.where(narrow, end, high)
    return torch.stack((low, high), -1).flatten(-2)


def is_valid(boxes: Tensor, h: float, w: float) -> Tensor:
    """(...,) bool: edges within the extent and both sizes at least 1 pixel, up to rounding of the edges. NaN is not."""
    rounding = 4 * torch.finfo(boxes.dtype).eps * max(h, w, 1)
    top, bottom, left, right = boxes.unbind(-1)
    inside = (boxes.unflatten(-1, (2, 2)).abs() <= per_axis(h, w, boxes) + rounding).flatten(-2).all(-1)
    return inside & (bottom - top >= MIN_SIZE - rounding) & (right - left >= MIN_SIZE - rounding)


def snap(boxes: Tensor, h: float, w: float) -> Tensor:
    """Edges on the nearest pixel borders (half-integers) within the extent, at least one pixel in between.

    An edge in the middle of a pixel goes down / right. A box that would vanish becomes the pixel its middle lies in.
    """
    limit = per_axis(math.floor(h) - 0.5, math.floor(w) - 0.5, boxes)
    edges = boxes.unflatten(-1, (2, 2))
    low, high = (edges.floor() + 0.5).clamp(-limit, limit).unbind(-1)
    pixel = (edges.mean(-1) + 0.5).floor().clamp(-limit[:, 0] + 0.5, limit[:, 0] - 0.5)
    vanished = high <= low
    low, high = torch.where(vanished, pixel - 0.5, low), torch.where(vanished, pixel + 0.5, high)
    return torch.stack((low, high), -1).flatten(-2)


def from_inclusive(x_min: Tensor, x_max: Tensor, y_min: Tensor, y_max: Tensor) -> Tensor:
    """Boxes from the coordinates of the authors' code, (C, M) each in pixels -> (C, M, 4).

    Theirs are inclusive pixel indices with x vertical: a single pixel is (0, 0), its edges are (-1/2, 1/2).
    """
    return torch.stack((x_min - 0.5, x_max + 0.5, y_min - 0.5, y_max + 0.5), -1)


def to_symmetric(boxes: Tensor) -> Tensor:
    """The nearest boxes that extend equally far to both sides: (..., 4) -> (..., 3) = (top, bottom, width).

    The width stays, the horizontal offset of the middle is dropped.
    """
    top, bottom, left, right = boxes.unbind(-1)
    return torch.stack((top, bottom, right - left), -1)


def from_symmetric(boxes: Tensor) -> Tensor:
    """(..., 3) = (top, bottom, width) -> (..., 4); exact and differentiable."""
    top, bottom, width = boxes.unbind(-1)
    return torch.stack((top, bottom, -width / 2, width / 2), -1)
