"""Export deployed networks to files with everything that inference needs: PyTorch's exported programs.

Metadata is a dictionary of plain values that travels in the file as JSON, and comes back when it is opened.
"""

import copy
import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..networks.padding import PaddedNetwork, cropped
from .agreement import SHARE, TOLERANCE, differences
from .standard_layers import in_standard_operations
from .standard_operators import decompositions

KEY = "box_convolution"
_MULTIPLE = PaddedNetwork.MULTIPLE


class ExportError(ValueError):
    """A network cannot be exported or its file not be opened; the message names the file and the reason."""


class Multiples(nn.Module):
    """The network for images whose sizes are multiples of 8: it pads, crops and copies nothing."""

    def __init__(self, network: PaddedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network.logits(image)


class AnySize(Multiples):
    """The network as one graph for all sizes: does what `PaddedNetwork.forward` does, but without branches."""

    def forward(self, image: Tensor) -> Tensor:
        h, w = image.shape[2], image.shape[3]
        for dim, size in ((2, h), (3, w)):
            padded = (size + _MULTIPLE - 1) // _MULTIPLE * _MULTIPLE
            image = image.index_select(dim, torch.arange(padded, device=image.device).clamp(max=size - 1))
        return super().forward(image)[:, :, :h, :w]


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


def save_program(
    network: PaddedNetwork, path: Path, metadata: dict[str, Any], *, standard_operators: bool = False
) -> None:
    """Write ``network``, which `deploy` returned, as an exported program, which `torch.export.load` reads.

    The program takes images (batch, in_channels, height, width) and returns logits of the same size. The batch may be
    up to 1024; height and width are multiples of 8, from 16 to 32,768. It calls the operators of this package, which
    must be imported before the file is loaded. With ``standard_operators`` it calls only PyTorch's operators: that is
    slower, but neither the file nor what is compiled from it ahead of time needs this package.
    """
    from torch.export import Dim, export, save

    steps = {axis: Dim(axis, min=2, max=4096) for axis in ("height", "width")}
    sizes = {0: Dim("batch", max=1024), 2: _MULTIPLE * steps["height"], 3: _MULTIPLE * steps["width"]}
    image = torch.zeros(2, network.in_channels, 8 * _MULTIPLE, 12 * _MULTIPLE)
    exported: nn.Module = Multiples(network)
    if standard_operators:
        exported = in_standard_operations(copy.deepcopy(exported), None)
    with quiet():
        program = export(exported, (image,), dynamic_shapes=(sizes,), strict=False)
        if standard_operators:
            program = program.run_decompositions(decompositions())
        more = {KEY: json.dumps({**metadata, "torch": torch.__version__})}
        with open(path, "wb") as file:  # given the path, PyTorch would write the file's name into the file
            save(program, file, extra_files=more)


def open_program(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Open a file of `save_program`; return the network and the metadata.

    Raises ExportError if the file is damaged, of another kind, or of a torch version that this one cannot read.
    """
    from torch.export import load

    extra = {KEY: ""}
    try:
        with quiet():
            program = load(str(path), extra_files=extra)
    except Exception as error:  # a damaged file raises anything from zipfile, json and torch
        why, made_with = reason(error), _torch_of(path)
        if made_with not in (None, torch.__version__):
            raise ExportError(
                f"{path}: was made with torch {made_with}, and torch {torch.__version__} cannot read it ({why}); "
                "use that version here, or export the network again with this one"
            ) from error
        raise ExportError(f"{path}: not a usable exported program ({why})") from error
    name = program.graph_signature.user_inputs[0]
    image = next(node for node in program.graph.nodes if node.name == name)
    about = metadata_of(path, extra[KEY])
    about.pop("torch", None)
    return Opened(program.module(), image.meta["val"].shape[1]), about


def _torch_of(path: Path) -> str | None:
    """Return the torch version that made a file of `save_program`, even if this PyTorch cannot read the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.rpartition("/")[2] == KEY)
            version = json.loads(archive.read(name)).get("torch")
            return None if version is None else str(version)
    except (OSError, ValueError, StopIteration, AttributeError, zipfile.BadZipFile):
        return None


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
