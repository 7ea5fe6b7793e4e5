"""From a checkpoint to the network that it describes."""

from pathlib import Path
from typing import Any


def network_of(content: dict[str, Any], path: Path) -> Any:
    """The network of a checkpoint, with its weights."""
    from .. import networks
    from ..segmentation.checkpoint import CheckpointError, load_weights

    network = content["network"]
    try:
        model = networks.create(
            network["name"], network["num_classes"], tuple(network["input_size"]), **network["options"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(path, f"describes a network that cannot be made: {error}") from error
    load_weights(model, content, path)
    return model
