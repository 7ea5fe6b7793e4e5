"""Which modules are replaced by boxes, and by what: the rules that :func:`.replace_dilated` states."""

from typing import Any

from torch import Tensor, nn

from ..layer import BoxConv2d
from ..torch_internals import has_hooks
from .watch import Seen

KINDS = ("dilated", "large", "pooling")
LARGE = 7  # pixels: kernels of at least this height or width are "large"
_NUMBERS = (
    "in_channels", "out_channels", "groups", "kernel_size", "dilation", "stride", "padding", "padding_mode",
)  # fmt: skip
_POOLS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)


class BoxesForConv2d(nn.Sequential):
    """The replacement of a convolution, with its attributes: some networks read them, to pad an image for example."""

    @classmethod
    def of(cls, conv: nn.Conv2d, *layers: nn.Module) -> "BoxesForConv2d":
        boxes = cls(*layers)
        for name in _NUMBERS:
            setattr(boxes, name, getattr(conv, name))
        return boxes


class Crop(nn.Module):
    """Cut off the ``lost`` = (h, w) border pixels that a convolution without padding does not return."""

    def __init__(self, lost: tuple[int, int]) -> None:
        super().__init__()
        self.lost = lost

    def forward(self, input: Tensor) -> Tensor:
        lost_h, lost_w = self.lost
        top, left = lost_h // 2, lost_w // 2
        return input[..., top : input.shape[-2] - lost_h + top, left : input.shape[-1] - lost_w + left]

    def extra_repr(self) -> str:
        return f"lost={self.lost}"


def kind(module: nn.Module) -> str | None:
    """Return one of `KINDS`, "other" for further convolutions, None for modules that can never be replaced."""
    if type(module) in _POOLS:
        return "pooling"
    if type(module) is not nn.Conv2d:
        return None
    if any(d > 1 and k > 1 for d, k in zip(module.dilation, module.kernel_size, strict=True)):
        return "dilated"
    return "large" if max(module.kernel_size) >= LARGE and module.stride == (1, 1) else "other"


def obstacle(module: Any, seen: Seen) -> str | None:
    """Return why a module that has a `kind` cannot be replaced; None if it can."""
    if not seen.channels:
        return "is not called"
    if has_hooks(module):
        return "has hooks"
    if isinstance(module, _POOLS):
        if seen.enlarged or seen.output == seen.input:
            return None
        return f"returns {_pixels(seen.output)} that are not interpolated to the {_pixels(seen.input)} it was given"
    if module.padding_mode != "zeros":
        return f"pads with {module.padding_mode!r}, and boxes with zeros"
    (lost_h, lost_w), (stride_h, stride_w) = _lost(module), module.stride
    if stride_h != stride_w:
        return f"has stride {stride_h} in height and {stride_w} in width"
    if min(lost_h, lost_w) < 0:
        return f"pads by {module.padding}, further than its kernel reaches"
    if stride_h > 1 and (lost_h, lost_w) != (0, 0):
        return f"has stride {stride_h}, and its padding does not put the kernel's middle on every {stride_h}th pixel"
    return None


def boxes_for(module: Any, seen: Seen, boxes_per_channel: int, **options: Any) -> nn.Module:
    """Make the replacement of ``module``, with fresh weights; ``options`` are those of `BoxConv2d`."""
    if isinstance(module, _POOLS):
        return BoxConv2d(seen.channels, 1, *seen.input, device=seen.device, **options)
    outputs = module.out_channels // module.groups
    boxes = next(m for m in range(min(boxes_per_channel, outputs), 0, -1) if outputs % m == 0)
    narrow, at = module.out_channels // boxes, {"device": module.weight.device, "dtype": module.weight.dtype}
    lost = _lost(module)
    h, w = (max(1, size - less) for size, less in zip(seen.input, lost, strict=True))
    bias = module.bias is not None
    layers: list[nn.Module] = [
        nn.Conv2d(module.in_channels, narrow, 1, groups=module.groups, bias=bias, **at),
        BoxConv2d(narrow, boxes, h, w, stride=module.stride[0], **options, **at),
    ]
    return BoxesForConv2d.of(module, *layers, *([Crop(lost)] if any(lost) else []))


def describe(module: Any) -> str:
    """Describe ``module`` in a few words, for the report."""
    if isinstance(module, BoxesForConv2d):
        module = module[1]
    if isinstance(module, BoxConv2d):
        return f"{module.in_channels} channels x {module.num_filters} boxes"
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return f"pooling to {module.output_size}"
    if isinstance(module, nn.AvgPool2d):
        return f"pooling of {module.kernel_size}"
    parts = ["{}x{}".format(*module.kernel_size), f"{module.in_channels} to {module.out_channels} channels"]
    parts += [f"dilation {max(module.dilation)}"] if max(module.dilation) > 1 else []
    parts += [f"stride {module.stride[0]}"] if module.stride != (1, 1) else []
    parts += [f"{module.groups} groups"] if module.groups > 1 else []
    return ", ".join(parts)


def _lost(conv: nn.Conv2d) -> tuple[int, int]:
    """Rows and columns by which the output of ``conv`` is smaller than its input, at stride 1."""
    if conv.padding == "same":
        return 0, 0
    padding = (0, 0) if isinstance(conv.padding, str) else conv.padding
    h, w = (d * (k - 1) - 2 * p for d, k, p in zip(conv.dilation, conv.kernel_size, padding, strict=True))
    return h, w


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"
