"""What a facility of PyTorch is here: a function that uses it, and what the network gives without it.

Each file beside this one adds rows to `FACILITIES`; `test_facilities.py` and `compatibility.py` go through them.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from box_convolution import BoxConv2d, networks

LAYER = "BoxConv2d"
ALL = (LAYER, *networks.names())
FEW = (LAYER, "boxenet", "boxerfnet")  # where each takes seconds


@dataclass(frozen=True)
class Case:
    """The layer or a network, fresh, in evaluation mode; an image for it, and one of another size.

    Shifts of BatchNorm are drawn, not 0: a ReLU then never meets the exact zeros of boxes that see nothing but zeros,
    of which one implementation makes 0 and another 1e-17.
    """

    name: str
    network: nn.Module
    image: Tensor
    other: Tensor


def case(name: str) -> Case:
    """Alike for every call."""
    torch.manual_seed(0)
    network = BoxConv2d(3, 4, 32, 32) if name == LAYER else networks.create(name, 3, (32, 32))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, -0.01, 0.01)
    return Case(name, network.eval(), torch.rand(2, 3, 32, 32), torch.rand(1, 3, 41, 50))


@dataclass(frozen=True)
class Facility:
    group: str
    name: str
    use: Callable[[Case], tuple[Any, Any]]  # what comes out with the facility, and what does without
    subjects: Sequence[str] = ALL
    in_tests: Sequence[str] = FEW  # those of ``subjects`` that the test suite tries; `make compatibility` tries all
    refused: str = ""  # why and where to go instead, where it does not work: then ``use`` must raise an error


FACILITIES: list[Facility] = []


def facility(
    group: str, name: str, *, subjects: Sequence[str] = ALL, in_tests: Sequence[str] = FEW, refused: str = ""
) -> Callable[[Callable[[Case], tuple[Any, Any]]], Callable[[Case], tuple[Any, Any]]]:
    """Add the decorated function to the table."""

    def add(use: Callable[[Case], tuple[Any, Any]]) -> Callable[[Case], tuple[Any, Any]]:
        FACILITIES.append(Facility(group, name, use, subjects, in_tests, refused))
        return use

    return add


def check(row: Facility, subject: str) -> None:
    """AssertionError or what PyTorch raises, where ``subject`` gives something else with the facility than without."""
    got, alone = row.use(case(subject))
    torch.testing.assert_close(got, alone, rtol=1e-4, atol=1e-5)


def logits(network: Callable[[Tensor], Tensor], *images: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [network(image) for image in images]


def training(network: nn.Module, image: Tensor, run: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
    """Logits of ``run``, the network itself by default, in training mode, and the gradients of a loss by everything.

    First by the image, then by the parameters.
    """
    return _gradients(network.train(), image, run)


def gradients(network: nn.Module, image: Tensor, run: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
    """As `training`, in evaluation mode: no dropout, no statistics of the batch."""
    return _gradients(network.eval(), image, run)


def _gradients(network: nn.Module, image: Tensor, run: Callable[[Tensor], Tensor] | None) -> list[Tensor]:
    torch.manual_seed(1)
    network.zero_grad()
    image = image.detach().clone().requires_grad_()
    output = (network if run is None else run)(image)
    output.square().mean().backward()
    found = [image.grad, *(p.grad for p in network.parameters() if p.requires_grad)]
    return [output.detach(), *(grad for grad in found if grad is not None)]


def twin(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network)
