"""Processor time of a call, in microseconds: BoxConv2d, its functional form and nn.Conv2d on a map of 8 x 8 pixels.

The map is so small that the time is mostly the fixed overhead of a call. One thread; the best of interleaved rounds.

    python benchmarks/host_time.py
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from box_convolution import BoxConv2d, box_conv2d

CALLS, ROUNDS = 1000, 15


def main() -> None:
    torch.set_num_threads(1)
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


def report(title: str, calls: dict[str, Callable[[], Any]]) -> None:
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begun = time.process_time_ns()
            for _ in range(CALLS):
                call()
            best[name] = min(best[name], (time.process_time_ns() - begun) / CALLS / 1000)
    over = best["BoxConv2d"] - best["box_conv2d"]
    print(f"{title}: " + ", ".join(f"{name} {us:.1f}" for name, us in best.items()) + f"; the layer adds {over:.1f}")


if __name__ == "__main__":
    main()
