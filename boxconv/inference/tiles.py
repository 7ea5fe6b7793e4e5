"""Large images in overlapping tiles, whose scores are blended, in memory that does not depend on the image's height.

A pixel's score is the mean over the tiles that it lies in, weighted by a window that falls smoothly to 0 towards the
edges of a tile (but not at those of the image), because there a network sees least around a pixel.

Besides one tile, what is held are the rows that the next tiles still add to: classes x overlap x width numbers.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..training.evaluation import Patch


class Span(NamedTuple):
    """Where a tile lies along one axis, and the weight (stop - start) of its pixels; those of all tiles add up to 1."""

    start: int
    stop: int
    weight: Tensor


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Evenly spread tiles that cover an axis, and share at least ``overlap`` pixels with the next one."""
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
    """From nearly 0 to 1 along the pixels that a tile shares with the one before it; with its reverse it adds up to 1.

    Never 0: a pixel that only one tile covers keeps its score.
    """
    ramp = torch.sin((torch.arange(shared, dtype=torch.float64) + 0.5) / shared * (math.pi / 2)) ** 2
    return torch.cat((ramp, ramp.new_ones(tile - shared)))


def count_tiles(size: tuple[int, int], tile: int, overlap: int) -> int:
    """Tiles of an image of size (h, w)."""
    return math.prod(len(spans(length, tile, overlap)) for length in size)


def blended(
    strips: Callable[[Iterable[tuple[int, int]]], Iterator[Callable[[int, int], Tensor]]],
    scores: Callable[[Tensor], Tensor],
    size: tuple[int, int],
    tile: int,
    overlap: int,
) -> Iterator[Patch]:
    """Scores of an image of ``size`` (h, w), patch by patch: rows of patches from the top, in a row from the left.

    Args:
        strips: from the rows (top, bottom) of all strips, in order, to what gives the columns left to right of each
            strip as a batch (B, C, bottom - top, right - left).
        scores: from such a tile to its scores (B, K, ..., ...).
    """
    rows, columns = (spans(length, tile, overlap) for length in size)
    waiting: Tensor | None = None  # (B, K, shared rows, w): what the tiles above say of rows that are not complete
    above = 0  # how many of its rows count
    read = strips([(row.start, row.stop) for row in rows])
    for (row, below), strip in zip(itertools.pairwise([*rows, None]), read, strict=True):
        assert row is not None
        done = (row.stop if below is None else below.start) - row.start
        beside: Tensor | None = None  # the same of the columns that this tile shares with the next one
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
