"""Blend the scores of overlapping tiles of a large image, in memory that does not depend on the image's height.

The score of a pixel is a weighted mean over the tiles that contain it. The weights fall smoothly towards 0 at the edges
of a tile, except at edges of the image, because there the network sees least of a pixel's surroundings.

The memory needed is that of one tile and of the rows that are shared with the next tiles: classes x overlap x width
numbers.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..training.evaluation import Patch


class Span(NamedTuple):
    """The extent of a tile along one axis, and the weights (stop - start,) of its pixels.

    At each pixel, the weights of all tiles add up to 1.
    """

    start: int
    stop: int
    weight: Tensor


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Evenly spaced tiles that cover an axis of ``length`` pixels; neighbours share at least ``overlap`` pixels."""
    tile = min(tile, length)
    count = 1 if tile == length else math.ceil((length - overlap) / (tile - overlap))
    starts = [i * (length - tile) // max(count - 1, 1) for i in range(count)]
    windows = []
    for i, start in enumerate(starts):
        window = torch.ones(tile, dtype=torch.float64)
        if i > 0:
            window *= _rise(starts[i - 1] + tile - start, tile)
        if i + 1 < count:
            window *= _rise(start + tile - starts[i + 1], tile).flip(0)
        windows.append(window)
    total = torch.zeros(length, dtype=torch.float64)
    for start, window in zip(starts, windows, strict=True):
        total[start : start + tile] += window
    return [
        Span(start, start + tile, (window / total[start : start + tile]).float())
        for start, window in zip(starts, windows, strict=True)
    ]


def _rise(shared: int, tile: int) -> Tensor:
    """Weights (tile,) that rise from nearly 0 to 1 over the first ``shared`` pixels; with their reverse they sum to 1.

    They are never 0, so that a pixel in a single tile keeps its score.
    """
    ramp = torch.sin((torch.arange(shared, dtype=torch.float64) + 0.5) / shared * (math.pi / 2)) ** 2
    return torch.cat((ramp, ramp.new_ones(tile - shared)))


def count_tiles(size: tuple[int, int], tile: int, overlap: int) -> int:
    """Number of tiles of an image of size (h, w)."""
    return math.prod(len(spans(length, tile, overlap)) for length in size)


def blended(
    strips: Callable[[Iterable[tuple[int, int]]], Iterator[Callable[[int, int], Tensor]]],
    scores: Callable[[Tensor], Tensor],
    size: tuple[int, int],
    tile: int,
    overlap: int,
) -> Iterator[Patch]:
    """Blended scores of an image of ``size`` (h, w), as patches from top to bottom and from left to right.

    Args:
        strips: gets the rows (top, bottom) of all strips in order. For each strip it yields a function from columns
            (left, right) to that tile, (B, C, bottom - top, right - left).
        scores: from a tile to its scores (B, K, bottom - top, right - left).
    """
    rows, columns = (spans(length, tile, overlap) for length in size)
    waiting: Tensor | None = None  # (B, K, shared rows, w): scores so far of the rows that the next tiles share
    above = 0  # number of its rows in use
    read = strips([(row.start, row.stop) for row in rows])
    for (row, below), strip in zip(itertools.pairwise([*rows, None]), read, strict=True):
        assert row is not None
        done = (row.stop if below is None else below.start) - row.start
        beside: Tensor | None = None  # scores so far of the columns that this tile shares with the next one
        for column, right in itertools.pairwise([*columns, None]):
            assert column is not None
            part = scores(strip(column.start, column.stop))
            weight = row.weight[:, None] * column.weight
            part = part * weight.to(part.device)
            if beside is not None:
                part[..., : beside.shape[-1]] += beside
            stop = column.stop if right is None else right.start
            part, beside = part.split([stop - column.start, column.stop - stop], -1)
            if waiting is None:
                shared = max((a.stop - b.start for a, b in itertools.pairwise(rows)), default=0)
                waiting = part.new_empty(*part.shape[:2], shared, size[1])
            place = waiting[..., column.start : stop]
            part[:, :, :above] += place[:, :, :above]
            place[:, :, : row.stop - row.start - done] = part[:, :, done:]
            yield Patch(row.start, column.start, part[:, :, :done])
        above = row.stop - row.start - done
