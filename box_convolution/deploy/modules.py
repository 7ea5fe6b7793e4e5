"""Layers of deployed networks: fixed numbers, nothing to train."""

from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from ..layer import BoxConv2d
from ..networks import BoxBottleneck
from ..networks.temporary import take_temporary
from ..ops.native_layers import pointwise_dilation
from ..torch_internals import Float32Buffers, has_hooks, in_a_transform
from .activation import changeable, learned


class FusedBoxConv2d(Float32Buffers):
    """A box convolution with fixed boxes and what follows it, in one operator: scale, shift, residual, ReLU.

    Input (B, C, H, W), or (C, H, W) without a residual; residual like the output (B, C*M, H', W'). Buffers: ``boxes``
    (C, M, 4) in pixels, ``scale`` and ``shift`` (C*M,) or None. They stay float32 if the network is converted to
    another dtype, because half precision would move edges.
    """

    boxes: Tensor
    scale: Tensor | None
    shift: Tensor | None

    def __init__(self, layer: BoxConv2d) -> None:
        super().__init__()
        self.in_channels, self.num_filters = layer.in_channels, layer.num_filters
        self.stride, self.normalize, self.relu = layer.stride, layer.normalize, False
        self.register_buffer("boxes", layer.boxes.detach().float())
        self.register_buffer("scale", None)
        self.register_buffer("shift", None)

    def fold(self, scale: Tensor, shift: Tensor) -> None:
        """Apply ``scale * output + shift``, (C*M,) each, after what the layer does now."""
        self.scale = (scale if self.scale is None else self.scale * scale).float()
        self.shift = (shift if self.shift is None else self.shift * scale + shift).float()

    def forward(self, input: Tensor, residual: Tensor | None = None, overwrite: bool = False) -> Tensor:
        """With ``overwrite``, the result takes the place of the residual."""
        if overwrite and residual is not None:
            torch.ops.box_convolution.add_boxes_(
                residual, input, self.boxes, self.scale, self.shift, self.relu, self.normalize
            )
            return residual
        batch = input[None] if input.ndim == 3 else input
        output: Tensor = torch.ops.box_convolution.box_conv2d_fused(
            batch, self.boxes, self.scale, self.shift, residual, self.relu, self.normalize, self.stride
        )
        return output[0] if input.ndim == 3 else output

    def extra_repr(self) -> str:
        c, m = self.boxes.shape[:2]
        parts = [f"{c}, {m}, out_channels={c * m}"]
        parts += [name for name in ("scale", "shift") if getattr(self, name) is not None]
        parts += ["relu"] if self.relu else []
        parts += [f"stride={self.stride}"] if self.stride != 1 else []
        parts += [] if self.normalize else ["normalize=False"]
        return ", ".join(parts)


