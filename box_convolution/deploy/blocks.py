"""Deployed blocks of ENet and ERFNet. They add and activate in place, in tensors that they have made themselves."""

from typing import Any, TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import conv2d, max_pool2d, pad

from ..networks.enet import Bottleneck, Downsample, Upsample, unpool
from ..networks.erfnet import NonBottleneck1d
from ..networks.resampling import ConvBesidePool, halve
from .activation import Activation, changeable, learned
from .modules import ChannelAffine, is_fast_convolution, is_plain

_TOGETHER = 16  # output channels that oneDNN computes together


class ResidualBlock(nn.Module):
    """``act(branch(input) + input)``, (B, N, H, W) -> (B, N, H, W)."""

    def __init__(self, branch: nn.Module, act: Activation) -> None:
        super().__init__()
        self.branch, self.act = branch, act

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.act(self.branch(input), input)
        return output


class PooledBlock(nn.Module):
    """`Downsample` that adds the pooled input to the first channels, instead of padding it with channels of zeros.

    It pools, adds and activates in one pass.
    """

    def __init__(self, branch: nn.Module, act: Activation) -> None:
        super().__init__()
        self.branch, self.act = branch, act

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:
        image = self.branch(input)
        if not torch.jit.is_scripting():
            places = _add_pooled(image, input, self.act)
            if places is not None:
                return image, places
        skip, indices = max_pool2d(input, 2, return_indices=True)
        return self.act(_with_first_channels(image, skip)), indices


class UnpooledBlock(nn.Module):
    """`Upsample` that adds each value at its index, instead of adding a whole image that is zero elsewhere.

    It adds and activates in one pass.
    """

    def __init__(self, branch: nn.Module, skip: nn.Module, act: Activation) -> None:
        super().__init__()
        self.branch, self.skip, self.act = branch, skip, act

    def forward(self, input: Tensor, indices: Tensor) -> Tensor:
        image, values = self.branch(input), self.skip(input)
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript compiles the whole of a joint condition
            if _is_relu(self.act) and changeable(image):
                torch.ops.box_convolution.unpool_(image, values, indices, True)
                return image
        output: Tensor = self.act(_with_unpooled(image, values, indices))
        return output


def _is_relu(act: Any) -> bool:
    return is_plain(act, Activation) and act.slopes is None


def _add_pooled(image: Tensor, input: Tensor, act: Any) -> Tensor | None:
    """Make ``image`` what `PooledBlock` returns, and return the indices; None, with nothing done, if it cannot be."""
    if not changeable(image) or not changeable(input) or input.shape[2] % 2 or input.shape[3] % 2:
        return None
    if not is_plain(act, Activation) or learned(act.slopes) or not image.dtype == input.dtype == torch.float32:
        return None
    indices: Tensor = torch.ops.box_convolution.pool_add_(image, input, act.slopes)
    return indices


