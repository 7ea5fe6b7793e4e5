"""Memory of the Triton kernels, full of NaN and between marks, which show what is read before it is written, or written
outside.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from box_convolution.ops.triton import launch

_FENCE, _MARK = 64, -12345.0
_memory: list[tuple[Tensor, int]] = []


def _allocate(like: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    count = torch.Size(shape).numel()
    whole = torch.full((count + 2 * _FENCE,), _MARK, dtype=dtype, device=like.device)
    whole[_FENCE : _FENCE + count] = float("nan")
    _memory.append((whole, count))
    return whole[_FENCE : _FENCE + count].view(shape)


def _allocate_in(wanted: torch.memory_format, like: Tensor) -> Tensor:
    b, c, h, w = like.shape
    if wanted == torch.channels_last:
        return _allocate(like, like.dtype, (b, h, w, c)).permute(0, 3, 1, 2)
    return _allocate(like, like.dtype, (b, c, h, w))


def check_fences() -> None:
    while _memory:
        whole, count = _memory.pop()
        mark = whole.new_tensor(_MARK)
        assert (whole[:_FENCE] == mark).all(), f"written before memory of {count} x {whole.dtype}"
        assert (whole[_FENCE + count :] == mark).all(), f"written behind memory of {count} x {whole.dtype}"


@contextmanager
def fenced() -> Iterator[None]:
    """All outputs and scratch memory of launches in the block are such memory. Raises AssertionError at its end."""
    originals = launch._empty, launch._empty_in, launch._partial, launch._scratch
    launch._empty_in = _allocate_in
    launch._empty = lambda like, shape: _allocate(like, like.dtype, shape)
    launch._partial = lambda like: _allocate(like, torch.float32, tuple(like.shape))
    launch._scratch = lambda like, count: _allocate(like, torch.float64, (count,))
    try:
        yield
    finally:
        launch._empty, launch._empty_in, launch._partial, launch._scratch = originals
    check_fences()
