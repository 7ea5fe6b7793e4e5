"""Many planes, long rows and forked processes, which are known to break kernels of such layers."""

import multiprocessing
import sys
from collections.abc import Callable

import oracle
import pytest
import torch
from tolerances import assert_gradient, assert_values
from torch import Tensor

from box_convolution import box_conv2d, ops


@pytest.mark.parametrize(
    "shape", [(1, 70_000, 1, 1, 1), (70_000, 1, 1, 2, 1), (3, 50, 500, 1, 2), (2, 1, 70_000, 1, 1)]
)
def test_more_planes_than_a_grid_of_65535(shape: tuple[int, ...], implementation: str) -> None:
    batch, channels, per_channel, height, width = shape
    image = torch.randn(batch, channels, height, width, requires_grad=True)
    boxes = (torch.rand(channels, per_channel, 4) * torch.tensor([-1.0, 1, -1, 1])).requires_grad_()
    with ops.use(implementation):
        output = box_conv2d(image, boxes, normalize=False)
        output.sum().backward()
    # The last plane, and the sums of all, tell whether an index has wrapped or a plane was left out.
    last = oracle.box_conv2d(
        image.detach()[-1:, -1:].double().numpy(), boxes.detach()[-1:, -1:].double().numpy(), normalize=False
    )
    assert_values(output[-1, -1], last[0, 0], image[-1, -1].abs().sum().item())
    expected = torch.autograd.grad(one_by_one(image, boxes), (image, boxes))
    assert_gradient(image.grad, expected[0])
    assert_gradient(boxes.grad, expected[1])


def one_by_one(image: Tensor, boxes: Tensor) -> Tensor:
    """Sum of all outputs, computed from the overlaps of small boxes with images of one or two pixels."""
    _, _, height, width = image.shape
    total = image.new_zeros((), dtype=torch.float64)
    top, bottom, left, right = boxes.double().unbind(-1)
    for p in range(height):
        for q in range(width):
            weight = sum(_overlap(top, bottom, p - i) for i in range(height))
            weight = weight * sum(_overlap(left, right, q - j) for j in range(width))
            total = total + (image[:, :, p, q].double().sum(0)[:, None] * weight).sum()
    return total


def _overlap(low: Tensor, high: Tensor, pixel: int) -> Tensor:
    return (torch.minimum(high, high.new_tensor(pixel + 0.5)) - torch.maximum(low, low.new_tensor(pixel - 0.5))).clamp(
        0
    )


@pytest.mark.parametrize("axis", [2, 3])
def test_longer_than_65535(axis: int, implementation: str) -> None:
    """With a stride, so that the matrices of the reference stay small."""
    size = [1, 1, 1, 1]
    size[axis] = 70_001
    image = torch.randn(size, requires_grad=True)
    boxes = torch.tensor([[[-0.7, 0.6, -0.9, 1.2], [-40_000.3, 50_000.4, -69_999.5, 69_999.5], [3, 70_000, 2, 70_000]]])
    boxes.requires_grad_()
    with ops.use(implementation):
        output = box_conv2d(image, boxes, stride=10_000)
        grad = torch.randn_like(output)
        output.backward(grad)
    arrays = [tensor.detach().double().numpy() for tensor in (grad, image, boxes)]
    assert_values(output, oracle.box_conv2d(*arrays[1:], stride=10_000), image.abs().max().item())
    truth = oracle.gradients(*arrays, stride=10_000)
    assert_gradient(image.grad, truth[0])
    assert_gradient(boxes.grad, truth[1])


def _in_child(implementation: str, expected: list[Tensor]) -> None:
    torch.set_num_threads(1)  # PyTorch's own products hang in a forked child otherwise
    sys.exit(0 if all(map(torch.equal, _run(implementation), expected)) else 1)


def _run(implementation: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, 20, 30, generator=generator, requires_grad=True)
    boxes = torch.randn(3, 4, 4, generator=generator, requires_grad=True)
    with ops.use(implementation):
        output = box_conv2d(image, boxes)
        return [output.detach(), *torch.autograd.grad(output.sum(), (image, boxes))]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_after_a_fork(implementation: str, set_threads: Callable[[int], None]) -> None:
    """Data loaders fork: the child process must neither hang nor compute something else."""
    set_threads(1)
    expected = _run(implementation)
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(implementation, expected))
    child.start()
    child.join(60)
    hung = child.is_alive()
    child.kill()
    child.join()
    assert not hung
    assert child.exitcode == 0
