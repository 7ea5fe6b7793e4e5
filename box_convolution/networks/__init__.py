"""The paper's networks by name."""

import inspect
from typing import Any

from torch import nn

from ..argument_checks import as_int, as_size
from . import enet, erfnet
from .box_block import BoxBottleneck
from .stages import Table

__all__ = ["BoxBottleneck", "create", "names"]


_NETWORKS: dict[str, tuple[type[enet.ENet] | type[erfnet.ERFNet], Table]] = {
    **{name: (enet.ENet, table) for name, table in enet.TABLES.items()},
    **{name: (erfnet.ERFNet, table) for name, table in erfnet.TABLES.items()},
}


def names() -> list[str]:
    """List the names of the networks that `create` makes."""
    return list(_NETWORKS)


def create(
    name: str,
    num_classes: int | None = None,
    input_size: tuple[int, int] | None = None,
    *,
    pretrained: str | None = None,
    **options: Any,
) -> nn.Module:
    """Create a network, with fresh weights from torch's generator or with trained ones.

    Examples:
        >>> create("boxenet", num_classes=19, input_size=(512, 1024))(torch.rand(1, 3, 512, 1024)).shape
        torch.Size([1, 19, 512, 1024])
        >>> network = create("boxenet", pretrained="camvid").eval()                   # 11 classes of road scenes
        >>> network = create("boxenet", num_classes=3, pretrained="camvid")           # a fresh last layer, 3 classes

    Args:
        name: one of `names`.
        num_classes: channels of the logits, not counting void; by default those of the trained network.
        input_size: (h, w), the largest expected image, in pixels; by default that of the trained network. It limits the
            boxes. Images of any size work, and boxes keep their size in pixels.
        pretrained: data that the weights were trained on, see `pretrained.available`; None for fresh weights. With
            another number of classes, the last layer is fresh.
        options: ``in_channels``: 3 by default, 1 for grey images, 4 for RGB-D, any number for others; with
            ``pretrained`` and another number than the network was trained with, the first block is fresh. Further
            options select between the paper's text and the authors' code where these differ: see `enet.ENet` and
            `erfnet.ERFNet`.

    Returns:
        A network in training mode, from (B, in_channels, H, W) to logits (B, num_classes, H, W), for any H and W. A
        single image may come without B.

    Raises:
        TypeError, ValueError: naming the argument, what came and what was expected.
        ImportError: ``pretrained`` is given, but the package safetensors is not installed.
    """
    if not isinstance(name, str) or name not in _NETWORKS:
        raise ValueError(f"name must be one of {', '.join(names())}, got {name!r}")
    if pretrained is not None:
        from .pretrained import fitted

        return fitted(name, pretrained, num_classes, input_size, options)
    if num_classes is None or input_size is None:
        raise TypeError("num_classes and input_size must be given, unless pretrained= knows them")
    num_classes, size = as_int("num_classes", num_classes, least=1), as_size("input_size", input_size)
    family, table = _NETWORKS[name]
    known = [p.name for p in inspect.signature(family).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise TypeError(f"{unknown[0]} is none of the options of {name}: {', '.join(known)}")
    return family(table, num_classes, size, **options)
