"""How far a unit of a network sees ("Receptive fields analysis" in section 4 of the paper).

The gradient response map of position (p, q) at a level of N channels y_i is
    M(x, y) = 1/N sum_i || d y_i(p, q) / d image(x, y) ||,
and the cumulative gradient energy E(r) is the share of its sum in the square of 2r + 1 pixels around (p, q), clipped to
the image. Following the formula, each channel of each position needs a backward pass. A batch of images shares the
forward pass, and each backward pass is for one unit in all images of the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .evaluation_mode import evaluation_mode


@dataclass(frozen=True)
class ReceptiveField:
    """The mean curve E(r) of a level.

    Attributes:
        level: name of the module whose output is analysed; "" is the network's output.
        channels: N. size: (h, w) of the level's map.
        energy: (R + 1,) float64, E(r) for r = 0 ... R pixels of the image; the last is 1.
        spread: (R + 1,) standard deviation between positions.
        curves: number of positions averaged. dead: number of positions left out, because no channel had a gradient.
    """

    level: str
    channels: int
    size: tuple[int, int]
    energy: Tensor
    spread: Tensor
    curves: int
    dead: int

    def radius(self, share: float) -> int:
        """The smallest r with E(r) >= share."""
        return int((self.energy >= share - 1e-9).nonzero()[0])


def receptive_field(
    model: nn.Module,
    images: Tensor,
    positions: Tensor,
    *,
    level: str = "",
    batch_size: int = 4,
    advance: Callable[[int], object] = lambda positions: None,
) -> ReceptiveField:
    """E(r), averaged over images and positions. The network is not changed: weights, modes, gradients.

    Args:
        images: (N, channels, h, w), as input for the network.
        positions: (N, P, 2), rows and columns in pixels, for example from `draw_positions`.
        level: as in `ReceptiveField`. In the ENet family, "stage1.1" is what the paper calls the first 7 blocks.
        batch_size: images that share a backward pass; 2 to 8 are equally fast on a CPU.
        advance: called with the number of positions, of N * P, that have just been finished, for a progress bar.

    Raises:
        ValueError: shapes do not fit, the network has no such level, or no position has a gradient.
    """
    curves, channels, size = [], 0, (0, 0)
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        responses, channels, size = gradient_responses(
            model, images[batch], positions[batch], level=level, advance=advance
        )
        curves.append(cumulative_energy(responses, positions[batch]).flatten(0, 1))
    energy = torch.cat(curves)
    alive = energy.isfinite().all(1)
    if not alive.any():
        raise ValueError(f"level {level!r}: none of the {len(energy)} positions has a gradient to the image")
    kept = energy[alive]
    return ReceptiveField(
        level, channels, size, kept.mean(0), kept.std(0, correction=0), len(kept), len(energy) - len(kept)
    )


def draw_positions(images: int, per_image: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Random positions (images, per_image, 2), rows and columns, uniform over images of ``size`` (h, w).

    The same arguments give the same positions, so that all networks can be asked about the same ones.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(extent, (images, per_image), generator=generator) for extent in size], -1)


def gradient_responses(
    model: nn.Module,
    images: Tensor,
    positions: Tensor,
    *,
    level: str = "",
    advance: Callable[[int], object] = lambda positions: None,
) -> tuple[Tensor, int, tuple[int, int]]:
    """Gradient response maps (N, P, h, w), float64, with the number of channels and the size (h', w') of the level.

    The norm over the channels of the image is Euclidean. At a level of lower resolution, the unit of a pixel is at
    ``position // stride``, with the stride between image and level rounded to a whole number.
    """
    if images.ndim != 4 or positions.shape != (len(images), positions.shape[1], 2):
        raise ValueError(
            f"images must be (N, channels, h, w) and positions (N, P, 2), got {tuple(images.shape)} and "
            f"{tuple(positions.shape)}"
        )
    h, w = images.shape[2:]
    with evaluation_mode(model):
        image = images.detach().clone().requires_grad_()
        units = _output_at(model, image, level)
        channels, size = units.shape[1], (int(units.shape[2]), int(units.shape[3]))
        stride = [max(1, round(extent / n)) for extent, n in zip((h, w), size, strict=True)]
        # Padding inside the network may have shifted the last row or column.
        rows, columns = (
            (positions[..., axis] // stride[axis]).clamp(max=size[axis] - 1).to(image.device) for axis in (0, 1)
        )
        every = torch.arange(len(images), device=image.device)
        responses = torch.zeros(*positions.shape[:2], h, w, dtype=torch.float64, device=image.device)
        chosen = torch.zeros_like(units)
        for k in range(positions.shape[1]):
            for i in range(channels):
                chosen[every, i, rows[:, k], columns[:, k]] = 1
                (gradient,) = torch.autograd.grad(units, image, chosen, retain_graph=True)
                chosen[every, i, rows[:, k], columns[:, k]] = 0
                responses[:, k] += torch.linalg.vector_norm(gradient, dim=1)
            advance(len(images))
    return (responses / channels).cpu(), channels, size


def cumulative_energy(responses: Tensor, positions: Tensor) -> Tensor:
    """E(r), (..., max(h, w)) for r = 0, 1, ..., of response maps (..., h, w) around ``positions`` (..., 2).

    NaN for a map that is zero everywhere.
    """
    h, w = responses.shape[-2:]
    maps, centres = responses.reshape(-1, h, w).double(), positions.reshape(-1, 2)
    rows = (torch.arange(h) - centres[:, :1]).abs()
    columns = (torch.arange(w) - centres[:, 1:]).abs()
    rings = torch.maximum(rows[:, :, None], columns[:, None, :])  # the square of radius r is the rings 0 ... r
    mass = torch.zeros(len(maps), max(h, w), dtype=torch.float64).scatter_add_(1, rings.flatten(1), maps.flatten(1))
    energy = mass.cumsum(1) / mass.sum(1, keepdim=True)
    return energy.reshape(*responses.shape[:-2], max(h, w))


def _output_at(model: nn.Module, image: Tensor, level: str) -> Tensor:
    """Output (B, C, h', w') of the module ``level`` when ``model`` runs on ``image``."""
    modules = dict(model.named_modules())
    if level not in modules:
        raise ValueError(f"level {level!r}: the network has no module of this name; it has {_some(list(modules))}")
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> Any:
        units = output[0] if isinstance(output, tuple) else output
        if seen or not isinstance(units, Tensor):
            return None
        seen.append(units)
        # The following module gets a copy, because it may change its input in place.
        return (units.clone(), *output[1:]) if isinstance(output, tuple) else units.clone()

    handle = modules[level].register_forward_hook(keep)
    try:
        model(image)
    finally:
        handle.remove()
    if not seen or seen[0].ndim != 4 or not seen[0].requires_grad:
        raise ValueError(f"level {level!r}: expected a module whose output is (B, C, h, w) and depends on the image")
    return seen[0]


def _some(names: Sequence[str]) -> str:
    known = [name for name in names if name and name.count(".") <= 1]
    return ", ".join(known[:40]) + (" ..." if len(known) > 40 else "")