class FusedBoxBottleneck(nn.Module):
    """`BoxBottleneck` in two steps: a 1x1 convolution with a bias, and the box convolution with all that follows.

    (B, N, H, W) -> (B, N, H, W). If `prune` has removed outputs of the 1x1 convolution, ``channels`` (C,) is the index
    of the output that each channel of ``box`` reads; else it is None. With ``overwrites``, the result may take the
    memory of the input, which saves the time to fetch other memory: for inputs that nothing else reads. With
    ``overwrites_temporary``, only if the network has just passed the input on (`networks.temporary`).
    """

    channels: Tensor | None
    overwrites: bool = False
    overwrites_temporary: bool = False

    def __init__(self, block: BoxBottleneck, conv: nn.Conv2d, box: FusedBoxConv2d) -> None:
        """``conv`` and ``box`` have the BatchNorms of ``block`` folded in."""
        super().__init__()
        self.conv, self.box, self.inner_relu = conv, box, block.inner_relu
        self.box.relu = True
        self.register_buffer("channels", None)

    def forward(self, input: Tensor) -> Tensor:
        narrow: Tensor | None = None
        overwrite = False
        if not torch.jit.is_scripting():
            overwrite = self._may_overwrite(input)
            if overwrite and self._overwrite_at_once(input):
                return input
            narrow = _as_planes(self.conv, input, self.inner_relu)
        if narrow is None:
            narrow = self.conv(input)
            if self.inner_relu:
                narrow = torch.relu_(narrow)
        channels = self.channels
        if channels is not None:  # index_select returns contiguous memory
            last = narrow.is_contiguous(memory_format=torch.channels_last)
            narrow = narrow.index_select(1, channels)
            narrow = narrow.contiguous(memory_format=torch.channels_last) if last else narrow
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript compiles the whole of a joint condition
            if overwrite and _is_fast_to_overwrite(self.box, input, narrow):
                return self.box(narrow, input, overwrite=True)
        return self.box(narrow, input)

    @torch.jit.unused
    def _may_overwrite(self, input: Tensor) -> bool:
        return self.overwrites or (self.overwrites_temporary and changeable(input) and take_temporary(input))

    @torch.jit.unused
    def _overwrite_at_once(self, input: Tensor) -> bool:
        """Overwrite the input in one operator; False, with nothing done, if no kernel does, or a layer was changed."""
        conv, box = self.conv, self.box
        if self.channels is not None or not is_plain(box, FusedBoxConv2d) or not _is_pointwise(conv, input):
            return False
        if learned(box.boxes, box.scale, box.shift):
            return False
        torch.ops.box_convolution.box_block_(
            input, conv.weight, conv.bias, self.inner_relu, box.boxes, box.scale, box.shift, box.relu, box.normalize
        )
        return True


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution of a channels_last image. `pointwise_dilation` makes large ones twice as fast on one thread.

    Compiled and exported graphs get the plain convolution.
    """

    @classmethod
    def of(cls, conv: nn.Conv2d) -> "PointwiseConv2d":
        """Make one with the parameters of ``conv``, which must be a plain 1x1 convolution."""
        made = cls(conv.in_channels, conv.out_channels, 1, bias=False, device="meta")
        made.weight, made.bias = conv.weight, conv.bias
        return made.train(conv.training)

    def forward(self, input: Tensor) -> Tensor:
        dilation = 1
        if not torch.jit.is_scripting() and not torch.compiler.is_compiling() and isinstance(input, Tensor):
            last = not in_a_transform() and input.is_contiguous(memory_format=torch.channels_last)
            dilation = (pointwise_dilation(input) if last and input.device.type == "cpu" else None) or 1
        return conv2d(input, self.weight, self.bias, dilation=dilation)


class FastTransposedConv2d(nn.ConvTranspose2d):
    """A transposed convolution that doubles the resolution, faster for a float32 image in channels_last.

    It has 2x2 pixels, or 3x3 pixels with padding and output padding 1, and a bias. Compiled and exported graphs get the
    plain convolution.
    """

    @staticmethod
    def fits(conv: nn.ConvTranspose2d) -> bool:
        """Whether ``conv`` is such a convolution, and is one that takes PyTorch longer."""
        size, _ = conv.kernel_size
        more = size - 2
        wanted = ((size, size), (2, 2), (1, 1), (more, more), (more, more), 1)
        shape = (conv.kernel_size, conv.stride, conv.dilation, conv.padding, conv.output_padding, conv.groups)
        return shape == wanted and (size == 2 or (size == 3 and conv.out_channels % 16 != 0))

    @classmethod
    def of(cls, conv: nn.ConvTranspose2d) -> "FastTransposedConv2d":
        """Make one with the parameters of ``conv``, which `fits`."""
        (size, _), (padding, _) = conv.kernel_size, conv.output_padding  # and conv.padding: they are equal
        made = cls(conv.in_channels, conv.out_channels, size, 2, padding, padding, device="meta")
        made.weight, made.bias = conv.weight, conv.bias
        return made.train(conv.training)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not torch.jit.is_scripting():
            if output_size is not None:
                return super().forward(input, output_size)
            if is_fast_convolution(self, input):
                output: Tensor = torch.ops.box_convolution.transposed_conv(input, self.weight, self.bias)
                return output
        padding = self.output_padding  # and that of the input: they are equal
        rows, columns = padding
        if output_size is not None:
            rows = output_size[-2] - 2 * input.shape[-2] + rows
            columns = output_size[-1] - 2 * input.shape[-1] + columns
        return conv_transpose2d(
            input, self.weight, self.bias, stride=2, padding=padding, output_padding=[rows, columns]
        )


def is_fast_convolution(conv: Any, input: Tensor) -> bool:
    """Whether the operators of `ops.deployed_layers` compute ``conv`` faster than PyTorch."""
    if not changeable(input) or conv.bias is None or learned(conv.weight, conv.bias):
        return False
    last = input.is_contiguous(memory_format=torch.channels_last) and not input.is_contiguous()
    return last and input.dtype == conv.weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def _as_planes(conv: nn.Module, input: Tensor, relu: bool) -> Tensor | None:
    """[relu](conv(input)) in contiguous memory, which boxes read without transposing it; None if that is not faster."""
    if not _is_pointwise(conv, input):
        return None
    planes: Tensor = torch.ops.box_convolution.pointwise_planes(input, conv.weight, conv.bias, relu)
    return planes


def _is_pointwise(conv: nn.Module, input: Tensor) -> TypeGuard[PointwiseConv2d]:
    """Whether operators of `ops.deployed_layers` compute the 1x1 convolution ``conv``."""
    # `changeable` first: torch.compile in PyTorch 2.6 cannot trace what `is_plain` asks.
    return changeable(input) and is_plain(conv, PointwiseConv2d) and is_fast_convolution(conv, input)


def _is_fast_to_overwrite(box: nn.Module, input: Tensor, narrow: Tensor) -> bool:
    last = changeable(input) and changeable(narrow) and input.is_contiguous(memory_format=torch.channels_last)
    fixed = isinstance(box, FusedBoxConv2d) and not learned(box.boxes, box.scale, box.shift)
    return last and fixed and input.dtype == narrow.dtype == torch.float32


class ChannelAffine(nn.Module):
    """Scale and shift the channels from ``start`` on, in place: what is left of a BatchNorm after a concatenation.

    Its other channels are folded into the convolutions before it. (B, N, H, W) -> (B, N, H, W).
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, start: int, scale: Tensor, shift: Tensor) -> None:
        """``scale``, ``shift``: (K,), of the channels start ... start + K - 1."""
        super().__init__()
        self.start = start
        self.register_buffer("scale", scale[:, None, None])
        self.register_buffer("shift", shift[:, None, None])

    def forward(self, input: Tensor) -> Tensor:
        input.narrow(1, self.start, self.scale.shape[0]).mul_(self.scale).add_(self.shift)
        return input

    def extra_repr(self) -> str:
        return f"channels {self.start} ... {self.start + self.scale.shape[0] - 1}"


_Kind = TypeVar("_Kind", bound=nn.Module)


def is_plain(module: Any, kind: type[_Kind]) -> TypeGuard[_Kind]:
    """Whether calling ``module`` does what ``kind`` does, and nothing else: no forward of its own, no hooks."""
    return isinstance(module, kind) and type(module).forward is kind.forward and not has_hooks(module)
