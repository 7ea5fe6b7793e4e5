"""Which layer reads which output, and therefore what can be folded into what.

`torch.fx` traces the network part by part: if the code of a part branches on its input (on image sizes, say) and cannot
be traced, its children are traced. No code is generated: the network keeps its modules and its forward code.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from .activation import Activation
from .modules import FastTransposedConv2d, FusedBoxBottleneck, FusedBoxConv2d, PointwiseConv2d

_OURS = (FusedBoxConv2d, FusedBoxBottleneck, PointwiseConv2d, FastTransposedConv2d, Activation)


class _Reader(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, _OURS) or super().is_leaf_module(module, qualified_name)


@dataclass(frozen=True)
class Part:
    """A part of the network that could be traced: ``root``, and the graph of what its forward code does.

    ``options``: whether its forward has parameters with defaults. The graph is that of the defaults.
    """

    root: nn.Module
    graph: fx.Graph
    options: bool

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
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or len(source.users) != 1:
            return None
        return self.source(source) if isinstance(self.layer(source), nn.Identity) else source


@dataclass
class Dataflow:
    """The parts of a network, and how often each layer occurs in them."""

    parts: list[Part] = field(default_factory=list)
    calls: dict[nn.Module, int] = field(default_factory=dict)

    def links(self) -> Iterator[tuple[Part, fx.Node, Any, fx.Node, Any]]:
        """Yield each node whose first input nothing else reads: part, node, its layer, `Part.source`, and its layer."""
        for part in self.parts:
            for node in part.graph.nodes:
                source = part.source(node)
                if source is not None:
                    yield part, node, part.layer(node), source, part.layer(source)

    def once(self, layer: Any) -> bool:
        """Whether the forward code calls ``layer`` in exactly one place; else a change would affect all its calls."""
        return self.calls.get(layer) == 1


def read(network: nn.Module) -> Dataflow:
    """Read the dataflow of ``network`` in its present mode (training or evaluation)."""
    flow = Dataflow(list(_parts(network, set())))
    for part in flow.parts:
        for node in part.graph.nodes:
            layer = part.layer(node)
            if layer is not None:
                flow.calls[layer] = flow.calls.get(layer, 0) + 1
    return flow


def _parts(module: nn.Module, seen: set[int]) -> Iterator[Part]:
    if id(module) in seen:
        return
    seen.add(id(module))
    parameters = inspect.signature(module.forward).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    graph = _graph(module, defaults)
    if graph is not None:
        yield Part(module, graph, bool(defaults))
    else:
        for child in module.children():
            yield from _parts(child, seen)


def _graph(module: nn.Module, defaults: dict[str, Any]) -> fx.Graph | None:
    try:
        return _Reader().trace(module, concrete_args=defaults)
    except Exception:  # the module's own code runs here, on proxies instead of tensors: it may raise anything
        return None
