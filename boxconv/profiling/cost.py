"""The cost of a network and of its blocks: parameters, operations, memory and time.

The network's own forward code runs on the meta device, where tensors have shapes but no content, and every operation is
counted when it is called. Blocks are the network's children; plain containers are replaced by their children.
"""

import copy
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from box_convolution.layer import BoxConv2d
from box_convolution.torch_internals import TorchDispatchMode, tree_leaves

from .operations import Operations, name_of, operations
from .timing import processor_or_wall_clock

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Parameters:
    """Numbers of scalar parameters.

    paper: in the convention of the paper's Table 3, without those of BatchNorm.
    standard: in this project's convention, with those of BatchNorm, without biases that a following BatchNorm cancels.
    norm: of BatchNorm.
    boxes: of box layers, the coordinates of their boxes.
    trainable: those in ``standard`` that require gradients.
    """

    paper: int
    standard: int
    norm: int
    boxes: int
    trainable: int


@dataclass(frozen=True)
class Cost:
    """The cost of one block, or of the whole network, in one forward pass in evaluation mode.

    memory: largest total size, in bytes, of the results of operations that exist at the same time, without the block's
        input. Weights, and the working memory of operations, are not included.
    """

    name: str
    kind: str
    parameters: Parameters
    operations: Operations
    memory: int


@dataclass(frozen=True)
class NetworkCost:
    total: Cost
    blocks: list[Cost]


def blocks_of(network: nn.Module) -> dict[str, nn.Module]:
    """The blocks of ``network`` by name: its children, or the network itself under "" if it has none.

    The children of a plain container take its place.
    """

    def found(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
        for name, child in module.named_children():
            if type(child) in (nn.Sequential, nn.ModuleList):
                yield from found(child, f"{prefix}{name}.")
            else:
                yield prefix + name, child

    return dict(found(network, "")) or {"": network}


def cost(network: nn.Module, image: tuple[int, int, int, int], name: str = "") -> NetworkCost:
    """Count the cost of ``network`` for images of shape (B, C, H, W). Computes no values and does not change it."""
    twin = copy.deepcopy(network).to("meta").eval()
    ledger = _Ledger()
    blocks = blocks_of(twin)
    for block, module in blocks.items():
        module.register_forward_pre_hook(ledger.entering(block))
        module.register_forward_hook(ledger.leave)
    with torch.no_grad():
        input = torch.empty(image, device="meta")
        with ledger:
            twin(input)
    counted = [
        Cost(
            block,
            type(module).__name__,
            _parameters(module, ledger.redundant),
            ledger.operations.get(block, Operations()),
            ledger.peaks.get(block, 0),
        )
        for block, module in blocks.items()
    ]
    everything = Operations()
    for part in ledger.operations.values():
        everything = everything.plus(part)
    kind = type(network).__name__
    total = Cost(name or kind, kind, _parameters(twin, ledger.redundant), everything, ledger.peaks[""])
    return NetworkCost(total, counted)


def forward_times(network: nn.Module, image: Tensor, *, rounds: int = 11) -> dict[str, float]:
    """Median milliseconds of a forward pass in evaluation mode, for each block by name; "" is the whole network.

    They are processor time on a CPU with one thread, else wall time. Of ``rounds`` + 1 passes, the first is not
    counted. With ``rounds`` 0 nothing runs, and the result is empty. ``network`` is not changed.
    """
    if rounds == 0:
        return {}
    blocks = blocks_of(network)
    spent: dict[str, list[int]] = {name: [] for name in ("", *blocks)}
    begun: dict[str, int] = {}
    on_gpu = image.device.type == "cuda"
    clock = time.perf_counter_ns if on_gpu else processor_or_wall_clock()

    def now() -> int:
        if on_gpu:
            torch.cuda.synchronize(image.device)
        return clock()

    def begin(name: str) -> None:
        begun[name] = now()

    def end(name: str) -> None:
        spent[name].append(now() - begun[name])

    with ExitStack() as stack, torch.inference_mode():
        for name, module in blocks.items():
            stack.callback(module.register_forward_pre_hook(lambda *_, name=name: begin(name)).remove)
            stack.callback(module.register_forward_hook(lambda *_, name=name: end(name)).remove)
        stack.callback(network.train, network.training)
        network.eval()
        for _ in range(rounds + 1):
            begin("")
            network(image)
            end("")
    return {name: median(times[len(times) // (rounds + 1) :]) / 1e6 for name, times in spent.items() if times}


def _parameters(module: nn.Module, redundant: set[int]) -> Parameters:
    """Count parameters. ``redundant``: ids of the biases that a following BatchNorm cancels."""
    norm = {id(p) for m in module.modules() if isinstance(m, _NORMS) for p in m.parameters(recurse=False)}
    boxes = {id(p) for m in module.modules() if isinstance(m, BoxConv2d) for p in m.parameters(recurse=False)}

    def count(wanted: Callable[[Tensor], bool]) -> int:
        return sum(p.numel() for p in module.parameters() if wanted(p))

    return Parameters(
        paper=count(lambda p: id(p) not in norm),
        standard=count(lambda p: id(p) not in redundant),
        norm=count(lambda p: id(p) in norm),
        boxes=count(lambda p: id(p) in boxes),
        trainable=count(lambda p: id(p) not in redundant and p.requires_grad),
    )


class _Ledger(TorchDispatchMode):
    """Counts every operation for the block that is running, and tracks the memory of results.

    Block "" is for operations outside all blocks; in ``peaks`` it is the whole network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: dict[str, Operations] = {}
        self.peaks: dict[str, int] = {"": 0}
        self.redundant: set[int] = set()
        self._running: list[str] = []
        self._live = 0
        self._live_before: dict[str, int] = {}
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        # For each tensor, the ids of the biases that were added to it: a following BatchNorm cancels them.
        self._biases: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def entering(self, block: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self._running.append(block)
            self._live_before[block] = self._live

        return hook

    def leave(self, *_: Any) -> None:
        self._running.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        block = self._running[-1] if self._running else ""
        self.operations[block] = self.operations.get(block, Operations()).plus(operations(func, args, output))
        self._follow_memory(output)
        self._follow_biases(name_of(func), args, output)
        return output

    def _follow_memory(self, output: Any) -> None:
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and tensor.untyped_storage() not in self._seen:
                storage = tensor.untyped_storage()
                self._seen.add(storage)
                self._live += storage.nbytes()
                weakref.finalize(storage, self._release, storage.nbytes())
        self.peaks[""] = max(self.peaks[""], self._live)
        for block in self._running:
            self.peaks[block] = max(self.peaks.get(block, 0), self._live - self._live_before[block])

    def _release(self, size: int) -> None:
        self._live -= size

    def _follow_biases(self, name: str, args: Any, output: Any) -> None:
        if name == "aten::convolution" and args[2] is not None:
            self._biases[output] = {id(args[2])}
        elif name == "aten::cat":
            self._biases[output] = set().union(*(self._biases.get(part, set()) for part in args[0]))
        elif "batch_norm" in name:
            self.redundant |= self._biases.get(args[0], set())
