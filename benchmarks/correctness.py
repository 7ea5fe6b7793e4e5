"""Checking results before anything is timed, and measuring rounding errors."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from contenders import AUTHORS, OPENCV, POOL, Calls, Problem, Shape, imported
from torch import Tensor

from box_convolution import box_conv2d, ops

# Tolerance for peers that compute box averages. They sum in float32, so it only shows that the function is the same.
PEER_LIMIT = 1e-2
BOX_31 = (-15.5, 15.5, -15.5, 15.5)


def limits(dtype: torch.dtype = torch.float32) -> tuple[float, float]:
    """Tolerances of values (relative to the largest |input|) and gradients (to the largest one), as in the tests."""
    value, gradient = from_tests("tolerances").TOLERANCES[dtype]
    return value, gradient


def from_tests(name: str) -> Any:
    """Import a module of the test suite."""
    return imported(name, Path(__file__).parents[1] / "tests" / f"{name}.py")


def truth(problem: Problem) -> tuple[Tensor, ...]:
    """Output and both gradients in float64, by products with overlap matrices, without an integral image."""
    shape, input, boxes, grad_output = problem
    with ops.use("reference"):
        return computed(Problem(shape, input.double(), boxes.double(), grad_output.double()))


def computed(problem: Problem) -> tuple[Tensor, ...]:
    """Output and both gradients from the implementation in use."""
    leaves = [problem.input.detach().requires_grad_(), problem.boxes.detach().requires_grad_()]
    output = box_conv2d(*leaves)
    return output.detach(), *torch.autograd.grad(output, leaves, problem.grad_output)


def disagreements(problem: Problem, contenders: dict[str, Callable[[Problem], Calls]]) -> Iterator[str]:
    """A line of text for each result that differs from the truth by more than its tolerance."""
    value_limit, gradient_limit = limits(problem.input.dtype)
    largest = problem.input.abs().max().item()
    true = truth(problem)
    names = ("output", "gradient by input", "gradient by boxes")
    bounds = [gradient_limit * max(1.0, expected.abs().max().item()) for expected in true]
    bounds[0] = value_limit * largest
    for name, actual, expected, bound in zip(names, computed(problem), true, bounds, strict=True):
        yield from _compare(f"{name} of box_conv2d", actual, expected, bound)

    squares = problem._replace(boxes=problem.boxes.new_tensor(BOX_31).expand_as(problem.boxes).contiguous())
    for name, same in ((AUTHORS, problem), (POOL, squares), (OPENCV, squares)):
        if name in contenders and (forward := contenders[name](same).forward):
            expected = true[0] if same is problem else truth(squares)[0]
            yield from _compare(f"output of {name}", forward(), expected, PEER_LIMIT * largest)


def _compare(name: str, actual: Tensor, expected: Tensor, bound: float) -> Iterator[str]:
    if actual.shape != expected.shape:
        yield f"{name}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
        return
    error = (actual.double() - expected).abs().max().item()
    if not error <= bound:  # also true for NaN
        yield f"{name}: error {error:.3g}, at most {bound:.3g} is allowed"


class Errors(NamedTuple):
    """Largest errors for one box on one plane: of values relative to the largest |input|, of the gradients for edges
    relative to the largest of these gradients.
    """

    value: float
    edges: float


def centred(height: float, width: float) -> Tensor:
    """A box (4,) around the output pixel, shifted by fractions of a pixel that float32 represents exactly."""
    down, right = 0.25, -0.375
    return torch.tensor([down - height / 2, down + height / 2, right - width / 2, right + width / 2])


def images(h: int, w: int) -> dict[str, Tensor]:
    """Images for which an integral image in float32 would lose digits: float32 (1, 1, h, w)."""
    generator = torch.Generator().manual_seed(0)
    halves = torch.ones(1, 1, h, w)
    halves[..., w // 2 :] = -1
    return {
        "N(1, 1)": torch.randn(1, 1, h, w, generator=generator) + 1,
        "+1 left, -1 right": halves,
        "uniform 0..255": 255 * torch.rand(1, 1, h, w, generator=generator),
    }


def sizes(h: int, w: int) -> dict[str, tuple[float, float]]:
    return {"1x1": (1, 1), "3x3": (3, 3), "31x31": (31, 31), "quarter": (h / 4, w / 4), "whole image": (h, w)}


def rounding_errors(h: int, w: int) -> dict[str, dict[str, Errors]]:
    """Rounding errors for each size of box and each image of ``h`` x ``w`` pixels, in float32."""
    table: dict[str, dict[str, Errors]] = {}
    generator = torch.Generator().manual_seed(1)
    for box, (height, width) in sizes(h, w).items():
        boxes = centred(height, width).expand(1, 1, 4)
        table[box] = {}
        for name, image in images(h, w).items():
            problem = Problem(Shape(1, 1, 1, h, w), image, boxes, torch.randn(1, 1, h, w, generator=generator))
            true_output, _, true_edges = truth(problem)
            output, _, edges = computed(problem)
            table[box][name] = Errors(
                ((output - true_output).abs().max() / image.abs().max()).item(),
                ((edges - true_edges).abs().max() / true_edges.abs().max()).item(),
            )
    return table
