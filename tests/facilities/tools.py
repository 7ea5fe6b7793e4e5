"""Profilers, counters, modes that intercept every operation, and tensors without data."""

from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from box_convolution import BoxConv2d, box_conv2d

from .table import ALL, FEW, Case, facility, training, twin

GROUP = "Tools"


class _Functions(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += function is box_conv2d
        return function(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += function is torch.ops.box_convolution.box_conv2d.default
        return function(*args, **(kwargs or {}))


def _layers(case: Case) -> int:
    return sum(isinstance(module, BoxConv2d) for module in case.network.modules())


@facility(GROUP, "`TorchFunctionMode` and `TorchDispatchMode` see each box convolution once, training")
def modes(case: Case) -> tuple[Any, Any]:
    other = twin(case.network)
    with _Functions() as functions:
        got = training(case.network, case.image)
    with _Operators() as operators:
        again = training(twin(other), case.image)
    alone = training(other, case.image)
    return [got, again, functions.calls, operators.calls], [alone, alone, _layers(case), _layers(case)]


@facility(GROUP, "`torch.profiler`: each box convolution is named, training", subjects=FEW)
def profiled(case: Case) -> tuple[Any, Any]:
    other = twin(case.network)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as result:
        got = training(case.network, case.image)
    calls = sum(event.name == "box_convolution::box_conv2d" for event in result.events())
    return [*got, calls], [*training(other, case.image), _layers(case)]


@facility(GROUP, "`FlopCounterMode` counts box convolutions")
def flops(case: Case) -> tuple[Any, Any]:
    other = twin(case.network)
    with FlopCounterMode(display=False) as counter:
        got = training(case.network, case.image)
    counted = torch.ops.box_convolution.box_conv2d in counter.get_flop_counts()["Global"]
    return [*got, counted], [*training(other, case.image), _layers(case) > 0]


@facility(
    GROUP, "fake tensors: a training step reads no value of a tensor, so the CPU never waits for a GPU", in_tests=ALL
)
def fake(case: Case) -> tuple[Any, Any]:
    mode = FakeTensorMode()
    network, image = _without_data(twin(case.network), mode), mode.from_tensor(case.image)
    with mode:
        optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad])
        output = network.train()(image)
        output.square().mean().backward()
        optimizer.step()
    return list(output.shape), list(case.network(case.image).shape)


def _without_data(network: nn.Module, mode: FakeTensorMode) -> nn.Module:
    for module in network.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            fake = nn.Parameter(mode.from_tensor(weight.data), requires_grad=weight.requires_grad)
            setattr(module, name, fake)
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, mode.from_tensor(buffer))
    return network
