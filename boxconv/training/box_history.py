"""The boxes of a network, epoch by epoch: `boxes.jsonl` in the run folder.

One JSON object a line, for the state before the first epoch (0) and after each:
    {"epoch": 12, "boxes": {"stage1.1.box": [[top, bottom, left, right], ...], ...}}
in pixels of the layer's input, rounded to a thousandth; C * M boxes a layer, in the order of its output channels.
"""

import json
import os
from pathlib import Path
from typing import Any

from torch import nn

from box_convolution.layer import BoxConv2d

from ..files import write_atomic


class BoxHistory:
    """Appends the boxes of ``model``, which has been trained for ``epoch`` epochs, to the file ``path``.

    A run that continues from an earlier checkpoint first removes the lines of later epochs, and a line that a crash cut
    off, so that no epoch occurs twice. For a network without boxes, no file is written.
    """

    def __init__(self, path: Path, model: nn.Module, epoch: int) -> None:
        self.path = path
        self.layers = {name: module for name, module in model.named_modules() if isinstance(module, BoxConv2d)}
        if not self.layers:
            return
        kept = [line for line in read_history(path) if line["epoch"] <= epoch] if path.exists() else []
        text = "".join(map(_line, kept))
        write_atomic(path, text)
        if not kept or kept[-1]["epoch"] < epoch:
            self.record(epoch)

    def record(self, epoch: int) -> None:
        """Append the current boxes. Call this before the checkpoint of ``epoch`` is saved.

        If the process crashes between the two, the resumed run writes the line again. Raises OSError naming the file.
        """
        if not self.layers:
            return
        boxes = {
            name: [[round(edge, 3) for edge in box] for box in layer.boxes.detach().flatten(0, 1).double().tolist()]
            for name, layer in self.layers.items()
        }
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(_line({"epoch": epoch, "boxes": boxes}))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            reason = f"cannot write: {error.strerror}; the checkpoints are intact"
            raise OSError(error.errno, reason, str(self.path)) from error


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of ``path`` in order of epochs; a last line cut off by a crash is left out.

    Raises ValueError naming the file and line for any other line that cannot be read.
    """
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")[:-1]  # what follows the last newline is empty, or was cut off
    history = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            history.append({"epoch": int(entry["epoch"]), "boxes": dict(entry["boxes"])})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: not a line of a box history ({error})") from error
    return history


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry, separators=(",", ":")) + "\n"
