"""Box convolutions for PyTorch: every channel is averaged over boxes of any size whose edges are learned.

PyTorch is imported when the first name is used, so that `boxconv --help` does not wait for it. The operators
(`torch.ops.box_convolution`) are registered as soon as PyTorch is there, whichever of the two is imported first.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .after_torch import after_torch

if TYPE_CHECKING:
    from . import networks, ops
    from .functional import box_conv2d
    from .layer import BoxConv2d
    from .networks.box_block import BoxBottleneck
    from .projection import project_boxes

__all__ = ["BoxBottleneck", "BoxConv2d", "__version__", "box_conv2d", "networks", "ops", "project_boxes"]
__version__ = "0.1.0"

_HOME = {
    "BoxBottleneck": ".networks.box_block",
    "BoxConv2d": ".layer",
    "box_conv2d": ".functional",
    "project_boxes": ".projection",
}


def __getattr__(name: str) -> Any:
    if name in ("networks", "ops"):
        return importlib.import_module(f".{name}", __name__)
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name], __name__), name)
        globals()[name] = value  # from now on found without this function
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


after_torch(lambda: importlib.import_module(".layer", __name__))
