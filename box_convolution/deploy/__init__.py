"""From the training form of a network to the deployed one: the same logits, faster."""

from .freed_memory import keep_freed_memory
from .inference_form import deploy, snap_boxes
from .modules import FusedBoxBottleneck, FusedBoxConv2d
from .onnx_files import to_onnx
from .prune import Pruned, prune

__all__ = [
    "FusedBoxBottleneck", "FusedBoxConv2d", "Pruned", "deploy", "keep_freed_memory", "prune", "snap_boxes", "to_onnx",
]  # fmt: skip
