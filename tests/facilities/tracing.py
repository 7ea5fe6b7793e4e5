"""Tools that read a network's code, or record its operations."""

import copy
import io
import pickle
import warnings
from typing import Any

import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from box_convolution import BoxConv2d

from .table import ALL, FEW, LAYER, Case, facility, logits

GROUP = "Tracing"
NETWORKS = tuple(name for name in FEW if name != LAYER)


def _traced(case: Case) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # all of torch.jit is deprecated
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return torch.jit.trace(case.network, case.image)


@facility(GROUP, "`torch.jit.trace` with gradients recorded, then an image of another size", in_tests=ALL)
def jit_trace(case: Case) -> tuple[Any, Any]:
    return logits(_traced(case), case.image, case.other), logits(case.network, case.image, case.other)


@facility(GROUP, "`torch.jit.trace` under `no_grad`, then an image of another size", in_tests=(LAYER, "boxenet"))
def jit_trace_no_grad(case: Case) -> tuple[Any, Any]:
    with torch.no_grad():
        traced = _traced(case)
    return logits(traced, case.other), logits(case.network, case.other)


@facility(GROUP, "`torch.jit.save` and `load` of a traced network", subjects=FEW, in_tests=(LAYER,))
def jit_save(case: Case) -> tuple[Any, Any]:
    file = io.BytesIO()
    torch.jit.save(_traced(case), file)
    file.seek(0)
    return logits(torch.jit.load(file), case.other), logits(case.network, case.other)


@facility(
    GROUP,
    "`torch.jit.script`",
    subjects=FEW,
    refused="the boxes are a property that TorchScript cannot read; what `deploy` makes can be scripted, "
    "and any network can be traced",
)
def jit_script(case: Case) -> tuple[Any, Any]:
    return logits(torch.jit.script(case.network), case.image), logits(case.network, case.image)


def _graph(case: Case) -> fx.GraphModule:
    return fx.symbolic_trace(nn.Sequential(case.network))


@facility(GROUP, "`torch.fx.symbolic_trace`, every layer a node, then an image of another size", in_tests=ALL)
def symbolic_trace(case: Case) -> tuple[Any, Any]:
    graph = _graph(case)
    modules = [graph.get_submodule(str(n.target)) for n in graph.graph.nodes if n.op == "call_module"]
    found = sum(isinstance(module, BoxConv2d) for module in modules)
    there = sum(isinstance(module, BoxConv2d) for module in case.network.modules())
    return [found, *logits(graph, case.image, case.other)], [there, *logits(case.network, case.image, case.other)]


@facility(GROUP, "`torch.fx` graphs copied and pickled")
def graph_copies(case: Case) -> tuple[Any, Any]:
    graph = copy.deepcopy(_graph(case))
    again = pickle.loads(pickle.dumps(graph))
    return [*logits(graph, case.other), *logits(again, case.other)], logits(case.network, case.other) * 2


@facility(
    GROUP,
    "`torch.fx.symbolic_trace` of `BoxConv2d` itself, not of a network that holds it",
    subjects=(LAYER,),
    refused="torch.fx cannot make a graph whose only node is the traced module itself: trace `nn.Sequential(layer)`",
)
def symbolic_trace_layer(case: Case) -> tuple[Any, Any]:
    return logits(fx.symbolic_trace(case.network), case.image), logits(case.network, case.image)


@facility(GROUP, "`make_fx`, image and operators recorded", subjects=FEW)
def recorded(case: Case) -> tuple[Any, Any]:
    with torch.no_grad():
        graph = make_fx(case.network)(case.image)
    later = torch.rand_like(case.image)
    return logits(graph, later), logits(case.network, later)


@facility(GROUP, "`torch.export` with free batch, height and width (multiples of 8)", subjects=FEW, in_tests=FEW[:2])
def exported(case: Case) -> tuple[Any, Any]:
    batch, h, w = torch.export.Dim("batch"), torch.export.Dim("h", min=2, max=64), torch.export.Dim("w", min=2, max=64)
    program = torch.export.export(case.network, (case.image,), dynamic_shapes=({0: batch, 2: 8 * h, 3: 8 * w},))
    later = torch.rand(3, 3, 48, 64)
    return logits(program.module(), later), logits(case.network, later)


@facility(
    GROUP,
    "`torch.export` of a network for any height and width, not multiples of 8 alone",
    subjects=NETWORKS,
    in_tests=(),
    refused="its guards fail at other sizes: export for multiples of 8, as `boxconv export` does, or to ONNX, which "
    "takes any size",
)
def exported_any(case: Case) -> tuple[Any, Any]:
    free = torch.export.Dim.DYNAMIC
    image = torch.rand(2, 3, 45, 58)
    program = torch.export.export(case.network, (image,), dynamic_shapes=({0: free, 2: free, 3: free},))
    later = torch.rand(3, 3, 64, 37)
    return logits(program.module(), later, case.image), logits(case.network, later, case.image)
