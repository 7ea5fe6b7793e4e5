"""From planes to pixels and back, as PyTorch itself does it."""

import pytest
import torch

from box_convolution.ops import layout


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 64, 40, 50), (0, 3, 2, 2), (2, 1, 4, 4), (3, 4, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_there_and_back(
    threads: int, shape: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    image = torch.randn(shape).to(dtype)
    last = layout.pixels(image)
    assert torch.equal(last, image)
    assert last.is_contiguous(memory_format=torch.channels_last)
    for given in (last, image, image.mT.contiguous().mT, image[:, :, ::2]):
        back = layout.planes(given)
        assert torch.equal(back, given)
        assert back.is_contiguous()
