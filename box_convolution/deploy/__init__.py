"""From a trained network to the one that is shipped: the same answer, faster."""

from .convert import deploy, snap_boxes
from .modules import FusedBoxBottleneck, FusedBoxConv2d
from .prune import Pruned, prune

__all__ = ["FusedBoxBottleneck", "FusedBoxConv2d", "Pruned", "deploy", "prune", "snap_boxes"]
