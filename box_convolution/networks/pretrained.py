"""Trained networks that come with the package: ``networks.create("boxenet", pretrained="camvid")``.

Their files are in `box_convolution/pretrained`, beside the model card with their data, licence and scores. Needs
safetensors.
"""

from pathlib import Path
from typing import Any

from torch import nn

from . import create, weights
from .transfer import transfer

FOLDER = Path(__file__).parents[1] / "pretrained"


def available() -> list[tuple[str, str]]:
    """List the trained networks as (network, data): ("boxenet", "camvid"), ..."""
    files = sorted(FOLDER.glob("*-*.safetensors"))
    return [(name, data) for name, _, data in (file.stem.rpartition("-") for file in files)]


def file_of(name: str, data: str) -> Path:
    """Return the file of a trained network, for `weights.load`. ValueError if there is none."""
    if (name, data) not in available():
        known = ", ".join(f"{network} on {pretrained}" for network, pretrained in available())
        raise ValueError(f"pretrained must be one of the trained networks, {known}; got {name} on {data!r}")
    return FOLDER / f"{name}-{data}.safetensors"


def about(name: str, data: str) -> dict[str, Any]:
    """Return what is needed to use a trained network, as plain values.

    "classes" (names, colours, categories); "size" (h, w) of its training images; "mean" and "std" with which their red,
    green and blue were normalised; "scores" on validation images; "licence"; "network" (the arguments of `create`).
    """
    return weights.load(file_of(name, data))[1]


def fitted(
    name: str, data: str, num_classes: int | None, input_size: tuple[int, int] | None, options: dict[str, Any]
) -> nn.Module:
    """Return the trained network, adapted to other classes, channels, sizes or options; for `create`."""
    trained, content = weights.load(file_of(name, data))
    theirs = content["network"]
    if (num_classes, input_size, options) == (None, None, {}):
        return trained
    network = create(
        name,
        theirs["num_classes"] if num_classes is None else num_classes,
        tuple(theirs["input_size"]) if input_size is None else input_size,
        **{**theirs["options"], **options},
    )
    transfer(trained, network, head=num_classes in (None, theirs["num_classes"]))
    return network
