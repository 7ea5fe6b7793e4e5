"""The networks of box-convolution for `torch.hub`.

    torch.hub.load("FOLDER", "boxenet", source="local", num_classes=19, input_size=(512, 1024))
    torch.hub.load("FOLDER", "boxenet", source="local", pretrained="camvid")

FOLDER is the folder of this file. Further arguments are those of `box_convolution.networks.create`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from box_convolution import networks

if TYPE_CHECKING:  # not imported at run time: torch.hub lists every public callable of this module as a network
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
