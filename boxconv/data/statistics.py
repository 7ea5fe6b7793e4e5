"""Mean and standard deviation of the channels of images, by which they are normalised."""

from typing import Any

import torch

from .transforms import unit_range

MOST_IMAGES = 200


def channel_statistics(data: Any, most: int = MOST_IMAGES) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of the images of a data set without a transform, 0 to 1: ``most`` of them, evenly chosen. Five decimals.

    A channel that is the same everywhere is given a deviation of 1.
    """
    length = len(data)
    count = min(length, most)
    sums = squares = torch.zeros((), dtype=torch.float64)
    pixels = 0
    for i in range(count):
        image = unit_range(data[i * length // count][0]).double().flatten(1)
        pixels += image.shape[1]
        sums, squares = sums + image.sum(1), squares + image.square().sum(1)
    mean = sums / pixels
    std = (squares / pixels - mean.square()).clamp(min=0).sqrt()
    std[std < 1e-5] = 1.0
    return tuple(round(value, 5) for value in mean.tolist()), tuple(round(value, 5) for value in std.tolist())
