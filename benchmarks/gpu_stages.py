"""Stages of gpu_session.sh: `python benchmarks/gpu_stages.py STAGE`. Each result is printed at once as a line of JSON.

With --rehearse, shapes are tiny; without a GPU, Triton's interpreter then runs the kernels (TRITON_INTERPRET=1).
"""

import argparse
import functools
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import triton
from contenders import Problem, Shape, convolution
from correctness import centred, disagreements, from_tests, limits
from gpu_kernels import SHAPES, minimal_bytes
from gpu_timing import captured, interleaved

from box_convolution import ops
from box_convolution.networks import create
from box_convolution.networks.box_block import BoxBottleneck
from box_convolution.networks.enet import Bottleneck
from box_convolution.networks.erfnet import NonBottleneck1d
from box_convolution.ops.triton import launch

FORWARD, BACKWARD = torch.ops.box_convolution.box_conv2d, torch.ops.box_convolution.box_conv2d_backward
TINY = [(1, 1, 2, 3, 8)]
Result = dict[str, Any]


def versions(shapes: list[tuple[int, ...]]) -> Iterator[Result]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    yield {"torch": torch.__version__, "triton": triton.__version__, "python": platform.python_version(), "on": device}


def smoke(shapes: list[tuple[int, ...]]) -> Iterator[Result]:
    """Check results: against the truth, in poisoned memory; bit for bit while another stream is busy; and fused."""
    for shape in shapes:
        for dtype in (torch.float32, torch.bfloat16):
            yield {"shape": shape, "dtype": str(dtype), **_checked(Problem.draw(Shape(*shape), dtype=dtype))}


def odd_shapes(shapes: list[tuple[int, ...]]) -> Iterator[Result]:
    """The same for rows that are not aligned, shared by several warps, or cut into tiles; and for boxes in groups."""
    tiny = shapes == TINY
    for shape in [(1, 2, 5, 4, 5)] if tiny else [(2, 3, 5, 37, 45), (2, 4, 2, 60, 512), (1, 1, 3, 40, 5001)]:
        yield {"shape": shape, **_checked(Problem.draw(Shape(*shape)))}


def _checked(problem: Problem) -> Result:
    with from_tests("fences").fenced():
        wrong = list(disagreements(problem, {}))
    found: Result = {"wrong": wrong, "same bits": _repeats(problem), "error fused": _fused_error(problem)}
    # The fused output is up to ten times as large as the input.
    right = not wrong and found["same bits"] and found["error fused"] <= 10 * limits(problem.input.dtype)[0]
    return found | {"right": right}


def _repeats(problem: Problem) -> bool:
    _, image, boxes, grad = problem
    first = FORWARD(image, boxes), *BACKWARD(grad, image, boxes)
    if image.is_cuda:
        side, noise = torch.cuda.Stream(), torch.empty(2**28)
        with torch.cuda.stream(side):
            for _ in range(20):
                noise.add_(1)
    again = [(FORWARD(image, boxes), *BACKWARD(grad, image, boxes)) for _ in range(20 if image.is_cuda else 1)]
    return all(torch.equal(one, other) for results in again for one, other in zip(first, results, strict=True))


def _fused_error(problem: Problem) -> float:
    """Largest difference from the reference with stride 2, relative to the largest |input|.

    Every third box has scale 0 and a NaN edge, which must not matter.
    """
    _, image, boxes, _ = problem
    scale = torch.randn(boxes.shape[0] * boxes.shape[1])
    scale[::3] = 0
    boxes = boxes.clone()
    boxes.view(-1, 4)[::3, 0] = float("nan")
    call = functools.partial(torch.ops.box_convolution.box_conv2d_fused, scale=scale, shift=scale, relu=True, stride=2)
    actual = call(image, boxes)
    with ops.use("reference"):
        return ((actual.double() - call(image.double(), boxes)).abs().max() / image.abs().max()).item()


