"""The contenders: the box convolution and its peers, each as a forward call and a training step on the same problem."""

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from box_convolution import box_conv2d, boxes, ops

OURS = "box_conv2d"
KERNELS = "box_conv2d kernels alone"
CONV, CONV_LAST = "conv 3x3", "conv 3x3, channels_last"
CLONE, CLONES = "out.clone()", "out.clone(), grad.clone()"
REFERENCE, AUTHORS, OPENCV = "plain PyTorch reference", "authors' extension", "OpenCV boxFilter 31x31"
POOL = "avg_pool2d 31x31"


class Shape(NamedTuple):
    """Input of ``channels`` planes of ``h`` x ``w`` pixels, output of ``channels * per_channel`` planes."""

    batch: int
    channels: int
    per_channel: int
    h: int
    w: int

    @property
    def outputs(self) -> int:
        return self.batch * self.channels * self.per_channel * self.h * self.w


class Problem(NamedTuple):
    """``input`` (B, C, H, W), ``boxes`` (C, M, 4) and a gradient of the output (B, C*M, H, W), on one device."""

    shape: Shape
    input: Tensor
    boxes: Tensor
    grad_output: Tensor

    @staticmethod
    def draw(shape: Shape, edges: Tensor | None = None, dtype: torch.dtype = torch.float32) -> "Problem":
        """A problem with N(1, 1) images. All boxes have ``edges`` (4,), or by default those of a new layer; float32."""
        b, c, m, h, w = shape
        torch.manual_seed(0)
        drawn = boxes.initialise(c, m, h, w) if edges is None else edges.repeat(c, m, 1)
        input, gradient = torch.randn(b, c, h, w, dtype=dtype) + 1, torch.randn(b, c * m, h, w, dtype=dtype)
        return Problem(shape, input, drawn.to(input.device), gradient)


class Calls(NamedTuple):
    """The calls of a contender, None if it has no such call. ``train`` returns the output and all gradients."""

    forward: Callable[[], Tensor] | None
    train: Callable[[], tuple[Tensor, ...]] | None


def differentiable(function: Callable[..., Tensor], grad_output: Tensor, *arguments: Tensor) -> Calls:
    """Calls of ``function(*arguments)``; the training step is differentiated by autograd for all arguments."""
    leaves = [argument.detach().requires_grad_() for argument in arguments]

    def forward() -> Tensor:
        with torch.no_grad():
            return function(*leaves)

    def train() -> tuple[Tensor, ...]:
        output = function(*leaves)
        return output, *torch.autograd.grad(output, leaves, grad_output)

    return Calls(forward, train)


def ours(problem: Problem) -> Calls:
    return differentiable(box_conv2d, problem.grad_output, problem.input, problem.boxes)


def kernels(problem: Problem) -> Calls:
    """The two operators called directly, so that only the kernels are timed."""
    operators = torch.ops.box_convolution
    _, input, edges, gradient = problem

    def train() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return operators.box_conv2d(input, edges), *operators.box_conv2d_backward(gradient, input, edges)

    return Calls(None, train)


def reference(problem: Problem) -> Calls:
    in_reference = ops.use("reference")
    return Calls(*(call and in_reference(call) for call in ours(problem)))


def authors(problem: Problem, build: Path) -> Calls:
    """The extension of the paper's authors. Its coordinates are inclusive pixel indices, and its x is vertical."""
    apply = _load_authors(build).BoxConvolutionFunction.apply
    top, bottom, left, right = problem.boxes.unbind(-1)
    edges = [edge.contiguous() for edge in (top + 0.5, bottom - 0.5, left + 0.5, right - 0.5)]

    def function(input: Tensor, x_min: Tensor, x_max: Tensor, y_min: Tensor, y_max: Tensor) -> Tensor:
        return apply(input, x_min, x_max, y_min, y_max, 1.0, 1.0, True, True)

    return differentiable(function, problem.grad_output, problem.input, *edges)


@functools.cache
def _load_authors(build: Path) -> Any:
    """Import the authors' functions under another name, because their package is also called `box_convolution`."""
    sys.path.append(str(build))  # for their compiled module, which has another name
    try:
        return imported("authors_box_convolution", build / "box_convolution" / "box_convolution_function.py")
    finally:
        sys.path.remove(str(build))


def imported(name: str, file: Path) -> Any:
    """Import a file as the module ``name``."""
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def convolution(size: int, *, dilation: int = 1, channels_last: bool = False) -> Callable[[Problem], Calls]:
    """A depthwise convolution from C to C*M channels, the layer that box convolutions replace."""

    def calls(problem: Problem) -> Calls:
        channels = problem.shape.channels
        weight = torch.randn(channels * problem.shape.per_channel, 1, size, size, dtype=problem.input.dtype)
        tensors = [problem.grad_output, problem.input, weight]
        if channels_last:
            tensors = [tensor.contiguous(memory_format=torch.channels_last) for tensor in tensors]
        run = functools.partial(functional.conv2d, padding=dilation * (size // 2), dilation=dilation, groups=channels)
        return differentiable(run, *tensors)

    return calls


def average_pool(problem: Problem) -> Calls:
    planes = problem.input.repeat_interleave(problem.shape.per_channel, 1)
    run = functools.partial(functional.avg_pool2d, kernel_size=31, stride=1, padding=15)
    return differentiable(run, problem.grad_output, planes)


def opencv(problem: Problem) -> Calls:
    cv2 = importlib.import_module("cv2")
    planes = problem.input.repeat_interleave(problem.shape.per_channel, 1).flatten(0, 1).numpy()

    def forward() -> Tensor:
        cv2.setNumThreads(torch.get_num_threads())
        output = torch.empty(planes.shape)
        for plane, destination in zip(planes, output.numpy(), strict=True):
            cv2.boxFilter(plane, -1, (31, 31), destination, borderType=cv2.BORDER_CONSTANT)
        return output.view(problem.shape.batch, -1, problem.shape.h, problem.shape.w)

    return Calls(forward, None)


def clone(problem: Problem) -> Calls:
    return Calls(problem.grad_output.clone, None)


def clones(problem: Problem) -> Calls:
    output, gradient = problem.grad_output.clone(), problem.grad_output
    return Calls(None, lambda: (output.clone(), gradient.clone()))


def contenders(implementation: str, authors_build: Path | None) -> dict[str, Callable[[Problem], Calls]]:
    """All contenders that can run here, by their names in the report; ours is the first."""
    found: dict[str, Callable[[Problem], Calls]] = {OURS: ours, KERNELS: kernels}
    if authors_build is not None:
        found[AUTHORS] = functools.partial(authors, build=authors_build)
    if implementation != "reference":
        found[REFERENCE] = reference
    found[CONV] = convolution(3)
    found[CONV_LAST] = convolution(3, channels_last=True)
    found["conv 3x3, dilation 4"] = convolution(3, dilation=4)
    found["conv 7x7"] = convolution(7)
    found["conv 31x31"] = convolution(31)
    found[POOL] = average_pool
    if importlib.util.find_spec("cv2") is not None:
        found[OPENCV] = opencv
    return found | {CLONE: clone, CLONES: clones}
