"""`replace_dilated`: box convolutions instead of a network's wide convolutions and context pools."""

import copy
from collections.abc import Callable, Collection

import torch
from torch import nn

from ..argument_checks import as_int, as_size, check_module
from .report import Replacement, Report
from .rules import KINDS, boxes_for, describe, kind, obstacle
from .watch import Run, watch

Which = str | Collection[str] | Callable[[str, nn.Module], bool]


@torch.no_grad()
def replace_dilated(
    network: nn.Module,
    input_size: tuple[int, int],
    *,
    boxes_per_channel: int = 4,
    which: Which = KINDS,
    in_channels: int = 3,
    reparametrization_factor: float = 8.0,
    symmetric: bool = False,
    initial_boxes: str = "uniform",
) -> tuple[nn.Module, Report]:
    """Return a copy of ``network`` with box convolutions instead of wide convolutions and context pools, and a report.

    The new layers have fresh weights, so the copy must be trained.

    >>> network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=4, dilation=4))
    >>> converted, report = replace_dilated(network, (48, 96))
    >>> converted[1]
    BoxesForConv2d(
      (0): Conv2d(64, 16, kernel_size=(1, 1), stride=(1, 1))
      (1): BoxConv2d(16, 4, max_input_h=48, max_input_w=96, out_channels=64)
    )
    >>> report.replaced[0].parameters
    (36928, 1296)

    What is replaced, of the kinds named by ``which``:

    - ``"dilated"``: an `nn.Conv2d` with a dilation;
    - ``"large"``: an `nn.Conv2d` of 7 or more pixels in height or width, with stride 1 (one with a larger stride is
      there to reduce the resolution);
    - ``"pooling"``: an `nn.AvgPool2d` or `nn.AdaptiveAvgPool2d` whose result is interpolated to the size of its input
      again (as in pyramid pooling), or has that size. Pools in classifiers and squeeze-and-excitation stay.

    By what: a convolution from N to K channels in g groups becomes a 1x1 convolution from N to K/m channels in g groups
    and a `BoxConv2d` with m boxes per channel. Here m is the largest divisor of K/g up to ``boxes_per_channel``, so it
    is 1 in a depthwise convolution. The stride stays, and there is a bias if there was one. If the output of the
    convolution was smaller than its input for lack of padding, as many border pixels are cut off. A pool becomes one
    box per channel, at the resolution of its input.

    What stays: everything else. If a module was to be replaced but cannot be, the report says why: it is not called,
    has hooks, pads with something else than zeros, or its outputs do not lie on pixels of its input. Subclasses of
    `nn.Conv2d`, parametrised ones and functions such as ``x.mean((2, 3))`` are not considered.

    New layers draw their weights from torch's generators, on the device and in the dtype of the old ones. A box
    averages over many pixels, and its output varies little: a normalisation should follow it.

    Args:
        network: takes one image (1, in_channels, h, w). It is not changed; its copy runs once before and once after the
            replacement, in evaluation mode.
        input_size: (h, w), largest expected image, in pixels. The limits of a layer's boxes are the size that its input
            has for such an image.
        boxes_per_channel: largest number of boxes for a channel.
        which: kinds; or a function of a module's name and the module that returns whether to replace it, and is called
            for every `nn.Conv2d`, `nn.AvgPool2d` and `nn.AdaptiveAvgPool2d`.
        in_channels: of the image.
        reparametrization_factor, symmetric, initial_boxes: see `BoxConv2d`.

    Raises:
        TypeError, ValueError: naming the argument; also if there is nothing to replace, if the network does not run, or
            if it returns other shapes after the replacement.
    """
    check_module("network", network)
    shape = (1, as_int("in_channels", in_channels, least=1), *as_size("input_size", input_size))
    boxes_per_channel, wanted = as_int("boxes_per_channel", boxes_per_channel, least=1), _choice(which)
    options = {
        "reparametrization_factor": reparametrization_factor,
        "symmetric": symmetric,
        "initial_boxes": initial_boxes,
    }
    converted = copy.deepcopy(network)
    modules = {name: module for name, module in converted.named_modules() if name and kind(module)}
    chosen = {name: module for name, module in modules.items() if wanted(name, module)}
    any_weight = next(converted.parameters(), torch.empty(0))
    image = torch.rand(shape, device="cpu").to(any_weight)
    before = watch(converted, chosen, image)
    left = {name: reason for name, module in chosen.items() if (reason := obstacle(module, before.modules[name]))}
    made = {
        name: boxes_for(module, before.modules[name], boxes_per_channel, **options).train(module.training)
        for name, module in chosen.items()
        if name not in left
    }
    if not made:
        why = "".join(f"; {name} {reason}" for name, reason in left.items())
        asked = getattr(which, "__name__", repr(which))
        raise ValueError(f"network has nothing to replace by boxes with which={asked}{why}")
    _put(converted, {chosen[name]: module for name, module in made.items()})
    after = watch(converted, made, image, f"with {', '.join(made)} replaced (leave some out with which=)")
    _check_reached(before, after, made)
    replaced = [_replacement(name, chosen[name], module, before, after) for name, module in made.items()]
    totals = (_parameters(network), _parameters(converted)), (before.multiply_adds, after.multiply_adds)
    return converted, Report(replaced, left, *totals)


def _replacement(name: str, old: nn.Module, new: nn.Module, before: Run, after: Run) -> Replacement:
    multiply_adds = before.modules[name].multiply_adds, after.modules[name].multiply_adds
    return Replacement(name, describe(old), describe(new), (_parameters(old), _parameters(new)), multiply_adds)


def _check_reached(before: Run, after: Run, made: Collection[str]) -> None:
    """Raise ValueError unless every replacement was called and the network's outputs have the shapes of before."""
    unreached = [name for name, seen in after.modules.items() if not seen.channels]
    if unreached:
        raise ValueError(
            f"network calls {', '.join(unreached)} in a way that no replacement reaches: leave them out with which="
        )
    if after.outputs != before.outputs:
        raise ValueError(
            f"network returns {after.outputs} with {', '.join(made)} replaced, and {before.outputs} as it is: leave "
            "some of them out with which="
        )


def _choice(which: Which) -> Callable[[str, nn.Module], bool]:
    if callable(which):
        return which
    kinds = [which] if isinstance(which, str) else list(which) if isinstance(which, Collection) else []
    if not kinds or not all(one in KINDS for one in kinds):
        raise ValueError(f"which must be some of {', '.join(KINDS)}, or a function of name and module; got {which!r}")
    return lambda name, module: kind(module) in kinds


def _put(network: nn.Module, replacements: dict[nn.Module, nn.Module]) -> None:
    """Put each replacement wherever its module is: a module may have several names and also be in plain lists."""
    for owner in network.modules():
        for value in vars(owner).values():
            if isinstance(value, list):
                value[:] = [replacements.get(one, one) if isinstance(one, nn.Module) else one for one in value]
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if module in replacements:
            parent, _, name = path.rpartition(".")
            setattr(network.get_submodule(parent), name, replacements[module])


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
