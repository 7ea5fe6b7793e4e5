"""Between planes (contiguous) and pixels (channels_last).

PyTorch copies from one to the other number by number, 5 to 7 times slower than the transposition of a matrix, which it
does block by block, in one thread. An image is such a matrix: channels x pixels.
"""

import torch
from torch import Tensor

_FEW_THREADS = 4  # beyond, all threads with the slow copy are faster than one with the fast one


def planes(tensor: Tensor) -> Tensor:
    """(B, C, H, W) in any memory format -> contiguous."""
    if not _is_matrices(tensor):
        return tensor.contiguous()
    result = torch.empty_like(tensor, memory_format=torch.contiguous_format)
    _copy(tensor, result)
    return result


def pixels(tensor: Tensor) -> Tensor:
    """(B, C, H, W), contiguous -> channels_last."""
    result = torch.empty_like(tensor, memory_format=torch.channels_last)
    if _is_matrices(result):
        _copy(result, tensor, back=True)
        return result
    return result.copy_(tensor)


def _is_matrices(tensor: Tensor) -> bool:
    few = tensor.device.type == "cpu" and torch.get_num_threads() <= _FEW_THREADS
    return few and tensor.is_contiguous(memory_format=torch.channels_last) and tensor.numel() > 0


def _copy(by_pixels: Tensor, by_planes: Tensor, back: bool = False) -> None:
    b, c, h, w = by_pixels.shape
    one, other = by_pixels.permute(0, 2, 3, 1).view(b, h * w, c), by_planes.view(b, c, h * w)
    for i in range(b):
        if back:
            one[i].copy_(other[i].t())
        else:
            other[i].copy_(one[i].t())
