"""The networks of box-convolution for `torch.hub`.

    torch.hub.load("FOLDER", "boxenet", source="local", num_classes=19, input_size=(512, 1024))
    torch.hub.load("FOLDER", "boxenet", source="local", pretrained="camvid")

FOLDER is the one with this file. Arguments are those of `box_convolution.networks.create`, without the name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from box_convolution import networks

if TYPE_CHECKING:  # every callable here that has no underscore is an entry of the hub
    from collections.abc import Callable
    from typing import Any

    from torch import nn

dependencies = ["torch"]


def _entry(name: str) -> Callable[..., nn.Module]:
    def create(*args: Any, **options: Any) -> nn.Module:
        return networks.create(name, *args, **options)

    create.__name__ = name
    create.__doc__ = f"The network {name!r}; all arguments are for `box_convolution.networks.create`."
    return create


for _name in networks.names():
    globals()[_name] = _entry(_name)
