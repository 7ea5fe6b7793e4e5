"""Nine operators for the CPU that speed up what surrounds the convolutions of a deployed network.

    activate_(image, residual, slopes)
        image = prelu(image [+ residual], slopes), or relu of it where there are no slopes
    pool_add_(image, input, slopes)
        image[:, :K] += max_pool2d(input, 2); image = prelu(image, slopes), or relu; returns the indices of max_pool2d
    unpool_(image, values, indices, relu)
        image[b, c, indices[b, c, i, j]] += values[b, c, i, j], indices into the flat plane as those of `max_pool2d`;
        image = [relu](image)
    add_boxes_(image, input, boxes, scale, shift, relu, normalize)
        image = box_conv2d_fused(input, boxes, scale, shift, image, relu, normalize)
    box_block_(image, weight, bias, inner_relu, boxes, scale, shift, relu, normalize)
        the same with input = pointwise_planes(image, weight, bias, inner_relu)
    pool_beside_(image, input, scale, shift, slopes)
        the last K channels of image = scale * max_pool2d(input, 2) + shift; then image = prelu(image, slopes), or relu
    pool_beside(filtered, input, scale, shift, slopes)
        = the same in a new image, in channels_last, whose first channels are those of filtered (B, C, H, W)
    pointwise_planes(image, weight, bias, relu)
        = [relu](conv2d(image, weight, bias)), a 1x1 convolution; contiguous, which a box convolution reads fastest
    transposed_conv(image, weight, bias)
        = conv_transpose2d(image, weight, bias, stride=2, padding=n, output_padding=n), where n is 0 for a weight of 2x2
          pixels and 1 for 3x3: twice as many rows and columns as the image; in channels_last

image and residual (B, C, H, W), slopes (C,), values and indices (B, C, h, w), weight (K, C, 1, 1), or (C, K, 2 + n, 2 +
n), bias (K,); input, boxes, scale and shift as in `box_conv2d_fused`, but for pool_add_ and pool_beside_ input (B, K,
2H, 2W), and scale and shift (K,). Those with a _ work in place. All are fast for float32 in channels_last. There,
PyTorch's own operations would make a new tensor each, copy what was convolved and what was pooled to put them side by
side, unpool through an image of zeros, return the 1x1 convolution in channels_last, which would have to be transposed,
and take up to twice as long for the transposed one. For inference only: they have no derivative.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, prelu
from torch.utils.flop_counter import register_flop_formula

from . import dispatch, native, native_layers
from .epilogue import Epilogue
from .tensor_checks import check_fused

_library = torch.library.Library("box_convolution", "FRAGMENT")
_library.define("activate_(Tensor(a!) image, Tensor? residual=None, Tensor? slopes=None) -> ()")
_library.define("pool_add_(Tensor(a!) image, Tensor input, Tensor? slopes=None) -> Tensor")
_library.define("unpool_(Tensor(a!) image, Tensor values, Tensor indices, bool relu=False) -> ()")
_library.define(
    "add_boxes_(Tensor(a!) image, Tensor input, Tensor boxes, Tensor? scale=None, Tensor? shift=None, bool relu=False, "
    "bool normalize=True) -> ()"
)
_library.define(
    "box_block_(Tensor(a!) image, Tensor weight, Tensor bias, bool inner_relu, Tensor boxes, Tensor? scale=None, "
    "Tensor? shift=None, bool relu=False, bool normalize=True) -> ()"
)
_library.define("pool_beside_(Tensor(a!) image, Tensor input, Tensor scale, Tensor shift, Tensor? slopes=None) -> ()")
_library.define("pool_beside(Tensor filtered, Tensor input, Tensor scale, Tensor shift, Tensor? slopes=None) -> Tensor")
_library.define("pointwise_planes(Tensor image, Tensor weight, Tensor bias, bool relu) -> Tensor")
_library.define("transposed_conv(Tensor image, Tensor weight, Tensor bias) -> Tensor")


def _activate(image: Tensor, residual: Tensor | None = None, slopes: Tensor | None = None) -> None:
    same = residual is None or (residual.shape == image.shape and _fast(residual))
    if dispatch.kernels_serve_cpu() and _fast(image) and same:
        native_layers.activate(image, residual, slopes)
        return
    if residual is not None:
        image.add_(residual)
    if slopes is None:
        image.relu_()
    elif bool(((slopes <= 1) & (slopes != 0)).all()):  # the same, and with few channels in a tenth of the time
        torch.maximum(image, image * slopes[:, None, None], out=image)
    else:
        image.copy_(prelu(image, slopes))


def _pool_add(image: Tensor, input: Tensor, slopes: Tensor | None = None) -> Tensor:
    batch, channels, h, w = image.shape
    pooled = input.shape[1]
    if input.shape != (batch, pooled, 2 * h, 2 * w) or pooled > channels:
        raise ValueError(
            f"input must have shape (batch, at most {channels} channels, 2 * height, 2 * width), got input "
            f"{tuple(input.shape)}, image {tuple(image.shape)}"
        )
    if dispatch.kernels_serve_cpu() and _fast(image) and _fast(input):
        fast = native_layers.pool_add(image, input, slopes)
        if fast is not None:
            return fast
    indices = native.empty_channels_last(input, (batch, pooled, h, w), torch.int64)
    if input.numel():
        values, found = max_pool2d(input, 2, return_indices=True)
        image.narrow(1, 0, pooled).add_(values)
        indices.copy_(found)
    _activate(image, None, slopes)
    return indices


def _unpool(image: Tensor, values: Tensor, indices: Tensor, relu: bool = False) -> None:
    if values.shape != indices.shape or values.shape[:2] != image.shape[:2]:
        raise ValueError(
            f"values and indices must have equal shapes, and the image's batch and channels, got values "
            f"{tuple(values.shape)}, indices {tuple(indices.shape)}, image {tuple(image.shape)}"
        )
    if not image.numel():
        return
    if dispatch.kernels_serve_cpu() and _fast(image) and _fast(values) and _fast(indices, torch.int64):
        native_layers.unpool(image, values, indices, relu)
        return
    if image.dtype.itemsize == 2:  # in a tenth of the time
        wide = image.float()
        _unpool(wide, values.float(), indices, relu)
        image.copy_(wide)
        return
    image.view(*image.shape[:2], -1).scatter_add_(2, indices.flatten(2), values.flatten(2))
    if relu:
        image.relu_()


def _add_boxes(
    image: Tensor,
    input: Tensor,
    boxes: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    relu: bool = False,
    normalize: bool = True,
) -> None:
    _add_measured(image, input, None, boxes, Epilogue(scale, shift, image, relu), normalize)


def _box_block(
    image: Tensor,
    weight: Tensor,
    bias: Tensor,
    inner_relu: bool,
    boxes: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    relu: bool = False,
    normalize: bool = True,
) -> None:
    magnitudes = None
    if dispatch.kernels_serve_cpu() and _fast(image) and _fits(image, weight, bias):
        input, magnitudes = native_layers.measured_planes(image, weight, bias, inner_relu)
    else:
        input = _pointwise_planes(image, weight, bias, inner_relu)
    _add_measured(image, input, magnitudes, boxes, Epilogue(scale, shift, image, relu), normalize)


def _add_measured(
    image: Tensor, input: Tensor, magnitudes: Tensor | None, boxes: Tensor, epilogue: Epilogue, normalize: bool
) -> None:
    check_fused(input, boxes, epilogue, stride=1)
    implementation = dispatch.serving(image)
    if implementation is native and _fast(image) and input.dtype == torch.float32:
        native.add_boxes(image, input, boxes, epilogue, normalize, magnitudes)
        return
    image.copy_(implementation.box_conv2d_fused(input, boxes, epilogue, normalize, stride=1))


def _pool_beside_(image: Tensor, input: Tensor, scale: Tensor, shift: Tensor, slopes: Tensor | None = None) -> None:
    channels = image.shape[1]
    pooled = _check_pooled("image", image, input, scale, shift)
    if pooled > channels:
        raise ValueError(f"input must have at most the {channels} channels of image, got {pooled}")
    fast = dispatch.kernels_serve_cpu() and _fast(image) and _fast(input)
    if fast and native_layers.pool_beside(image, None, input, scale, shift, slopes):
        return
    image.narrow(1, channels - pooled, pooled).copy_(_pooled(input, scale, shift))
    _activate(image, None, slopes)


def _pool_beside(filtered: Tensor, input: Tensor, scale: Tensor, shift: Tensor, slopes: Tensor | None = None) -> Tensor:
    channels = filtered.shape[1] + _check_pooled("filtered", filtered, input, scale, shift)
    if dispatch.kernels_serve_cpu() and _fast(filtered) and _fast(input):
        image = native.empty_channels_last(filtered, (filtered.shape[0], channels, *filtered.shape[2:]))
        if native_layers.pool_beside(image, filtered, input, scale, shift, slopes):
            return image
    image = torch.cat((filtered, _pooled(input, scale, shift)), 1).contiguous(memory_format=torch.channels_last)
    _activate(image, None, slopes)
    return image


def _check_pooled(name: str, image: Tensor, input: Tensor, scale: Tensor, shift: Tensor) -> int:
    """Return the number of channels of ``input``, which is twice as high and wide as ``image``."""
    batch, _, h, w = image.shape
    pooled = input.shape[1]
    if input.shape != (batch, pooled, 2 * h, 2 * w) or not scale.shape == shift.shape == (pooled,):
        raise ValueError(
            f"input must have shape (batch, K, 2 * height, 2 * width), scale and shift (K,), got input "
            f"{tuple(input.shape)}, scale {tuple(scale.shape)}, shift {tuple(shift.shape)}, {name} {tuple(image.shape)}"
        )
    return pooled


def _pooled(input: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    largest = max_pool2d(input, 2) if input.numel() else input[..., ::2, ::2]
    return largest * scale[:, None, None] + shift[:, None, None]


def _pointwise_planes(image: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
    if dispatch.kernels_serve_cpu() and _fast(image) and _fits(image, weight, bias):
        return native_layers.pointwise_planes(image, weight, bias, relu)
    with torch.autocast("cpu", enabled=False):
        planes = conv2d(image, weight, bias).contiguous()
    return planes.relu_() if relu else planes


def _fits(image: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether they make a 1x1 convolution of ``image``."""
    return weight.shape == (*bias.shape, image.shape[1], 1, 1) and _are_plain(weight, bias)


