"""How far two networks are apart: told so that rounding alone is no difference."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..torch_internals import tree_leaves

INPUTS = 5  # random ones of each size, that two networks are compared on
TOLERANCE = 1e-4  # of the range of an output
SHARE = 0.01  # of the pixels that may differ by more in two networks that agree


def sizes_to_compare(h: int, w: int) -> list[tuple[int, int]]:
    """For a network that takes any size: (h, w), and two others."""
    return [(h, w), (max(16, h // 2 + 3), max(16, w // 2 + 5)), (max(16, h * 3 // 4), max(16, w * 2 // 3 + 1))]


def differences(
    network: Callable[..., Any], other: Callable[..., Any], examples: Sequence[tuple[Tensor, ...]]
) -> Iterator[tuple[float, float]]:
    """How far two networks are apart, on random inputs like each of ``examples``: in the median one of `INPUTS`.

    Yields the largest difference of outputs as a share of their range, and the share of pixels where any channel
    differs by more than `TOLERANCE` of it. Rounding alone makes the latter large in some images, in networks that pool
    with indices: where two pixels are equally bright, it decides which of them is the maximum that is put back later,
    and boxes carry that far. It does the same to one network in float32 and float64. Another network differs in every
    image.
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
    """What is no image, such as indices, stays as it is."""
    return torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor


def _tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def _apart(expected: Tensor, actual: Tensor) -> tuple[float, float]:
    """Share of pixels beyond the tolerance, and the largest difference."""
    if expected.shape != actual.shape:
        return 1.0, math.inf
    expected, actual = expected.double(), actual.double()
    scale = (expected.max() - expected.min()).clamp_min(torch.finfo(torch.float32).tiny)
    error = ((expected - actual).abs() / scale).nan_to_num(math.inf)
    pixels = error.amax(1) if error.ndim == 4 else error
    return (pixels > TOLERANCE).double().mean().item(), error.max().item()
