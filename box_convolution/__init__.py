"""Box convolutions for PyTorch: average every channel over boxes whose edges are learned.

"The paper" in all docstrings is Burkov and Lempitsky, "Deep Neural Networks with Box Convolutions", NeurIPS 2018. "The
authors' code" is their PyTorch package and their Torch7 networks.
"""

from . import networks, ops
from .functional import box_conv2d
from .layer import BoxConv2d
from .networks.box_block import BoxBottleneck
from .project_after_step import project_boxes

__all__ = ["BoxBottleneck", "BoxConv2d", "__version__", "box_conv2d", "networks", "ops", "project_boxes"]
__version__ = "0.1.0"
