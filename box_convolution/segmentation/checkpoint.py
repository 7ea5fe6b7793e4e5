"""Checkpoints: plain types only, written atomically, checked before a value in them is believed.

A checkpoint is one dictionary in PyTorch's zip format:
    format     1
    network    {"name", "num_classes", "input_size", "options"}: what `networks.create` needs
    classes    the class table; config: the `TrainConfig` of the run
    model      state dict
    training   optimiser, random generators, position and records, for an exact resume; None in `best.pt`
    scores     of the last validation
"""

import math
import zipfile
from pathlib import Path
from typing import Any

import torch

from .config import TrainConfig, from_plain
from .files import write_atomic

FORMAT = 1
FIELDS = {"format": int, "network": dict, "classes": dict, "config": dict, "model": dict, "scores": dict}


class CheckpointError(ValueError):
    """A file is not a usable checkpoint; the message names it and the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint in place of ``path``. Raises OSError, with the old file intact."""
    write_atomic(path, lambda file: torch.save({"format": FORMAT, **content}, file))


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Raises CheckpointError for a file that is damaged or something else.

    No code in the file is ever run; every byte of content is compared with its checksum, because torch itself does not.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(path, "no such file")
    if not path.is_file():
        raise CheckpointError(path, "not a file")
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
            damaged = None if packed else archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise CheckpointError(path, f"not a checkpoint, or cut off ({error or type(error).__name__})") from error
    if packed:
        raise CheckpointError(path, f"entry {packed[0]!r} is compressed, which no checkpoint of ours is")
    if damaged:
        raise CheckpointError(path, f"damaged: the content of {damaged!r} does not match its checksum")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch reports unreadable files by a dozen exception types
        reason = str(error).split("\n")[0][:200]
        raise CheckpointError(path, f"not a checkpoint of plain values ({type(error).__name__}: {reason})") from error
    _check(path, content)
    checked: dict[str, Any] = content
    return checked


def _check(path: Path, content: Any) -> None:
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise CheckpointError(path, "not a checkpoint of boxconv: it has no field 'format'")
    if content["format"] > FORMAT:
        raise CheckpointError(path, f"format {content['format']} of a later version; this one reads up to {FORMAT}")
    for name, kind in FIELDS.items():
        if not isinstance(content.get(name), kind):
            raise CheckpointError(
                path, f"field {name!r} should be of type {kind.__name__}, got {content.get(name)!r:.80}"
            )
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
        lines = [line.strip() for line in str(error).splitlines()[1:4]]
        raise CheckpointError(path, "its weights do not fit the network: " + " ".join(lines)) from error


def settings(content: dict[str, Any], path: Path) -> TrainConfig:
    """Settings of the run that wrote the checkpoint. Raises CheckpointError where this version does not know them."""
    try:
        return from_plain(content["config"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(path, f"its settings cannot be read: {error}") from error
