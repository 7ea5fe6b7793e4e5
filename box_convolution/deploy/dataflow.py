"""Which layer reads which output, and therefore what can be folded into what.

`torch.fx` traces the network part by part: if the code of a part branches on its input (on image sizes, say) and cannot
be traced, the children that it calls whole are traced. No code is generated: the network keeps its modules and its
forward code.
"""

import functools
import inspect
import itertools
import types
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

from ..networks.prelu import PReLU
from ..torch_internals import has_hooks
from .activation import Activation
from .modules import FastTransposedConv2d, FusedBoxBottleneck, FusedBoxConv2d, PointwiseConv2d
from .whole_calls import shows_in_a_trace, whole_children

_OURS = (FusedBoxConv2d, FusedBoxBottleneck, PointwiseConv2d, FastTransposedConv2d, Activation, PReLU)
_MOST_VARIANTS = 16
_OF_TORCH = set(vars(nn.Module()))
"""Attributes in which PyTorch keeps the children, numbers and hooks of a module."""


class _Reader(fx.Tracer):
    """Notes the tensors that the code reads itself, as in ``conv2d(x, self.conv.weight)``."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors_read: set[int] = set()

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        ours = isinstance(module, _OURS) or not shows_in_a_trace(module)
        return ours or super().is_leaf_module(module, qualified_name)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if isinstance(attr_val, Tensor):
            self.tensors_read.add(id(attr_val))
        return super().getattr(attr, attr_val, parameter_proxy_cache)


@dataclass(frozen=True)
class Part:
    """A part of the network that could be traced: ``root``, and the graph of what its forward code does.

    ``variants``: its graphs with other values of the parameters of forward that have defaults. ``network``: the whole.
    """

    network: nn.Module
    root: nn.Module
    graph: fx.Graph
    variants: list[fx.Graph]

    def layer(self, node: object) -> Any:
        """Return the layer that ``node`` calls; None if it does something else."""
        if isinstance(node, fx.Node) and node.op == "call_module":
            return self.root.get_submodule(str(node.target))
        return None

    def replace(self, node: fx.Node, layer: nn.Module) -> None:
        """Replace the layer that ``node`` calls by ``layer``, under all of its names."""
        replaced = self.layer(node)
        for path, module in list(self.network.named_modules(remove_duplicate=False)):
            if module is replaced:
                parent, _, name = path.rpartition(".")
                setattr(self.network.get_submodule(parent), name, layer)

    def source(self, node: fx.Node) -> fx.Node | None:
        """Return the node that makes the first input of ``node``, if nothing else reads it; skips `nn.Identity`."""
        source = self._source(node)
        return source if source is None or all(self._agrees(graph, node, source) for graph in self.variants) else None

    def _source(self, node: fx.Node) -> fx.Node | None:
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or len(source.users) != 1:
            return None
        layer = self.layer(source)
        return self._source(source) if type(layer) is nn.Identity and not has_hooks(layer) else source

    def _agrees(self, graph: fx.Graph, node: fx.Node, source: fx.Node) -> bool:
        """Whether in ``graph``, too, only ``node`` reads ``source``, or neither occurs. Both must call layers."""
        if self.layer(node) is None or self.layer(source) is None:
            return False
        calls = [one for one in graph.nodes if one.op == "call_module"]
        sources, readers = ([one for one in calls if one.target == other.target] for other in (source, node))
        return [self._source(reader) for reader in readers] == sources


@dataclass
class Dataflow:
    """The parts of a network, and how often each layer occurs in them."""

    parts: list[Part] = field(default_factory=list)
    calls: Counter[nn.Module] = field(default_factory=Counter)

    def links(self) -> Iterator[tuple[Part, fx.Node, Any, fx.Node, Any]]:
        """Yield each node whose first input nothing else reads: part, node, its layer, `Part.source`, and its layer."""
        for part in self.parts:
            for node in part.graph.nodes:
                source = part.source(node)
                if source is not None:
                    yield part, node, part.layer(node), source, part.layer(source)

    def once(self, layer: Any) -> bool:
        """Whether only one place of the forward code calls ``layer``, and none looks into it.

        Else a change would affect other places.
        """
        return self.calls[layer] == 1


def read(network: nn.Module) -> Dataflow:
    """Read the dataflow of ``network`` in its present mode (training or evaluation)."""
    flow = Dataflow()
    for kept in _kept_elsewhere(network):
        flow.calls.update(dict.fromkeys(kept.modules(), 2))
    flow.parts = [Part(network, *part) for part in _parts(network, set(), flow.calls)]
    for part in flow.parts:
        most: Counter[nn.Module] = Counter()
        for graph in (part.graph, *part.variants):
            most |= Counter(layer for node in graph.nodes if (layer := part.layer(node)) is not None)
        flow.calls.update(most)
    return flow


def _kept_elsewhere(network: nn.Module) -> Iterator[nn.Module]:
    """Modules that a module keeps in another attribute, such as a list: there a replacement would not be seen."""
    seen: set[int] = set()

    def within(value: Any) -> Iterator[nn.Module]:
        if isinstance(value, nn.Module):
            yield value
        elif id(value) not in seen and not isinstance(value, (Tensor, type, types.FunctionType, types.ModuleType)):
            seen.add(id(value))
            if isinstance(value, dict):
                inner: Iterable[Any] = value.values()
            elif isinstance(value, (list, tuple, set, frozenset, deque)):
                inner = value
            elif isinstance(value, functools.partial):
                inner = (value.func, value.args, value.keywords)
            else:
                inner = (getattr(value, "__self__", None), getattr(value, "__dict__", None))
            for one in inner:
                yield from within(one)

    for module in network.modules():
        for name, value in vars(module).items():
            if name not in _OF_TORCH:
                yield from within(value)


def _parts(
    module: nn.Module, seen: set[nn.Module], calls: Counter[nn.Module]
) -> Iterator[tuple[nn.Module, fx.Graph, list[fx.Graph]]]:
    """Roots and graphs of the parts of ``module``. Adds to ``calls`` what graphs do not show.

    These are the calls of code that cannot be traced, and, as two calls, that the code looks into a module.
    """
    if module in seen:
        return
    seen.add(module)
    graphs, tensors_read = _graphs(module)
    if graphs:
        yield module, graphs[0], graphs[1:]
        calls.update(dict.fromkeys(_holders(module, tensors_read), 2))
        called = {str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_module"}
        whole = [one for one in map(module.get_submodule, sorted(called)) if not shows_in_a_trace(one)]
    else:
        whole = whole_children(module)
        closed = {id(inner) for one in whole for inner in one.modules()}
        calls.update({inner: 2 for inner in module.modules() if inner is not module and id(inner) not in closed})
        calls.update(whole)
    for child in whole:
        yield from _parts(child, seen, calls)


def _holders(module: nn.Module, tensors: set[int]) -> Iterable[nn.Module]:
    for inner in module.modules():
        own = itertools.chain(inner.parameters(recurse=False), inner.buffers(recurse=False))
        if any(id(tensor) in tensors for tensor in own):
            yield inner


def _graphs(module: nn.Module) -> tuple[list[fx.Graph], set[int]]:
    """The graph of ``module``, and those with other values of optional parameters: none if one cannot be traced.

    Also the tensors that the code reads itself, by their id.
    """
    if not shows_in_a_trace(module):
        return [], set()
    parameters = inspect.signature(module.forward).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    # A boolean has two values. Anything else has its default or is unknown: then it is left out, for a proxy.
    others = [{name: not value} if isinstance(value, bool) else {} for name, value in defaults.items()]
    choices = [({name: value}, other) for (name, value), other in zip(defaults.items(), others, strict=True)]
    graphs, tensors_read = [], set()
    if 2 ** len(choices) > _MOST_VARIANTS:
        return [], set()
    for chosen in itertools.product(*choices):
        reader = _Reader()
        try:
            graphs.append(reader.trace(module, concrete_args={k: v for one in chosen for k, v in one.items()}))
        except Exception:  # the module's own code runs here, on proxies instead of tensors: it may raise anything
            return [], set()
        tensors_read |= reader.tensors_read
    return graphs, tensors_read
