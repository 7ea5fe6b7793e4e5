"""Compare the outputs of two networks in a way that does not take rounding for a difference."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..torch_internals import tree_leaves

INPUTS = 5  # random inputs for each example
TOLERANCE = 1e-4  # largest difference of equal outputs, as a share of their range
NUDGE = 1e-6  # what rounding in all layers amounts to, as a share of the input
ROUNDING = 3.0
SHARE = 0.01  # two networks agree if not more than this share of the pixels differs by more than TOLERANCE


def sizes_to_compare(h: int, w: int) -> list[tuple[int, int]]:
    """Return sizes to compare a network on that takes any size: (h, w), and two others of at least 16 x 16."""
    return [(h, w), (max(16, h // 2 + 3), max(16, w // 2 + 5)), (max(16, h * 3 // 4), max(16, w * 2 // 3 + 1))]


def differences(
    network: Callable[..., Any], other: Callable[..., Any], examples: Sequence[tuple[Tensor, ...]]
) -> Iterator[tuple[float, float]]:
    """Compare two networks on random inputs like each of ``examples``.

    For each example, this draws `INPUTS` random inputs and yields the median of their results: the largest difference
    of the outputs as a share of their range, and the share of pixels where any channel differs by more than `TOLERANCE`
    of the range. The share is 0 if rounding explains the difference: if the outputs differ no more, on average, than
    `ROUNDING` times what ``network`` itself differs for an input that is `NUDGE` off.

    Rounding alone can make the share large in networks that pool with indices. Where two pixels are equally bright, it
    decides which of them is the maximum that is put back later, and boxes carry the difference far. This also happens
    between float32 and float64 of one network, for most inputs of some networks. The median is for the others: a
    different network differs for every input.
    """
    generator = torch.Generator().manual_seed(0)
    for example in examples:
        found = []
        for _ in range(INPUTS):
            inputs = [_random_like(tensor, generator) for tensor in example]
            nudged = [_nudged(tensor, generator) for tensor in inputs]
            with torch.inference_mode():
                expected, actual, again = (
                    [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
                    for output in (network(*inputs), other(*inputs), network(*nudged))
                )
            apart = [_apart(*pair) for pair in zip(expected, actual, strict=True)]
            noise = [_apart(*pair).mean for pair in zip(expected, again, strict=True)]
            explained = all(a.mean <= ROUNDING * n < math.inf for a, n in zip(apart, noise, strict=True))
            found.append((0.0 if explained else max(a.share for a in apart), max(a.largest for a in apart)))
        share, largest = sorted(found)[INPUTS // 2]
        yield largest, share


def _random_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Return random numbers in the shape of ``tensor``; the tensor itself if it has integers, such as indices."""
    return torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor


def _nudged(tensor: Tensor, generator: torch.Generator) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    return tensor * (1 + NUDGE * torch.randn(tensor.shape, generator=generator))


class _Apart(NamedTuple):
    """Share of pixels beyond the tolerance; the largest and the mean difference, as shares of the range."""

    share: float
    largest: float
    mean: float


def _apart(expected: Tensor, actual: Tensor) -> _Apart:
    if expected.shape != actual.shape:
        return _Apart(1.0, math.inf, math.inf)
    expected, actual = expected.double(), actual.double()
    scale = (expected.max() - expected.min()).clamp_min(torch.finfo(torch.float32).tiny)
    error = ((expected - actual).abs() / scale).nan_to_num(math.inf)
    pixels = error.amax(1) if error.ndim == 4 else error
    return _Apart((pixels > TOLERANCE).double().mean().item(), error.max().item(), error.mean().item())