def speed(shapes: list[tuple[int, ...]]) -> Iterator[Result]:
    """Time our operator, a copy of the least bytes, and cuDNN's depthwise 3x3 convolution with as many outputs."""
    for shape in shapes:
        for dtype in (torch.float32, torch.bfloat16):
            problem = Problem.draw(Shape(*shape), dtype=dtype)
            _, image, boxes, grad = problem
            peer = convolution(3)(problem)
            least = minimal_bytes(shape, dtype.itemsize)
            copies = [torch.empty(count // 2, dtype=torch.uint8) for count in least]
            calls = {
                "forward": functools.partial(FORWARD, image, boxes),
                "backward": functools.partial(BACKWARD, grad, image, boxes),
                "copy of forward": copies[0].clone,
                "copy of backward": copies[1].clone,
                "conv 3x3 forward": peer.forward,
                "conv 3x3 forward + backward": peer.train,
            }
            times = _times({name: call for name, call in calls.items() if call is not None})
            yield {"shape": shape, "dtype": str(dtype), "us": times}


def sizes(shapes: list[tuple[int, ...]]) -> Iterator[Result]:
    """Time boxes of different sizes, on which the time should not depend."""
    for size in (1, 9, 31, 127):
        _, image, boxes, grad = Problem.draw(Shape(*shapes[0]), centred(size, size))
        calls = {
            "forward": lambda i=image, b=boxes: FORWARD(i, b),
            "backward": lambda i=image, b=boxes, g=grad: BACKWARD(g, i, b),
        }
        yield {"shape": shapes[0], "box": size, "us": _times(calls)}


def variants(shapes: list[tuple[int, ...]]) -> Iterator[Result]:
    """Time other ways to divide the work, as information for the next version."""
    original = launch.limits
    _, image, boxes, grad = Problem.draw(Shape(*shapes[0]))
    bounds = original(image.device)
    others = {
        "as it is": bounds,
        "128 threads": bounds._replace(threads=128),
        "8 warps a processor": bounds._replace(warps=8),
        "24 warps a processor": bounds._replace(warps=24),
        "strips of 32 rows and more": bounds._replace(rows=32),
    }
    try:
        for name, other in others.items():
            launch.limits = lambda device, other=other: other  # type: ignore[assignment]
            calls = {"forward": lambda: FORWARD(image, boxes), "backward": lambda: BACKWARD(grad, image, boxes)}
            yield {"shape": shapes[0], "variant": name, "us": _times(calls)}
    finally:
        launch.limits = original


def blocks(shapes: list[tuple[int, ...]]) -> Iterator[Result]:
    """Time the box block and the blocks that it replaces, in inference and in training."""
    _, c, _, h, w = shapes[0]
    channels, batch = 4 * c, shapes[0][0]
    image = torch.randn(batch, channels, h, w, requires_grad=True)
    made = {
        "box block": BoxBottleneck(channels, max_input_h=h, max_input_w=w),
        "ENet bottleneck, dilation 4": Bottleneck(channels, dilation=4),
        "ERFNet block, dilation 4": NonBottleneck1d(channels, dilation=4),
    }
    yield {"input": list(image.shape), "inference us": _times({n: _inference(b, image) for n, b in made.items()})}
    yield {"input": list(image.shape), "training us": _times({n: _training(b, image) for n, b in made.items()})}


def networks(shapes: list[tuple[int, ...]]) -> Iterator[Result]:
    tiny = shapes == TINY
    size = (32, 64) if tiny else (512, 1024)
    for batch in (1,) if tiny else (1, 8):
        image = torch.randn(batch, 3, *size)
        names = ("boxenet", "enet") if tiny else ("boxenet", "enet", "boxerfnet", "erfnet")
        calls = {name: _inference(create(name, 19, input_size=size), image) for name in names}
        yield {"input": list(image.shape), "inference us": _times(calls)}


def _inference(module: torch.nn.Module, image: torch.Tensor) -> Callable[[], object]:
    module = module.to(image.device).eval()

    def run() -> object:
        with torch.no_grad():
            return module(image)

    return run


def _training(module: torch.nn.Module, image: torch.Tensor) -> Callable[[], object]:
    module = module.to(image.device).train()
    leaves = [image, *module.parameters()]
    return lambda: torch.autograd.grad(module(image).square().mean(), leaves)


def _times(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Microseconds: of CUDA graphs on a GPU; elsewhere of a single call, only to rehearse."""
    if torch.cuda.is_available():
        return interleaved({name: captured(call) for name, call in calls.items()}, 20)
    times = {}
    for name, call in calls.items():
        start = time.perf_counter()
        call()
        times[name] = 1e6 * (time.perf_counter() - start)
    return times


STAGES = {f.__name__: f for f in (versions, smoke, odd_shapes, speed, sizes, variants, blocks, networks)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes, also without a GPU")
    parser.add_argument("--compile", action="store_true", help="compile the stage's kernels, and print no results")
    args = parser.parse_args()
    if torch.cuda.is_available():
        torch.set_default_device("cuda")
    elif not args.rehearse:
        parser.error("there is no GPU: --rehearse runs on tiny shapes without one")
    right = True
    with ops.use("triton"):
        for result in STAGES[args.stage](TINY if args.rehearse else SHAPES[:2]):
            right &= result.get("right", True)
            if not args.compile:
                print(json.dumps({"stage": args.stage, **result}), flush=True)
    if not right:
        sys.exit("results are wrong")


if __name__ == "__main__":
    main()
