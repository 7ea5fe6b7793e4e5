"""What a box is: coordinates, scaling, initialisation, projection and snapping, as pure functions.

A set of boxes is a tensor (..., 4) of edges (top, bottom, left, right) in pixels relative to the output pixel's centre;
pixel i covers [i - 1/2, i + 1/2]. The extent (h, w) is the size of the largest image that a layer is meant for, in
pixels.
"""

import math

import torch
from torch import Tensor, nn

MIN_SIZE = 1.0  # pixels
SIZES = ("uniform", "log-uniform", "mixed")


def scale_of(extent: float, factor: float) -> float:
    """Return how many pixels one unit of a stored coordinate is: ``factor * extent``, rounded to a power of two.

    Adam moves every number by about its learning rate. Stored in these units, an edge moves by a sensible part of the
    image. The authors divide by ``factor * extent`` itself. A power of two makes the scaling exact, so that reading
    returns the pixels that were set, bit for bit: whole pixels stay whole, sizes of 1 stay 1.
    """
    return 2.0 ** round(math.log2(factor * extent))


_constants: dict[tuple[tuple[float, ...], torch.dtype, torch.device], Tensor] = {}


def constant(numbers: tuple[float, ...], like: Tensor) -> Tensor:
    """Return a cached tensor of ``numbers``, with the dtype and device of ``like``. Do not write to it.

    It is cached because making it takes longer than using it. It is filled on the device: copying it there from the
    host would wait for all work queued on a GPU.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if traced or type(like) not in (Tensor, nn.Parameter):
        return _filled(numbers, like)
    key = (numbers, like.dtype, like.device)
    found = _constants.get(key)
    if found is None:
        with torch.inference_mode(False):  # tensors made in inference mode cannot be used in training
            found = _filled(numbers, like)
        if _outlives_its_making(found):
            _constants[key] = found
    return found


def _filled(numbers: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.stack([torch.full((), number, dtype=like.dtype, device=like.device) for number in numbers])


def _outlives_its_making(tensor: Tensor) -> bool:
    """Whether a tensor may be cached: not if a tracer made it, or while a CUDA graph is captured."""
    if type(tensor) is not Tensor or tensor.is_meta or (tensor.is_cuda and torch.cuda.is_current_stream_capturing()):
        return False
    try:
        return tensor.data_ptr() != 0
    except RuntimeError:
        return False


def initialise(channels: int, per_channel: int, h: int, w: int, sizes: str = "uniform") -> Tensor:
    """Random boxes (channels, per_channel, 4), float32 on the CPU, drawn from torch's global generator.

    ``sizes``, one of `SIZES`:
        uniform: as in section 3.1 of the paper. The centre is uniform in [-h/2, h/2] x [-w/2, w/2], but at least half a
            pixel from the border of this rectangle. Height and width are uniform between 1 pixel and the largest size
            with which the box stays in the rectangle.
        log-uniform: as many boxes of 2 to 4 pixels as of 4 to 8, and so on. Height and width are log-uniform between 1
            pixel and the extent. The position is uniform among those in which the box contains the output pixel.
        mixed: the first half of each channel's boxes, rounded up, is log-uniform, the others are uniform.

    Raises ValueError for other ``sizes``.
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
    """Return the nearest valid boxes, as in the paper: clip to [-h, h] and [-w, w], widen about the middle to 1 pixel.

    A box that was widened beyond the limit is moved back. So both constraints hold, and projecting twice changes
    nothing.
    """
    edges = boxes.clamp(constant((-h, -h, -w, -w), boxes), constant((h, h, w, w), boxes))
    low, high = edges[..., ::2], edges[..., 1::2]
    # No step changes a valid box, not even by rounding. There are few steps, because on a GPU each of them is a kernel,
    # and a layer projects its boxes whenever they are read.
    half = MIN_SIZE / 2
    middle = torch.lerp(low, high, 0.5).clamp(
        constant((half - h, half - w), boxes), constant((h - half, w - half), boxes)
    )
    end = middle - half + MIN_SIZE
    # Both edges are now multiples of the coarser of their two floating-point steps, so the size is exactly 1.
    widened = torch.stack((end - MIN_SIZE, end), -1)
    narrow = (high - low < MIN_SIZE)[..., None]
    return torch.where(narrow, widened, edges.unflatten(-1, (2, 2))).flatten(-2)


def is_valid(boxes: Tensor, h: float, w: float) -> Tensor:
    """(...,) bool: edges within the extent, sizes at least 1 pixel, up to rounding of the edges; NaN is invalid."""
    rounding = 4 * torch.finfo(boxes.dtype).eps * max(h, w, 1)
    top, bottom, left, right = boxes.unbind(-1)
    inside = (boxes.abs() <= constant((h, h, w, w), boxes) + rounding).all(-1)
    return inside & (bottom - top >= MIN_SIZE - rounding) & (right - left >= MIN_SIZE - rounding)


def snap(boxes: Tensor, h: float, w: float) -> Tensor:
    """Move edges to the nearest pixel borders (half-integers) within the extent, at least one pixel apart.

    An edge in the middle of a pixel moves down / right. A box that would vanish becomes the pixel its middle is in.
    """
    limit = constant((math.floor(h) - 0.5, math.floor(w) - 0.5), boxes)[:, None]
    edges = boxes.unflatten(-1, (2, 2))
    low, high = (edges.floor() + 0.5).clamp(-limit, limit).unbind(-1)
    pixel = (edges.mean(-1) + 0.5).floor().clamp(-limit[:, 0] + 0.5, limit[:, 0] - 0.5)
    vanished = high <= low
    low, high = torch.where(vanished, pixel - 0.5, low), torch.where(vanished, pixel + 0.5, high)
    return torch.stack((low, high), -1).flatten(-2)


def from_inclusive(x_min: Tensor, x_max: Tensor, y_min: Tensor, y_max: Tensor) -> Tensor:
    """Convert the coordinates of the authors' code to boxes: (C, M) each, in pixels -> (C, M, 4).

    Their coordinates are inclusive pixel indices, and x is vertical: a single pixel, (0, 0), has the edges (-1/2, 1/2).
    """
    return torch.stack((x_min - 0.5, x_max + 0.5, y_min - 0.5, y_max + 0.5), -1)


def to_symmetric(boxes: Tensor) -> Tensor:
    """Return the nearest boxes that extend equally far to both sides: (..., 4) -> (..., 3) = (top, bottom, width).

    The width stays, the horizontal offset of the middle is dropped.
    """
    top, bottom, left, right = boxes.unbind(-1)
    return torch.stack((top, bottom, right - left), -1)


def from_symmetric(boxes: Tensor) -> Tensor:
    """(..., 3) = (top, bottom, width) -> (..., 4); exact and differentiable."""
    top, bottom, width = boxes.unbind(-1)
    return torch.stack((top, bottom, -width / 2, width / 2), -1)
