"""The paper's networks by name."""

import inspect
from typing import Any

from torch import nn

from ..arguments import as_int, as_size
from . import enet, erfnet
from .box_block import BoxBottleneck
from .table import Table

__all__ = ["BoxBottleneck", "create", "names"]


_NETWORKS: dict[str, tuple[type[enet.ENet] | type[erfnet.ERFNet], Table]] = {
    **{name: (enet.ENet, table) for name, table in enet.TABLES.items()},
    **{name: (erfnet.ERFNet, table) for name, table in erfnet.TABLES.items()},
}


def names() -> list[str]:
    """Names that :func:`create` knows."""
    return list(_NETWORKS)


def create(
    name: str,
    num_classes: int | None = None,
    input_size: tuple[int, int] | None = None,
    *,
    pretrained: str | None = None,
    **options: Any,
) -> nn.Module:
    """A network, with fresh weights drawn from torch's generator, or with trained ones.

    >>> create("boxenet", num_classes=19, input_size=(512, 1024))(torch.rand(1, 3, 512, 1024)).shape
    torch.Size([1, 19, 512, 1024])
    >>> network = create("boxenet", pretrained="camvid").eval()                   # 11 classes of road scenes
    >>> network = create("boxenet", num_classes=3, pretrained="camvid")           # a fresh head for classes of your own

    Args:
        name: one of :func:`names`.
        num_classes: channels of the logits, without void. Those of the trained network if left out.
        input_size: (h, w), largest expected image, in pixels. Other sizes work; boxes keep their size in pixels. That
            of the trained network if left out.
        pretrained: what the weights were trained on, see `pretrained.available`; None for fresh ones. With another
            number of classes, the last layer is fresh.
        options: ``in_channels``, 3 by default: 1 for grey images, 4 for RGB-D, any number for others; with
            ``pretrained`` and another number than its own, the first block is fresh. And what text and authors' code do
            differently: see `enet.ENet` and `erfnet.ERFNet`.

    Returns:
        Network from (B, in_channels, H, W) to logits (B, num_classes, H, W), any H and W, in training mode. A single
        image may come without B.

    Raises:
        TypeError, ValueError: naming the argument, what came and what was expected.
        ImportError: trained weights need the package safetensors.
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
        raise TypeError(f"options of {name} are {', '.join(known)}, got {', '.join(unknown)}")
    return family(table, num_classes, size, **options)
