"""Export deployed networks to files with everything that inference needs: ONNX, and PyTorch's exported programs.

Metadata is a dictionary of plain values that travels in the file as JSON, and comes back when it is opened.
"""

import json
import logging
import math
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..extras import require
from ..networks.padding import PaddedNetwork
from .standard import decompositions

KEY = "box_convolution"
IMAGES = 5  # of each size, that an exported network is compared on
_MULTIPLE = PaddedNetwork.MULTIPLE


class ExportError(ValueError):
    """A network cannot be exported or its file not be opened; the message names the file and the reason."""


class _AnySize(nn.Module):
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


class _Multiples(nn.Module):
    """The network for images whose sizes divide by 8: nothing to pad, nothing to crop, no copy."""

    def __init__(self, network: PaddedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network.logits(image)


class _Opened(PaddedNetwork):
    """A network from a file: called like any other, with images of any size."""

    def __init__(self, run: Any, in_channels: int) -> None:
        super().__init__(in_channels)
        self.run = [run]  # in a list: an exported program is a module, but has no evaluation mode to be put in

    def logits(self, image: Tensor) -> Tensor:
        logits: Tensor = self.run[0](image)
        return logits


def save_onnx(network: PaddedNetwork, path: Path, metadata: dict[str, Any]) -> None:
    """Write ``network``, deployed, as ONNX: ``image`` (batch, in_channels, height, width) -> ``logits``.

    All sizes but the channels are free. Standard operators only; box convolutions become products with matrices of
    overlaps. Needs onnx and onnxscript: MissingPackageError without them.
    """
    require("writing ONNX", "onnx", "onnxscript")
    sizes: Any = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    # No two sizes alike, none special.
    image = torch.zeros(2, network.in_channels, 8 * _MULTIPLE - 3, 12 * _MULTIPLE - 5)
    with _quiet():
        program = torch.export.export(_AnySize(network), (image,), dynamic_shapes=(sizes,))
        program = program.run_decompositions(decompositions())
        onnx = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
            verbose=False,
        )
    assert onnx is not None
    for value in (*onnx.model.graph.inputs, *onnx.model.graph.outputs):  # PyTorch 2.6 has names of its own for them
        assert value.shape is not None
        for axis, name in {0: "batch", 2: "height", 3: "width"}.items():
            value.shape[axis] = name
    onnx.model.metadata_props[KEY] = json.dumps(metadata)
    onnx.save(str(path))


def save_program(network: PaddedNetwork, path: Path, metadata: dict[str, Any]) -> None:
    """Write ``network``, deployed, as an exported program (`torch.export.load` reads it, with this package imported).

    Image (batch, in_channels, height, width) with height and width multiples of 8, batch free; logits of the same size.
    """
    steps = {axis: Dim(axis, min=2, max=4096) for axis in ("height", "width")}
    sizes = {0: Dim("batch", max=1024), 2: _MULTIPLE * steps["height"], 3: _MULTIPLE * steps["width"]}
    image = torch.zeros(2, network.in_channels, 8 * _MULTIPLE, 12 * _MULTIPLE)
    with _quiet():
        program: ExportedProgram = torch.export.export(_Multiples(network), (image,), dynamic_shapes=(sizes,))
        more = {KEY: json.dumps({**metadata, "torch": torch.__version__})}
        with open(path, "wb") as file:  # by its path, PyTorch would write the file's name into it
            torch.export.save(program, file, extra_files=more)


def open_onnx(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network in an ONNX file, run by onnxruntime on the CPU, and its metadata. Raises ExportError."""
    require("running an ONNX file", "onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own types, which share no base
        raise ExportError(f"{path}: not a usable ONNX file ({str(error).splitlines()[0][:200]})") from error

    def run(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"image": image.numpy(force=True)})[0]).to(image.device)

    network = _Opened(run, session.get_inputs()[0].shape[1])
    return network, _metadata(path, session.get_modelmeta().custom_metadata_map.get(KEY))


def open_program(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network in a file of `save_program`, and its metadata. Raises ExportError."""
    extra = {KEY: ""}
    try:
        with _quiet():
            program = torch.export.load(str(path), extra_files=extra)
    except Exception as error:  # a damaged file raises anything from zipfile, json and torch
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        made_with = _torch_of(path)
        if made_with not in (None, torch.__version__):
            raise ExportError(
                f"{path}: was made with torch {made_with}, and torch {torch.__version__} cannot read it ({reason}); "
                "use that version here, or export the network again with this one"
            ) from error
        raise ExportError(f"{path}: not a usable exported program ({reason})") from error
    name = program.graph_signature.user_inputs[0]
    image = next(node for node in program.graph.nodes if node.name == name)
    about = _metadata(path, extra[KEY])
    about.pop("torch", None)
    return _Opened(program.module(), image.meta["val"].shape[1]), about


def _torch_of(path: Path) -> str | None:
    """The version that a file of `save_program` was made with, read without PyTorch."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.rpartition("/")[2] == KEY)
            version = json.loads(archive.read(name)).get("torch")
            return None if version is None else str(version)
    except (OSError, ValueError, StopIteration, AttributeError, zipfile.BadZipFile):
        return None


def differences(
    network: PaddedNetwork, other: nn.Module, sizes: Sequence[tuple[int, int]]
) -> Iterator[tuple[float, float]]:
    """How far two networks are apart, on random images of each of ``sizes``: in the median one of `IMAGES`.

    Yields the largest difference of logits as a share of their range, and the share of pixels where any logit differs
    by more than 1e-4 of it. Rounding alone makes the latter large in some images, in networks that pool with indices:
    where two pixels are equally bright, it decides which of them is the maximum that is put back later, and boxes carry
    that far. It does the same to one network in float32 and float64. Another network differs in every image.
    """
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        found = []
        for _ in range(IMAGES):
            image = torch.randn(1, network.in_channels, *size, generator=generator)
            with torch.inference_mode():
                logits = network(image)
                error = ((logits - other(image)).abs().amax(1) / (logits.max() - logits.min())).nan_to_num(math.inf)
            found.append(((error > 1e-4).float().mean().item(), error.max().item()))
        share, largest = sorted(found)[IMAGES // 2]
        yield largest, share


def _metadata(path: Path, text: str | bytes | None) -> dict[str, Any]:
    if not text:
        raise ExportError(f"{path}: was not written by boxconv export: it does not say what its classes are")
    content: dict[str, Any] = json.loads(text)
    return content


@contextmanager
def _quiet() -> Iterator[None]:
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