class PoolBesideConv(nn.Module):
    """`ConvBesidePool` that pools, puts side by side and activates in one pass."""

    def __init__(self, conv: nn.Conv2d, norm: ChannelAffine, act: Activation) -> None:
        super().__init__()
        self.conv, self.norm, self.act = conv, norm, act

    def forward(self, input: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            output = _convolved_and_pooled(self.conv, self.norm, self.act, input)
            if output is not None:
                return output
        joined: Tensor = self.act(self.norm(torch.cat((self.conv(input), halve(input)), 1)))
        return joined


def _convolved_and_pooled(conv: Any, norm: Any, act: Any, input: Tensor) -> Tensor | None:
    """What `PoolBesideConv` returns; None if there is no faster way to it, or if a layer was changed."""
    if not changeable(input) or input.shape[2] % 2 or input.shape[3] % 2:
        return None
    if not _halves(conv) or not is_plain(norm, ChannelAffine) or not is_plain(act, Activation):
        return None
    bias = conv.bias
    if learned(norm.scale, norm.shift, act.slopes) or bias is None or not is_fast_convolution(conv, input):
        return None
    pooled, numbers = conv.in_channels, (input, norm.scale.flatten(), norm.shift.flatten(), act.slopes)
    if -(-conv.out_channels // _TOGETHER) != -(-(conv.out_channels + pooled) // _TOGETHER):
        return torch.ops.box_convolution.pool_beside(conv(input), *numbers)
    # The convolution computes as many channels anyway: it leaves room for the pooled image in its output.
    weight = pad(conv.weight, (0, 0, 0, 0, 0, 0, 0, pooled))
    image = conv2d(input, weight, pad(bias, (0, pooled)), stride=2, padding=1)
    torch.ops.box_convolution.pool_beside_(image, *numbers)
    return image


def pool_beside_conv(module: nn.Module) -> nn.Module | None:
    """Make the faster form of a `ConvBesidePool` whose norm has been folded; None for other modules."""
    if not is_plain(module, ConvBesidePool) or not module.beside or not is_plain(module.dropout, nn.Identity):
        return None
    conv, norm, act = (module.get_submodule(name) for name in ("conv", "norm", "act"))
    if _halves(conv) and is_plain(norm, ChannelAffine) and is_plain(act, Activation):
        return PoolBesideConv(conv, norm, act)
    return None


def _halves(conv: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether ``conv`` is the convolution that `ConvBesidePool` makes: others may have replaced it."""
    if type(conv) is not nn.Conv2d or not is_plain(conv, nn.Conv2d):
        return False
    settings = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode)
    return settings == ((3, 3), (2, 2), (1, 1), (1, 1), 1, "zeros")


@fx.wrap
def _with_first_channels(image: Tensor, skip: Tensor) -> Tensor:
    """Add ``skip``, which has fewer channels, to the first channels of ``image``; in place if that is allowed."""
    if not torch.jit.is_scripting() and changeable(image):
        image.narrow(1, 0, skip.shape[1]).add_(skip)
        return image
    return image + pad(skip, (0, 0, 0, 0, 0, image.shape[1] - skip.shape[1]))


@fx.wrap
def _with_unpooled(image: Tensor, values: Tensor, indices: Tensor) -> Tensor:
    """Add ``unpool(values, indices)`` to ``image``; in place if that is allowed."""
    if not torch.jit.is_scripting() and changeable(image):
        torch.ops.box_convolution.unpool_(image, values, indices)
        return image
    if image.device.type == "cpu":  # not `unpool`, because OpenCV cannot read its image of zeros from an ONNX file
        return image.flatten(2).scatter_add(2, indices.flatten(2), values.flatten(2)).view(image.shape)
    return image + unpool(values, indices)


def deployed_block(module: Any) -> nn.Module | None:
    """Make the deployed form of a block of ENet or ERFNet; None for other modules, and for blocks that were changed."""
    if is_plain(module, Upsample) and _ends_with_convolution(module.branch):
        return UnpooledBlock(module.branch, module.skip, Activation())
    if is_plain(module, NonBottleneck1d) and _ends_with_convolution(module.branch):
        return ResidualBlock(module.branch, Activation())
    layer: Any = getattr(module, "act", None)
    act = Activation.of(layer)
    if act is not None and is_plain(layer, type(layer)):
        if is_plain(module, Bottleneck) and _ends_with_convolution(module.branch):
            return ResidualBlock(module.branch, act)
        if is_plain(module, Downsample) and _ends_with_convolution(module.branch):
            return PooledBlock(module.branch, act)
    return None


def _ends_with_convolution(branch: nn.Module) -> bool:
    """Whether nothing else reads the output of ``branch``: folded norms and dropout pass on what a convolution made."""
    if not is_plain(branch, nn.Sequential):
        return False
    layers = [layer for layer in branch if not (is_plain(layer, nn.BatchNorm2d) or is_plain(layer, nn.Dropout2d))]
    return bool(layers) and is_plain(layers[-1], nn.Conv2d)
