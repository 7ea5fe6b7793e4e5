"""Which layer reads which output, and therefore what can be folded into what.

`torch.fx` traces the network part by part: if the code of a part branches on its input (on image sizes, say) and cannot
be traced, the children that it calls whole are traced. No code is generated: the network keeps its modules and its
forward code.
"""

import inspect
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

from ..networks.prelu import PReLU
from .activation import Activation
from .modules import FastTransposedConv2d, FusedBoxBottleneck, FusedBoxConv2d, PointwiseConv2d
from .whole_calls import whole_children

_OURS = (FusedBoxConv2d, FusedBoxBottleneck, PointwiseConv2d, FastTransposedConv2d, Activation, PReLU)
_MOST_VARIANTS = 16


class _Reader(fx.Tracer):
    """Notes the tensors that the code reads itself, as in ``conv2d(x, self.conv.weight)``."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors_read: set[int] = set()

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, _OURS) or super().is_leaf_module(module, qualified_name)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if isinstance(attr_val, Tensor):
            self.tensors_read.add(id(attr_val))
        return super().getattr(attr, attr_val, parameter_proxy_cache)


@dataclass(frozen=True)
class Part:
    """A part of the network that could be traced: ``root``, and the graph of what its forward code does.

    ``variants``: its graphs with other values of the parameters of forward that have defaults.
    """

    root: nn.Module
    graph: fx.Graph
    variants: list[fx.Graph]

    def layer(self, node: object) -> Any:
        """Return the layer that ``node`` calls; None if it does something else."""
        if isinstance(node, fx.Node) and node.op == "call_module":
            return self.root.get_submodule(str(node.target))
        return None

    def replace(self, node: fx.Node, layer: nn.Module) -> None:
        """Replace the layer that ``node`` calls by ``layer``."""
        parent, _, name = str(node.target).rpartition(".")
        setattr(self.root.get_submodule(parent), name, layer)

    def source(self, node: fx.Node) -> fx.Node | None:
        """Return the node that makes the first input of ``node``, if nothing else reads it; skips `nn.Identity`."""
        source = self._source(node)
        return source if source is None or all(self._agrees(graph, node, source) for graph in self.variants) else None

    def _source(self, node: fx.Node) -> fx.Node | None:
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or len(source.users) != 1:
            return None
        return self._source(source) if isinstance(self.layer(source), nn.Identity) else source

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
    open_to_code = {inner for kept in _kept_elsewhere(network) for inner in kept.modules()}
    flow = Dataflow(list(_parts(network, set(), open_to_code)))
    for part in flow.parts:
        most: Counter[nn.Module] = Counter()
        for graph in (part.graph, *part.variants):
            most |= Counter(layer for node in graph.nodes if (layer := part.layer(node)) is not None)
        flow.calls.update(most)
    flow.calls.update(dict.fromkeys(open_to_code, 2))
    return flow


def _kept_elsewhere(network: nn.Module) -> Iterator[nn.Module]:
    """Modules in plain lists, tuples and dicts of modules: there a replacement would not be seen."""

    def within(value: Any) -> Iterator[nn.Module]:
        if isinstance(value, nn.Module):
            yield value
        elif isinstance(value, (list, tuple, set, dict)):
            for one in value.values() if isinstance(value, dict) else value:
                yield from within(one)

    for module in network.modules():
        for name, value in vars(module).items():
            if name != "_modules":
                yield from within(value)


def _parts(module: nn.Module, seen: set[nn.Module], open_to_code: set[nn.Module]) -> Iterator[Part]:
    """Parts of ``module``. Adds to ``open_to_code`` what the code of a part looks into."""
    if module in seen:
        return
    seen.add(module)
    graphs, tensors_read = _graphs(module)
    if graphs:
        yield Part(module, graphs[0], graphs[1:])
        open_to_code.update(_owners(module, tensors_read))
        return
    whole = whole_children(module)
    called = {id(inner) for one in whole for inner in one.modules()}
    open_to_code.update(inner for inner in module.modules() if inner is not module and id(inner) not in called)
    for child in whole:
        yield from _parts(child, seen, open_to_code)


def _owners(module: nn.Module, tensors: set[int]) -> Iterable[nn.Module]:
    for inner in module.modules():
        own = itertools.chain(inner.parameters(recurse=False), inner.buffers(recurse=False))
        if any(id(tensor) in tensors for tensor in own):
            yield inner


def _graphs(module: nn.Module) -> tuple[list[fx.Graph], set[int]]:
    """The graph of ``module``, and those with other values of optional parameters: none if one cannot be traced.

    Also the tensors that the code reads itself, by their id.
    """
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
