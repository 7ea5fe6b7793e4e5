"""A network in one safetensors file, with what `create` needs: name, classes, input size, options.

The tensors are those of the state dict; the rest is JSON in the file's metadata, under `KEY`. Needs safetensors, which
is imported only here, by the functions that use it. Without it they raise MissingPackageError, an ImportError.
"""

import json
import operator
from pathlib import Path
from typing import Any

from torch import nn

from ..extras import require
from . import create

KEY = "box_convolution"


class WeightsError(ValueError):
    """A file is not a network of this package, or a network cannot be written as asked; the message says why."""


def save(network: nn.Module, path: str | Path, description: dict[str, Any], *, half: bool = False, **more: Any) -> None:
    """Write ``network`` to ``path``.

    Args:
        description: the arguments of `box_convolution.networks.create` that made it: ``name``, ``num_classes``,
            ``input_size`` and ``options``.
        half: store weights in half precision, for half the size; boxes and BatchNorm's statistics keep their precision.
            `load` returns single precision. WeightsError if a number is too large for half precision.
        more: further plain values to store, such as class names; `load` returns them.
    """
    require("a network in a file", "safetensors")
    from safetensors.torch import save as to_bytes

    state = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    if half:
        for name, parameter in network.named_parameters():
            if not name.endswith("scaled_boxes"):
                state[name] = parameter.detach().half().contiguous()
                if not state[name].isfinite().all():
                    raise WeightsError(f"{name} holds numbers beyond the range of half precision")
    content = json.dumps({"network": description, **more}, default=operator.index)  # NumPy integers
    Path(path).write_bytes(to_bytes(state, metadata={"format": "pt", KEY: content}))


def load(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network, in training mode on the CPU, and all stored values: {"network": its description, ...}.

    Raises WeightsError if the file is damaged or of another kind, FileNotFoundError if there is none.
    """
    require("a network in a file", "safetensors")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- it is no dictionary
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file, or damaged ({error})") from error
    if KEY not in metadata:
        raise WeightsError(f"{path}: does not say which network its weights belong to: this package did not write it")
    try:
        content: dict[str, Any] = json.loads(metadata[KEY])
        network = create_from(content["network"])
        network.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path}: describes a network that cannot be made: {error}") from error
    return network, content


def create_from(description: dict[str, Any]) -> nn.Module:
    """Create the described network, with fresh weights. KeyError, TypeError, ValueError for an invalid description."""
    size = tuple(description["input_size"])
    return create(description["name"], description["num_classes"], size, **description["options"])
