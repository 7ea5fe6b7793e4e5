"""Compare the outputs of two networks in a way that does not take rounding for a difference."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..torch_internals import tree_leaves

INPUTS = 5  # random inputs for each example
TOLERANCE = 1e-4  # largest difference of equal outputs, as a share of their range
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
    of the range.

    The median, because rounding alone can make the second number large for some inputs, in networks that pool with
    indices. Where two pixels are equally bright, rounding decides which of them is the maximum that is put back later,
    and boxes carry the difference far. This also happens between float32 and float64 of one network. A different
    network differs for every input.
    """
    generator = torch.Generator().manual_seed(0)
    for example in examples:
        found = []
        for _ in range(INPUTS):
            inputs = [_random_like(tensor, generator) for tensor in example]
            with torch.inference_mode():
                expected, actual = _tensors(network(*inputs)), _tensors(other(*inputs))
            apart = [_apart(one, another) for one, another in zip(expected, actual, strict=True)]
            found.append((max(share for share, _ in apart), max(largest for _, largest in apart)))
        share, largest = sorted(found)[INPUTS // 2]
        yield largest, share


def _random_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Return random numbers in the shape of ``tensor``; the tensor itself if it has integers, such as indices."""
    return torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor


def _tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def _apart(expected: Tensor, actual: Tensor) -> tuple[float, float]:
    """Return the share of pixels beyond the tolerance, and the largest difference as a share of the range."""
    if expected.shape != actual.shape:
        return 1.0, math.inf
    expected, actual = expected.double(), actual.double()
    scale = (expected.max() - expected.min()).clamp_min(torch.finfo(torch.float32).tiny)
    error = ((expected - actual).abs() / scale).nan_to_num(math.inf)
    pixels = error.amax(1) if error.ndim == 4 else error
    return (pixels > TOLERANCE).double().mean().item(), error.max().item()
