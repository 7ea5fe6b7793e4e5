"""The operator `box_convolution::projected_boxes`: boxes (C, M, 4) that are moved into their limits.

It computes `box_convolution.boxes.project`, and where the Triton kernels serve, in one kernel. It has no derivative:
the layer applies it to boxes without gradients.
"""

import torch
from torch import Tensor

from ..boxes import project
from .dispatch import serving
from .triton import launch

_library = torch.library.Library("box_convolution", "FRAGMENT")
_library.define("projected_boxes(Tensor boxes, float h, float w) -> Tensor")
projected_boxes = torch.ops.box_convolution.projected_boxes.default


def _project(boxes: Tensor, h: float, w: float) -> Tensor:
    if serving(boxes) is launch and _are_pixels(h, w):
        return launch.projected_boxes(boxes, int(h), int(w))
    return project(boxes, h, w)


def _are_pixels(h: float, w: float) -> bool:
    """Whether an extent is as those of layers are: whole pixels, few enough to be exact in float32."""
    return h <= 2**24 and w <= 2**24 and h.is_integer() and w.is_integer()


_library.impl("projected_boxes", _project, "CompositeExplicitAutograd")


@torch.library.register_fake(projected_boxes, lib=_library)
def _fake(boxes: Tensor, h: float, w: float) -> Tensor:
    return torch.empty_like(boxes, memory_format=torch.contiguous_format)