def _transposed_conv(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if weight.shape[2:] not in ((2, 2), (3, 3)):
        raise ValueError(f"weight must have 2x2 or 3x3 pixels, got shape {tuple(weight.shape)}")
    fits = weight.shape[:-2] == (image.shape[1], *bias.shape) and _are_plain(weight, bias)
    if dispatch.kernels_serve_cpu() and _fast(image) and fits:
        return native_layers.transposed_conv(image, weight, bias)
    return native_layers.doubled(image, weight, bias)


def _are_plain(weight: Tensor, bias: Tensor) -> bool:
    return bias.ndim == 1 and weight.dtype == bias.dtype == torch.float32 and weight.numel() > 0


def _fast(tensor: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    return tensor.dtype == dtype and tensor.is_contiguous(memory_format=torch.channels_last)


_library.impl("activate_", _activate, "CPU")
_library.impl("pool_add_", _pool_add, "CPU")
_library.impl("unpool_", _unpool, "CPU")
_library.impl("add_boxes_", _add_boxes, "CPU")
_library.impl("box_block_", _box_block, "CPU")
_library.impl("pool_beside_", _pool_beside_, "CPU")
_library.impl("pool_beside", _pool_beside, "CPU")
_library.impl("pointwise_planes", _pointwise_planes, "CPU")
_library.impl("transposed_conv", _transposed_conv, "CPU")


def _fake_in_place(*_: object, **__: object) -> None: ...


for _name in ("activate_", "unpool_", "add_boxes_", "box_block_", "pool_beside_"):
    torch.library.register_fake(f"box_convolution::{_name}", _fake_in_place, lib=_library)


@torch.library.register_fake("box_convolution::pool_add_", lib=_library)
def _fake_pool_add(image: Tensor, input: Tensor, slopes: Tensor | None = None) -> Tensor:
    return native.empty_channels_last(input, (*input.shape[:2], *image.shape[2:]), torch.int64)


@torch.library.register_fake("box_convolution::pool_beside", lib=_library)
def _fake_pool_beside(
    filtered: Tensor, input: Tensor, scale: Tensor, shift: Tensor, slopes: Tensor | None = None
) -> Tensor:
    batch, channels, h, w = filtered.shape
    return native.empty_channels_last(filtered, (batch, channels + input.shape[1], h, w))


@torch.library.register_fake("box_convolution::pointwise_planes", lib=_library)
def _fake_pointwise_planes(image: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
    return image.new_empty(image.shape[0], weight.shape[0], *image.shape[2:])


@torch.library.register_fake("box_convolution::transposed_conv", lib=_library)
def _fake_transposed_conv(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return native.empty_channels_last(image, (image.shape[0], weight.shape[1], 2 * image.shape[2], 2 * image.shape[3]))


@register_flop_formula(torch.ops.box_convolution.add_boxes_)
def _add_boxes_flops(image_shape: Any, input_shape: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return 2 * math.prod(input_shape) + 4 * math.prod(image_shape)  # as for box_conv2d


@register_flop_formula([torch.ops.box_convolution.pointwise_planes, torch.ops.box_convolution.transposed_conv])
def _convolution_flops(image_shape: Any, weight_shape: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    """Each pixel of the image is multiplied with all weights of its channel."""
    return 2 * math.prod(image_shape) * math.prod(weight_shape) // image_shape[1]


@register_flop_formula(torch.ops.box_convolution.box_block_)
def _box_block_flops(
    image_shape: Any, weight_shape: Any, bias_shape: Any, *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    batch, _, h, w = image_shape
    return _convolution_flops(image_shape, weight_shape) + _add_boxes_flops(image_shape, (batch, *bias_shape, h, w))
