"""What exported files of both kinds have in common: metadata, errors, and the comparison with the network.

Metadata is a dictionary of plain values that travels in the file as JSON, and comes back when it is opened.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..networks.padding import PaddedNetwork, cropped
from .agreement import SHARE, TOLERANCE, differences

KEY = "box_convolution"
"""Name of the metadata in a file."""


class ExportError(ValueError):
    """A network cannot be exported or its file not be opened; the message names the file and the reason."""


class Multiples(nn.Module):
    """The network for images whose sizes are multiples of 8: it pads, crops and copies nothing."""

    def __init__(self, network: PaddedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network.logits(image)


class Opened(PaddedNetwork):
    """A network from a file, called like any other. With ``fixed_size`` (h, w), the file is for images of that size."""

    def __init__(self, run: Any, in_channels: int, fixed_size: tuple[int, int] | None = None) -> None:
        super().__init__(in_channels)
        self.fixed_size = fixed_size
        self.run = [run]  # in a list, because an exported program is a module that does not allow eval()

    def logits(self, image: Tensor) -> Tensor:
        logits: Tensor = self.run[0](image)
        return logits

    def forward(self, image: Tensor) -> Tensor:
        if self.fixed_size is None:
            return super().forward(image)
        batch = image[None] if image.ndim == 3 else image
        if batch.shape[1:] != (self.in_channels, *self.fixed_size):
            expected = ", ".join(map(str, (self.in_channels, *self.fixed_size)))
            raise ValueError(f"image must have shape (batch, {expected}), got {list(image.shape)}")
        return cropped(self.logits(batch), image)


def compared(
    network: Callable[..., Any], file: Callable[..., Any], examples: Sequence[tuple[Tensor, ...]], path: Path
) -> float:
    """Return the largest difference of outputs, as a share of their range, on inputs like ``examples``.

    See :func:`.agreement.differences`. Raises ExportError if ``file``, which is to become ``path``, computes something
    else than the network.
    """
    largest, share = max(differences(network, file, examples), key=lambda found: found[::-1])
    if not share <= SHARE:
        raise ExportError(
            f"{path}: not written: the file's outputs differ from the network's, by {largest:.1e} of their range, "
            f"and by more than {TOLERANCE:g} in {share:.1%} of the pixels"
        )
    return largest


def metadata_of(path: Path, text: str | bytes | None) -> dict[str, Any]:
    """Parse the metadata of a file. Raises ExportError if there is none."""
    if not text:
        raise ExportError(f"{path}: was not written by boxconv export: it does not say what its classes are")
    content: dict[str, Any] = json.loads(text)
    return content


def reason(error: BaseException) -> str:
    """Return one line of the many that PyTorch's exporter writes: the first of the original cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters, which warn about their own internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
