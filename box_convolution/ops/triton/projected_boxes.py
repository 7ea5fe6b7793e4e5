"""The Triton kernel that moves boxes into their limits. It does what `box_convolution.boxes.project` does, bit for bit.

PyTorch's operations for it would be a dozen kernels for a few hundred numbers, before each forward pass.
"""

import triton
import triton.language as tl


@triton.jit
def clamp(x, least, most):
    """NaN stays."""
    return tl.where(x < least, least, tl.where(x > most, most, x))


@triton.jit(do_not_specialize=["axes", "h", "w"])
def projected_boxes(p_boxes, p_projected, axes, h, w, BLOCK: tl.constexpr):
    """Of each box two ``axes``, vertical and horizontal, each with two edges. Every step is rounded as in PyTorch."""
    dtype: tl.constexpr = p_boxes.dtype.element_ty
    WIDE: tl.constexpr = tl.float32 if dtype.primitive_bitwidth == 16 else dtype
    axis = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    extent = tl.where(axis % 2 == 0, h, w).to(tl.float64)
    most = extent.to(WIDE).to(dtype).to(WIDE)
    most_middle = (extent - 0.5).to(WIDE).to(dtype).to(WIDE)
    low = clamp(tl.load(p_boxes + 2 * axis, mask=axis < axes, other=0.0).to(WIDE), -most, most)
    high = clamp(tl.load(p_boxes + 2 * axis + 1, mask=axis < axes, other=0.0).to(WIDE), -most, most)
    size = (high - low).to(dtype).to(WIDE)
    middle = clamp((high - (high - low) * 0.5).to(dtype).to(WIDE), -most_middle, most_middle)
    end = ((middle - 0.5).to(dtype).to(WIDE) + 1.0).to(dtype).to(WIDE)
    narrow = size < 1.0
    tl.store(p_projected + 2 * axis, tl.where(narrow, (end - 1.0).to(dtype), low.to(dtype)), mask=axis < axes)
    tl.store(p_projected + 2 * axis + 1, tl.where(narrow, end.to(dtype), high.to(dtype)), mask=axis < axes)
