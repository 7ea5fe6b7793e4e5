"""Speed of the paper's networks and blocks, timed side by side, as tables."""

import copy
import itertools
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from box_convolution import networks
from box_convolution.deploy import deploy, snap_boxes
from box_convolution.networks.enet import Bottleneck
from box_convolution.networks.erfnet import NonBottleneck1d

from ..errors import plural
from ..reports.tables import Section, Table, number
from . import machine
from .timing import Call, Repeats, Timing, interleaved, waiting

CLASSES = 19
TOLERANCE = 1e-4  # largest change of the logits by deployment, besides rounding, as a share of their range

BLOCK_SHAPE = (1, 128, 64, 128)  # 1/8 of 512 x 1024
TRAINING_SHAPE = (8, 3, 176, 240)  # CamVid at half resolution
TRAINED = ("enet", "boxenet", "boxonlyenet", "erfnet", "boxerfnet")  # whose training steps are timed

# Table 3 of the paper: milliseconds at 512 x 1024 on one core of an i7-7700HQ, and on a GTX 1050.
_ORDER = ("enet", "boxenet", "enet_minus", "boxonlyenet", "erfnet", "boxerfnet", "erfnet_minus")
PAPER: dict[str, dict[str, float]] = {
    "cpu": dict(zip(_ORDER, (558, 478, 338, 414, 1682, 822, 772), strict=True)),
    "cuda": dict(zip(_ORDER, (32.8, 33.1, 21.2, 33.6, 78.4, 44.0, 39.7), strict=True)),
}


Times = Callable[..., dict[str, Timing]]
"""Times calls, by name, as often as the settings say, or in ``rounds`` rounds."""


class Settings(Protocol):
    """Settings of the measurements; `boxconv bench --help` explains each."""

    @property
    def networks(self) -> tuple[str, ...]: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def rounds(self) -> int: ...
    @property
    def threads(self) -> tuple[int, ...]: ...
    @property
    def compile(self) -> bool: ...
    @property
    def blocks(self) -> bool: ...
    @property
    def train(self) -> bool: ...


def about(args: Settings, keeps_memory: bool) -> Section:
    """How the times are measured: the protocol, the command, and facts about the machine."""
    rows = [["command", f"`{shlex.join(['boxconv', *sys.argv[1:]])}`"], *machine.facts(args.threads, keeps_memory)]
    text = (
        "The paper's protocol: one image, 19 classes, deployed networks (BatchNorm folded, boxes snapped to whole "
        "pixels, residual and ReLU fused into the box convolution). The networks or blocks of a table take turns in "
        f"one process, {args.rounds} turns each. Times are medians, with their quartiles beside them; a ratio is the "
        "median of the ratios in one turn. With one thread, processor time is measured."
    )
    return Section("Speed of the networks", text, Table(["", ""], rows, text=True))


