"""The paper's networks by name."""

import inspect
from typing import Any

from torch import nn

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
        options: what text and authors' code do differently, keyword arguments of the family: see `enet.ENet` and
            `erfnet.ERFNet`.

    Returns:
        Network from (B, 3, H, W) to logits (B, num_classes, H, W), any H and W, in training mode.

    Raises:
        TypeError, ValueError: naming the argument, what came and what was expected.
        ImportError: trained weights need the package safetensors.
    """
    if not isinstance(name, str) or name not in _NETWORKS:
        raise ValueError(f"name must be one of {', '.join(names())}, got {name!r}")
    if pretrained is not None:
        from .pretrained import fitted

        return fitted(name, pretrained, num_classes, input_size, options)
    hint = " (only pretrained= knows it)" if num_classes is None or input_size is None else ""
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes must be a positive int, got {num_classes!r}{hint}")
    size = tuple(input_size) if isinstance(input_size, (tuple, list)) else ()
    if len(size) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in size):
        raise ValueError(f"input_size must be (height, width), two positive ints, got {input_size!r}{hint}")
    family, table = _NETWORKS[name]
    known = [p.name for p in inspect.signature(family).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise TypeError(f"options of {name} are {', '.join(known)}, got {', '.join(unknown)}")
    return family(table, num_classes, size, **options)
