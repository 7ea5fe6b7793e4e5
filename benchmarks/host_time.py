"""Processor time of a call, in microseconds: BoxConv2d, its functional form and nn.Conv2d on a map of 8 x 8 pixels.

The map is so small that the time is mostly the fixed overhead of a call. One thread; the best of interleaved rounds.
`--gpu` measures what a call for a GPU costs the CPU, on a machine without a GPU: everything is done except the launches
of the kernels. The goals are 40 us for forward and 80 us for backward.

    python benchmarks/host_time.py [--gpu]
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from box_convolution import BoxBottleneck, BoxConv2d, box_conv2d
from box_convolution import layer as layers
from box_convolution.networks.enet import Bottleneck
from box_convolution.ops import dispatch
from box_convolution.ops.triton import launch

CALLS, ROUNDS = 1000, 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="count the calls for a GPU, without the launches")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.gpu:
        for_a_gpu()
    else:
        for_a_cpu()


def for_a_cpu() -> None:
    layer, conv = BoxConv2d(4, 2, 8, 8), nn.Conv2d(4, 8, 3, padding=1)
    image, boxes = torch.randn(1, 4, 8, 8), layer.boxes.detach()
    trained = boxes.clone().requires_grad_()
    print("us of processor time a call, torch", torch.__version__)
    with torch.no_grad():
        calls: dict[str, Callable[[], Any]] = {
            "box_conv2d": lambda: box_conv2d(image, boxes),
            "BoxConv2d": lambda: layer(image),
            "nn.Conv2d": lambda: conv(image),
            "layer.boxes": lambda: layer.boxes,
        }
        report("without gradients", calls)
    report("with gradients", {**calls, "box_conv2d": lambda: box_conv2d(image, trained)})


def for_a_gpu() -> None:
    print("us of processor time a call for a GPU, launches aside, torch", torch.__version__)
    layer, image = BoxConv2d(4, 2, 8, 8), torch.randn(1, 4, 8, 8, requires_grad=True)
    with without_launches():
        output = layer(image)
        grad, leaves = torch.ones_like(output), [image, *layer.parameters()]

        def backward() -> Any:
            return torch.autograd.grad(output, leaves, grad, retain_graph=True)

        table("BoxConv2d", {"forward, no gradients": evaluation(layer, image), "forward": lambda: layer(image)})
        table("BoxConv2d", {"backward": backward})
        blocks = {"box block": BoxBottleneck(16, max_input_h=8, max_input_w=8), "ENet's bottleneck": Bottleneck(16)}
        image = torch.randn(1, 16, 8, 8, requires_grad=True)
        table("forward", {name: evaluation(block, image) for name, block in blocks.items()})
        table("forward + backward", {name: training(block, image) for name, block in blocks.items()})


def evaluation(module: nn.Module, image: Tensor) -> Callable[[], Any]:
    @torch.no_grad()
    def call() -> Any:
        return module(image)

    return call


def training(module: nn.Module, image: Tensor) -> Callable[[], Any]:
    grad, leaves = torch.ones_like(module(image)), [image, *module.parameters()]
    return lambda: torch.autograd.grad(module(image), leaves, grad)


class Operations(TorchDispatchMode):
    """Counts the operations of PyTorch, each of which takes a GPU's host 4 to 10 us."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def table(title: str, calls: dict[str, Callable[[], Any]]) -> None:
    for name, us in best_times(calls).items():
        with Operations() as operations:
            calls[name]()
        print(f"{title}, {name}: {us:.1f}, {operations.count} operations")


class NoLaunch:
    """Stands for every kernel of every module of kernels, and for the function that launches it."""

    def __getattr__(self, name: str) -> "NoLaunch":
        return self

    def __getitem__(self, grid: tuple[int, ...]) -> "NoLaunch":
        return self

    def __call__(self, *args: object, **options: object) -> "NoLaunch":
        return self


@contextmanager
def without_launches() -> Iterator[None]:
    """As if the tensors of the CPU were on a GPU, for all but the launches of kernels."""
    kernels = (NoLaunch(),) * 6
    functions: list[tuple[Any, str, Callable[..., Any]]] = [
        (launch, "_kernels", lambda: kernels),
        (dispatch, "_fastest", lambda device: "triton"),
        (layers, "_may_look_at", lambda scaled: False),
        (layers, "_kernel_projects", lambda scaled: True),
    ]
    with ExitStack() as stack:
        for module, name, function in functions:
            stack.enter_context(mock.patch.object(module, name, function))
        yield


def report(title: str, calls: dict[str, Callable[[], Any]]) -> None:
    best = best_times(calls)
    over = best["BoxConv2d"] - best["box_conv2d"]
    print(f"{title}: " + ", ".join(f"{name} {us:.1f}" for name, us in best.items()) + f"; the layer adds {over:.1f}")


def best_times(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begun = time.process_time_ns()
            for _ in range(CALLS):
                call()
            best[name] = min(best[name], (time.process_time_ns() - begun) / CALLS / 1000)
    return best


if __name__ == "__main__":
    main()
