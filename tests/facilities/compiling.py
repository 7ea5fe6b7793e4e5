"""torch.compile: whole graphs, one for all sizes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from .table import FEW, LAYER, Case, facility, gradients, logits, training, twin

GROUP = "torch.compile"
# In the first shape all sizes differ, because PyTorch gives equal sizes the same symbol.
SIZES = ((2, 41, 50), (2, 32, 32), (2, 48, 64), (3, 40, 37), (3, 57, 64))


def _sized() -> list[Tensor]:
    return [torch.rand(batch, 3, h, w) for batch, h, w in SIZES]


@facility(GROUP, "`fullgraph=True`, forward and backward", subjects=FEW)
def whole_graph(case: Case) -> tuple[Any, Any]:
    torch.compiler.reset()
    other = twin(case.network)
    compiled = torch.compile(case.network, backend="aot_eager", fullgraph=True)
    return gradients(case.network, case.image, compiled), gradients(other, case.image)


@facility(GROUP, "`dynamic=True`: one graph for five sizes", subjects=FEW, in_tests=(LAYER,))
def dynamic(case: Case) -> tuple[Any, Any]:
    torch.compiler.reset()
    graphs: list[fx.GraphModule] = []

    def counting(graph: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    images = _sized()
    compiled = torch.compile(case.network, backend=counting, fullgraph=True, dynamic=True)
    return [*logits(compiled, *images), len(graphs)], [*logits(case.network, *images), 1]


@facility(
    GROUP, "sizes marked as dynamic, no recompilation allowed", subjects=FEW, in_tests=("boxerfnet",), since=(2, 9)
)
def marked(case: Case) -> tuple[Any, Any]:
    torch.compiler.reset()
    images = [torch.rand(2, 3, 45, 58), *_sized()]
    compiled = torch.compile(case.network, backend="eager", fullgraph=True)
    for axis in (0, 2, 3):
        torch._dynamo.mark_dynamic(images[0], axis)
    found = logits(compiled, images[0])
    with torch.compiler.set_stance("fail_on_recompile"):
        found += logits(compiled, *images[1:])
    return found, logits(case.network, *images)


@facility(GROUP, "default backend (Inductor), training", subjects=(LAYER, "boxerfnet"), in_tests=())
def inductor(case: Case) -> tuple[Any, Any]:
    torch.compiler.reset()
    # In float64: in float32, rounding decides which of two nearly equal pixels pooling selects.
    network, image = case.network.double(), case.image.double()
    other = twin(network)
    return training(network, image, torch.compile(network, fullgraph=True)), training(other, image)


@facility(GROUP, "Inductor with `dynamic=True`, five sizes, no recompilation allowed", subjects=(LAYER,), in_tests=())
def inductor_dynamic(case: Case) -> tuple[Any, Any]:
    torch.compiler.reset()
    network, images = case.network.double(), [torch.rand(2, 3, 45, 58).double(), *(i.double() for i in _sized())]
    compiled = torch.compile(network, fullgraph=True, dynamic=True)
    found = logits(compiled, images[0])
    with torch.compiler.set_stance("fail_on_recompile"):
        found += logits(compiled, *images[1:])
    return found, logits(network, *images)


@facility(
    GROUP, '`mode="reduce-overhead"` (on the CPU, where there are no CUDA graphs)', subjects=(LAYER,), in_tests=()
)
def reduce_overhead(case: Case) -> tuple[Any, Any]:
    torch.compiler.reset()
    network, image = case.network.double(), case.image.double()
    compiled = torch.compile(network, fullgraph=True, mode="reduce-overhead")
    return logits(compiled, image), logits(network, image)