def measured(args: Settings, device: torch.device, threads: int) -> Iterator[Section]:
    """Yield each section as soon as it has been measured."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {plural(threads, 'thread')}"

    def times(calls: Mapping[str, Call], rounds: int = args.rounds) -> dict[str, Timing]:
        ready = {name: waiting(call, device) for name, call in calls.items()}
        enough = Repeats(rounds, seconds=3600)  # time for all rounds
        return interleaved(ready, enough, wall=device.type == "cuda")

    yield _networks(args, device, f"Networks, {where}", times)
    if args.blocks:
        yield _blocks(device, f"Blocks, {where}", times)
    if args.train:
        yield _training(args, device, f"Training step, {where}", times)


def _networks(args: Settings, device: torch.device, title: str, times: Times) -> Section:
    image = torch.rand(1, 3, *args.size, device=device)
    calls: dict[str, Call] = {}
    torch.compiler.reset()  # earlier compilations count towards a limit, above which nothing is compiled
    text = f"{args.size[0]} x {args.size[1]}, batch 1. Ratios: to ENet, or to ERFNet in its family."
    for name in args.networks:
        network = _deployed(networks.create(name, CLASSES, args.size).to(device), image, name)
        calls[name] = _inference(network, image)
        if args.compile:
            try:
                calls[_compiled(name)] = _compile(network, image)
            except Exception as error:  # a missing or failing compiler raises errors of any type
                text += f" {name} under torch.compile: failed, {_first_line(error)}."
    found = times(calls)
    rows = [_network_row(name, found, args, device) for name in args.networks]
    header = ["network", "ms", "quartiles", "ratio"]
    if args.compile:
        header += ["torch.compile ms", "quartiles", "ratio"]
    return Section(title, text, Table([*header, "paper ms", "paper ratio"], rows))


def _network_row(name: str, found: Mapping[str, Timing], args: Settings, device: torch.device) -> list[str]:
    base = _base(name)
    paper = PAPER[device.type]
    cells = [name]
    for variant in (lambda name: name, _compiled) if args.compile else (lambda name: name,):
        timing, of_base = found.get(variant(name)), found.get(variant(base))
        cells += _cells(timing, of_base)
    return [*cells, *(([f"{paper[name]:g}", f"{paper[name] / paper[base]:.3f}"]) if name in paper else ["", ""])]


def _base(name: str) -> str:
    return "erfnet" if "erf" in name else "enet"


def _cells(timing: Timing | None, base: Timing | None) -> list[str]:
    """Median, quartiles, and the ratio to ``base``."""
    if timing is None:
        return ["", "", ""]
    quartiles = f"{number(timing.low)} ... {number(timing.high)}"
    return [number(timing.median), quartiles, f"{timing.over(base):.3f}" if base else ""]


def _blocks(device: torch.device, title: str, times: Times) -> Section:
    """The box block beside the block that it replaces, each as in its network at 1/8 resolution."""
    batch, channels, h, w = BLOCK_SHAPE

    def box(inner_relu: bool) -> nn.Module:
        return networks.BoxBottleneck(channels, max_input_h=h, max_input_w=w, inner_relu=inner_relu, bias=True)

    pairs: dict[str, dict[str, nn.Module]] = {
        "ENet": {"bottleneck, dilation 4": Bottleneck(channels, dilation=4), "box block": box(True)},
        "ERFNet": {"non-bottleneck-1D, dilation 4": NonBottleneck1d(channels, dilation=4), "box block": box(False)},
    }
    calls: dict[str, Call] = {}
    for family, blocks in pairs.items():
        for name, block in blocks.items():
            planes = torch.randn(BLOCK_SHAPE, device=device)
            if device.type == "cpu":
                planes = planes.contiguous(memory_format=torch.channels_last)  # as inside the networks
            block.to(device)
            calls[f"{family} {name}, forward"] = _inference(_deployed(block.eval(), planes, name), planes)
            calls[f"{family} {name}, training"] = _forward_backward(block.train(), planes.clone().requires_grad_())
    found = times(calls)
    rows = []
    for family, blocks in pairs.items():
        replaced = next(iter(blocks))
        for name in blocks:
            cells = [_cells(found[f"{family} {name}, {m}"], found[f"{family} {replaced}, {m}"]) for m in _MODES]
            rows.append([f"{family}: {name}", *cells[0], *cells[1]])
    text = (
        f"{channels} channels, {h} x {w}, batch {batch}. Forward: the deployed block. Training: forward and backward."
    )
    return Section(
        title, text, Table(["block", "forward ms", "quartiles", "ratio", "training ms", "quartiles", "ratio"], rows)
    )


_MODES = ("forward", "training")


def _training(args: Settings, device: torch.device, title: str, times: Times) -> Section:
    batch, _, h, w = TRAINING_SHAPE
    image, label = torch.rand(TRAINING_SHAPE, device=device), torch.randint(11, (batch, h, w), device=device)
    names = [name for name in args.networks if name in TRAINED]
    steps = {name: networks.create(name, 11, (h, w)).to(device) for name in names}
    calls = {name: _step(network, image, label) for name, network in steps.items()}
    halves = {_half(name): _step(network, image, label, half=True) for name, network in steps.items()}
    text = (
        f"{h} x {w}, batch {batch}, 11 classes: forward, cross-entropy, backward, Adam. Ratios: to ENet, or to ERFNet "
        "in its family."
    )
    if names:
        once = times({"float32": calls[names[0]], "bfloat16": halves[_half(names[0])]}, rounds=1)
        if once["bfloat16"].median > 2 * once["float32"].median:  # without instructions for it
            halves = {}
            text += " bfloat16 (--amp bf16) takes more than twice as long here."
    found = times(calls | halves)
    rows = []
    for name in names:
        base = _base(name)
        cells = [_cells(found[of(name)], found.get(of(base))) for of in ((str, _half) if halves else (str,))]
        rows.append([name, *itertools.chain(*cells)])
    header = ["network", "ms", "quartiles", "ratio"]
    return Section(title, text, Table(header + (["bfloat16 ms", "quartiles", "ratio"] if halves else []), rows))


def _deployed(module: nn.Module, input: Tensor, name: str) -> nn.Module:
    """The deployed form of ``module``. Raises RuntimeError if its output is less accurate than that of ``module``.

    Both have snapped boxes, and are compared with the output in float64. The mean error counts, because in ENet single
    pixels may differ by any amount: rounding decides which of four nearly equal numbers is the largest, and so where
    unpooling puts it.
    """
    deployed = deploy(module, snap=True)
    snapped = copy.deepcopy(module).eval()
    snap_boxes(snapped)
    with torch.inference_mode():
        got, expected = deployed(input).double(), snapped(input).double()
        exact = snapped.double()(input.double())
        bound = TOLERANCE * (exact.max() - exact.min()) + 2 * (expected - exact).abs().mean()
        error = (got - exact).abs().mean()
    if not error <= bound:
        raise RuntimeError(f"{name}: deployment changed the output by {error:.1e}, more than {bound:.1e}: not timed")
    return deployed


def _inference(network: Callable[[Tensor], Tensor], image: Tensor) -> Call:
    def call() -> None:
        with torch.inference_mode():
            network(image)

    return call


def _compile(network: nn.Module, image: Tensor) -> Call:
    call = _inference(torch.compile(network, dynamic=False, fullgraph=True), image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call()
    return call


def _compiled(name: str) -> str:
    return f"{name}, torch.compile"


def _forward_backward(block: nn.Module, input: Tensor) -> Call:
    with torch.no_grad():
        towards = torch.randn_like(block(input))

    def call() -> None:
        block.zero_grad()
        input.grad = None
        block(input).backward(towards)

    return call


def _half(name: str) -> str:
    return f"{name}, bfloat16"


def _step(network: nn.Module, image: Tensor, label: Tensor, half: bool = False) -> Call:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def call() -> None:
        optimizer.zero_grad()
        with torch.autocast(image.device.type, torch.bfloat16, enabled=half):
            logits = network(image)
        nn.functional.cross_entropy(logits.float(), label).backward()
        optimizer.step()

    return call


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0][:150]}"
