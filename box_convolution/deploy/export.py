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

from ..networks.padding import PaddedNetwork
from .agreement import SHARE, TOLERANCE, differences
from .standard_layers import in_standard_operations
from .standard_operators import decompositions

KEY = "box_convolution"
_MULTIPLE = PaddedNetwork.MULTIPLE


class ExportError(ValueError):
    """A network cannot be exported or its file not be opened; the message names the file and the reason."""


class AnySize(nn.Module):
    """The network without a branch on the image's size: what `PaddedNetwork.forward` does, as one graph."""

    def __init__(self, network: PaddedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        h, w = image.shape[2], image.shape[3]
        for dim, size in ((2, h), (3, w)):
            padded = (size + _MULTIPLE - 1) // _MULTIPLE * _MULTIPLE
            image = image.index_select(dim, torch.arange(padded, device=image.device).clamp(max=size - 1))
        return self.network.logits(image)[:, :, :h, :w]


class Multiples(nn.Module):
    """The network for images whose sizes divide by 8: nothing to pad, nothing to crop, no copy."""

    def __init__(self, network: PaddedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network.logits(image)


class Opened(PaddedNetwork):
    """A network from a file: called like any other, with images of any size, or of `fixed_size` (h, w) alone."""

    def __init__(self, run: Any, in_channels: int, fixed_size: tuple[int, int] | None = None) -> None:
        super().__init__(in_channels)
        self.fixed_size = fixed_size
        self.run = [run]  # in a list: an exported program is a module, but has no evaluation mode to be put in

    def logits(self, image: Tensor) -> Tensor:
        logits: Tensor = self.run[0](image)
        return logits


def save_program(
    network: PaddedNetwork, path: Path, metadata: dict[str, Any], *, standard_operators: bool = False
) -> None:
    """Write ``network``, deployed, as an exported program, which `torch.export.load` reads.

    Image (batch, in_channels, height, width) with height and width multiples of 8, batch free; logits of the same size.
    It calls the operators of this package, which must be imported before it is loaded. With ``standard_operators`` it
    calls PyTorch's alone: slower, but the file, and what is compiled from it ahead of time, needs nothing of this
    package.
    """
    from torch.export import Dim, export, save

    steps = {axis: Dim(axis, min=2, max=4096) for axis in ("height", "width")}
    sizes = {0: Dim("batch", max=1024), 2: _MULTIPLE * steps["height"], 3: _MULTIPLE * steps["width"]}
    image = torch.zeros(2, network.in_channels, 8 * _MULTIPLE, 12 * _MULTIPLE)
    exported: nn.Module = Multiples(network)
    if standard_operators:
        exported = in_standard_operations(copy.deepcopy(exported), None)
    with quiet():
        program = export(exported, (image,), dynamic_shapes=(sizes,))
        if standard_operators:
            program = program.run_decompositions(decompositions())
        more = {KEY: json.dumps({**metadata, "torch": torch.__version__})}
        with open(path, "wb") as file:  # by its path, PyTorch would write the file's name into it
            save(program, file, extra_files=more)


def open_program(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network in a file of `save_program`, and its metadata. Raises ExportError."""
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
    """The version that a file of `save_program` was made with, read without PyTorch."""
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
    """Largest difference of outputs, as a share of their range, on inputs like ``examples``.

    See :func:`.agreement.differences`. Raises ExportError if the file, which shall be ``path``, computes something else
    than the network.
    """
    largest, share = max(differences(network, file, examples), key=lambda found: found[::-1])
    if not share <= SHARE:
        raise ExportError(
            f"{path}: not written: the file's outputs differ from the network's, by {largest:.1e} of their range, "
            f"and by more than {TOLERANCE:g} in {share:.1%} of the pixels"
        )
    return largest


def metadata_of(path: Path, text: str | bytes | None) -> dict[str, Any]:
    if not text:
        raise ExportError(f"{path}: was not written by boxconv export: it does not say what its classes are")
    content: dict[str, Any] = json.loads(text)
    return content


def reason(error: BaseException) -> str:
    """One line of what PyTorch's exporter says in many: the last cause, where it names one."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


@contextmanager
def quiet() -> Iterator[None]:
    """The exporters warn of their own insides."""
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
