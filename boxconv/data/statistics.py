"""Mean and standard deviation of the channels of images, for normalisation."""

from typing import Any

import torch

from .datasets import evenly_spaced
from .transforms import unit_range

MOST_IMAGES = 200


def channel_statistics(data: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, on a scale of 0 to 1, rounded to five digits.

    Digits, not decimals: all values of a channel may be far below 1. ``data``: a data set without a transform, of which
    at most `MOST_IMAGES` evenly spaced images are read. A constant channel gets the standard deviation 1, because
    images are divided by it.
    """
    sums = squares = torch.zeros((), dtype=torch.float64)
    pixels = 0
    for index in evenly_spaced(len(data), MOST_IMAGES):
        image = unit_range(data[index][0]).double().flatten(1)
        pixels += image.shape[1]
        sums, squares = sums + image.sum(1), squares + image.square().sum(1)
    mean = sums / pixels
    std = (squares / pixels - mean.square()).clamp(min=0).sqrt()
    std[std <= 1e-6 * mean] = 1.0  # a constant channel, but for the rounding of its sums
    return _rounded(mean), _rounded(std)


def _rounded(values: torch.Tensor) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in values.tolist())
