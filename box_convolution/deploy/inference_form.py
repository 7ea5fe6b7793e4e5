"""`deploy`: from the training form of a network to the deployed one."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from ..argument_checks import as_bool, as_int, check_module
from ..layer import BoxConv2d
from ..networks import BoxBottleneck
from ..networks.padding import PaddedNetwork
from ..torch_internals import has_hooks
from .activation import Activation
from .blocks import deployed_block, pool_beside_conv
from .dataflow import Dataflow, read
from .fold import fold_into, fold_norms, is_convolution, keep_outputs, scale_and_shift
from .modules import ChannelAffine, FastTransposedConv2d, FusedBoxBottleneck, FusedBoxConv2d, PointwiseConv2d, is_plain

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def deploy(
    network: nn.Module,
    *,
    snap: bool = False,
    channels_last: bool = True,
    drop_classes: Sequence[int] = (),
    head: str = "head",
) -> nn.Module:
    """Return a copy of ``network`` for inference: the same outputs up to rounding, with less work.

    - BatchNorms are folded into the convolutions, transposed convolutions and box convolutions that they follow;
    - a `BoxBottleneck` adds its residual and applies its ReLU as the box convolution writes its output;
    - dropout is removed, and boxes are numbers instead of parameters;
    - images are in channels_last memory, with which convolutions are fastest on CPUs, and on GPUs in half precision;
    - on the CPU, activations and box blocks overwrite images that nothing else in the network reads. So a hook that is
      added later and keeps what a layer reads or writes must copy it, in a pre-hook what it reads; and what replaces a
      layer or its output later must be new. No image that the caller passes to the network, or to an `nn.Sequential`
      in it, is overwritten.

    This works for any network: its forward code is traced, or else read, to see what can be folded. Layers that are
    called in several places, have hooks or override ``forward``, or into which other code looks, and BatchNorms without
    running statistics, are not changed. The original network is not changed either. The copy is in evaluation mode, and
    its weights require no gradients. Its state dict fits the deployed form of any network of the same kind.

    Examples:
        >>> network = box_convolution.networks.create("boxenet", 19, (512, 1024))
        >>> logits = deploy(network, snap=True)(torch.rand(1, 3, 512, 1024))

    Args:
        network: a trained network.
        snap: move the edges of boxes to the nearest pixel borders. That changes outputs a little; `boxconv finetune`
            adapts the other weights.
        channels_last: memory format inside the network and of its output. The input may have any format. Code that
            calls ``view`` on features, which PyTorch refuses in this format, needs False.
        drop_classes: indices of output channels to leave out, such as void if it was trained as a class.
        head: name of the layer that computes the logits, for ``drop_classes``.

    Raises:
        TypeError, ValueError: naming the argument; for instance, there is no such head or class.
    """
    check_module("network", network)
    snap, channels_last = as_bool("snap", snap), as_bool("channels_last", channels_last)
    if isinstance(drop_classes, str) or not isinstance(drop_classes, Iterable):
        raise TypeError(f"drop_classes must be a sequence of ints, got {type(drop_classes).__name__} {drop_classes!r}")
    dropped = {as_int(f"drop_classes[{i}]", k) for i, k in enumerate(drop_classes)}
    deployed = copy.deepcopy(network).eval()
    if dropped:
        _drop_classes(deployed, dropped, head)
    if snap:
        snap_boxes(deployed)
    before = read(deployed)
    deployed = replace_all(deployed, lambda module: _deployed_layer(module, before)).requires_grad_(False)
    flow = read(deployed)
    fold_norms(flow)
    _absorb_relus(flow)
    _activate_in_place(flow)
    _overwrite_inputs(deployed, flow)
    if channels_last:
        deployed = replace_all(deployed, _faster_form)
        for weight in deployed.parameters():
            if weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return deployed


def snap_boxes(network: nn.Module) -> None:
    """Move the edges of all boxes in ``network`` to the nearest pixel borders, in place, and freeze them there."""
    check_module("network", network)
    for layer in network.modules():
        if isinstance(layer, BoxConv2d):
            layer.snap_()


def replace_all(network: nn.Module, replacement_of: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Replace all modules of ``network``, outer ones first; a module in several places gets a single replacement."""
    made: dict[nn.Module, nn.Module] = {}

    def replaced(module: nn.Module) -> nn.Module:
        if module not in made:
            made[module] = replacement = replacement_of(module)
            for name, child in list(replacement.named_modules(remove_duplicate=False)):
                if name and "." not in name:
                    setattr(replacement, name, replaced(child))
        return made[module]

    return replaced(network)


