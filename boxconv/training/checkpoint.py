"""Checkpoints: plain types only, written atomically, and checked before they are used.

A checkpoint is one dictionary in PyTorch's zip format:
    format     1
    network    {"name", "num_classes", "input_size", "options"}: what `networks.create` needs
    classes    the class table; config: the `TrainConfig` of the run
    model      state dict; in the `best.pt` of a run with --ema that of the averaged weights
    training   optimiser and `TrainState` with its records, for an exact resume; None in `best.pt`
    scores     of the last validation

The zip comment holds the SHA-256 of everything before it.
"""

import io
import math
import textwrap
from pathlib import Path
from typing import Any

import torch

from ..files import write_atomic
from .checkpoint_integrity import ArchiveError, check_archive, sealed
from .config import TrainConfig, from_plain

FORMAT = 1
FIELDS = {"format": int, "network": dict, "classes": dict, "config": dict, "model": dict, "scores": dict}


class CheckpointError(ValueError):
    """A file is not a usable checkpoint; the message names it and the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint to ``path``. Raises OSError if that fails; the old file is then intact."""
    # PyTorch writes to memory, not to the file: its own errors for files name neither the path nor the reason.
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **content}, buffer)
    data = sealed(buffer.getvalue())
    write_atomic(path, data)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Raises CheckpointError for a damaged file, or one that is not a checkpoint.

    No code in the file is ever run, the tensors take no more memory than the file has bytes, and the whole file is
    compared with its checksum (`checkpoint_integrity` says why `torch.load` alone is not enough).
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(path, "no such file")
    if not path.is_file():
        raise CheckpointError(path, "not a file")
    try:
        data = path.read_bytes()  # read once, so that the bytes that are checked are the bytes that are loaded
        check_archive(data)
    except OSError as error:
        raise CheckpointError(path, f"cannot be read: {error.strerror or error}") from error
    except ArchiveError as error:
        raise CheckpointError(path, str(error)) from error
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports unreadable files by a dozen exception types
        reason = (str(error).splitlines() or [""])[0][:200]
        raise CheckpointError(path, f"not a checkpoint of plain values ({type(error).__name__}: {reason})") from error
    _check_plain(path, content, len(data))
    _check(path, content)
    checked: dict[str, Any] = content
    return checked


def _check_plain(path: Path, content: Any, size: int) -> None:
    """Raise CheckpointError unless there are only plain values and dense tensors, no larger together than the file."""
    waiting, total, values = [content], 0, 0
    while waiting:
        value = waiting.pop()
        values += 1
        if values > size:  # nested lists that repeat one another can claim exponentially many values
            raise CheckpointError(path, f"claims more values than the {size} bytes of the file")
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
                raise CheckpointError(
                    path, f"holds a tensor of layout {value.layout} on {value.device}, not a dense one"
                )
            total += value.numel() * value.element_size()
            if total > size:
                raise CheckpointError(path, f"its tensors claim more memory than the {size} bytes of the file")
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif value is not None and type(value) not in (bool, int, float, str):
            raise CheckpointError(path, f"holds a {type(value).__name__}, which no checkpoint of ours does")


def _check(path: Path, content: Any) -> None:
    if not isinstance(content, dict) or type(content.get("format")) is not int:
        raise CheckpointError(path, "not a checkpoint of boxconv: it has no field 'format'")
    if content["format"] > FORMAT:
        raise CheckpointError(path, f"format {content['format']} of a later version; this one reads up to {FORMAT}")
    for name, kind in FIELDS.items():
        if not isinstance(content.get(name), kind):
            found = type(content.get(name)).__name__
            raise CheckpointError(path, f"field {name!r} should be of type {kind.__name__}, found {found}")
    for name, tensor in content["model"].items():
        if not isinstance(tensor, torch.Tensor):
            raise CheckpointError(path, f"model weight {name!r} is not a tensor")
        if tensor.is_floating_point() and not math.isfinite(tensor.double().sum().item()):
            raise CheckpointError(path, f"model weight {name!r} holds values that are not finite")


def load_weights(model: torch.nn.Module, content: dict[str, Any], path: Path) -> None:
    """Copy the checkpoint's weights into ``model``. Raises CheckpointError naming the first tensors that do not fit."""
    try:
        model.load_state_dict(content["model"])
    except RuntimeError as error:
        lines = [textwrap.shorten(line, 200, placeholder=" ...") for line in str(error).splitlines()[1:4]]
        raise CheckpointError(path, "its weights do not fit the network: " + " ".join(lines)) from error


def settings(content: dict[str, Any], path: Path) -> TrainConfig:
    """Settings of the run that wrote the checkpoint. Raises CheckpointError if this version does not know them."""
    try:
        return from_plain(content["config"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(path, f"its settings cannot be read: {error}") from error