def _deployed_layer(module: Any, flow: Dataflow) -> Any:
    """The deployed form of ``module``; most modules are not replaced. ``flow``: of the network before that."""
    if type(module) in _DROPOUTS and not has_hooks(module) and flow.calls[module] < 2:
        return nn.Identity()
    if is_plain(module, BoxConv2d):
        return FusedBoxConv2d(module)
    if any(flow.calls[inner] > 1 for inner in module.modules()):
        return module
    if is_plain(module, BoxBottleneck) and is_plain(module.box, BoxConv2d) and is_plain(module.dropout, nn.Dropout2d):
        inner, outer = scale_and_shift(module.norm_in), scale_and_shift(module.norm_out)
        box = FusedBoxConv2d(module.box)
        if inner and outer and fold_into(module.conv, *inner) and fold_into(box, *outer):
            return FusedBoxBottleneck(module, module.conv, box)
    return deployed_block(module) or module


def _faster_form(module: Any) -> Any:
    """What computes ``module`` faster in channels_last; itself for most modules."""
    if type(module) is nn.Conv2d and is_plain(module, nn.Conv2d):
        shape = (module.kernel_size, module.stride, module.padding, module.groups)
        return PointwiseConv2d.of(module) if shape == ((1, 1), (1, 1), (0, 0), 1) else module
    if type(module) is nn.ConvTranspose2d and is_plain(module, nn.ConvTranspose2d) and module.bias is not None:
        return FastTransposedConv2d.of(module) if FastTransposedConv2d.fits(module) else module
    return pool_beside_conv(module) or module


def _absorb_relus(flow: Dataflow) -> None:
    for part, node, relu, _, box in flow.links():
        if type(relu) is not nn.ReLU or has_hooks(relu):
            continue
        if isinstance(box, FusedBoxConv2d) and flow.once(box) and flow.once(relu):
            box.relu = True
            part.replace(node, nn.Identity())


def _activate_in_place(flow: Dataflow) -> None:
    """Let activations overwrite the outputs of layers that make a new tensor which nothing else reads."""
    for part, node, layer, _, before in flow.links():
        act, new = Activation.of(layer), is_convolution(before) or type(before) is ChannelAffine
        if act is not None and new and flow.once(layer) and not has_hooks(layer):
            part.replace(node, act)


def _overwrite_inputs(network: nn.Module, flow: Dataflow) -> None:
    """Let box blocks overwrite their inputs, where these are new tensors which nothing else reads.

    That can be known only if the whole forward code has been read, and no hook keeps what passes. Unless block and
    source stand in the same `nn.Sequential`, the network must pass the input on, too (`networks.temporary`): so all
    parts of the network may be called alone, without damage to the caller's image.
    """
    if [part.root for part in flow.parts] != [network] or any(has_hooks(module) for module in network.modules()):
        return
    part = flow.parts[0]
    for node in () if part.variants else part.graph.nodes:
        source, block = part.source(node), part.layer(node)
        if not isinstance(block, FusedBoxBottleneck) or source is None or not flow.once(block):
            continue
        before, (parent, _, _) = part.layer(source), str(node.target).rpartition(".")
        together = type(network.get_submodule(parent)) is nn.Sequential and str(source.target).startswith(f"{parent}.")
        new = isinstance(before, (Activation, FusedBoxBottleneck)) or is_convolution(before)
        block.overwrites = bool(parent) and together and new
        block.overwrites_temporary = new and not block.overwrites
    if any(isinstance(block, FusedBoxBottleneck) and block.overwrites_temporary for block in network.modules()):
        for module in network.modules():
            if isinstance(module, PaddedNetwork):
                module.deployed = True


def _drop_classes(network: nn.Module, dropped: set[int], head: str) -> None:
    try:
        layer: Any = network.get_submodule(head)
        count = layer.out_channels
    except AttributeError:
        raise ValueError(
            f"drop_classes needs head=NAME, the name of the convolution that computes the logits; {head!r} is none"
        ) from None
    if not dropped < set(range(count)):
        raise ValueError(f"drop_classes must be some of the {count} outputs 0 ... {count - 1}, got {sorted(dropped)}")
    keep_outputs(layer, [k for k in range(count) if k not in dropped])
