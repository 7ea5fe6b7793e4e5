"""The table of facilities of PyTorch. Each row has a function that computes results with and without the facility.

Each file beside this one adds rows to `FACILITIES`; `test_facilities.py` and `compatibility.py` test them.
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
FEW = (LAYER, "boxenet", "boxerfnet")  # for facilities that take seconds for each network


@dataclass(frozen=True)
class Case:
    """A fresh layer or network in evaluation mode, an image for it, and an image of another size.

    The shifts of BatchNorm are random instead of 0. Otherwise a ReLU would get the output of boxes over zeros, which
    one implementation computes as 0 and another as 1e-17.
    """

    name: str
    network: nn.Module
    image: Tensor
    other: Tensor


def case(name: str) -> Case:
    """A new `Case`, equal for every call with the same name."""
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
    use: Callable[[Case], tuple[Any, Any]]  # returns the results with the facility and those without it
    subjects: Sequence[str] = ALL
    in_tests: Sequence[str] = FEW  # the ``subjects`` in the test suite; `make compatibility` tests all of them
    since: tuple[int, int] = (2, 6)  # version of PyTorch
    refused: str = ""  # for a facility that is not supported: the reason and alternatives; ``use`` must raise an error


FACILITIES: list[Facility] = []


def facility(
    group: str,
    name: str,
    *,
    subjects: Sequence[str] = ALL,
    in_tests: Sequence[str] = FEW,
    since: tuple[int, int] = (2, 6),
    refused: str = "",
) -> Callable[[Callable[[Case], tuple[Any, Any]]], Callable[[Case], tuple[Any, Any]]]:
    """Add the decorated function to the table."""

    def add(use: Callable[[Case], tuple[Any, Any]]) -> Callable[[Case], tuple[Any, Any]]:
        FACILITIES.append(Facility(group, name, use, subjects, in_tests, since, refused))
        return use

    return add


def check(row: Facility, subject: str) -> None:
    """Raise AssertionError if ``subject`` computes something else with the facility, or whatever PyTorch raises."""
    got, alone = row.use(case(subject))
    torch.testing.assert_close(got, alone, rtol=1e-4, atol=1e-5)


def logits(network: Callable[[Tensor], Tensor], *images: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [network(image) for image in images]


def training(network: nn.Module, image: Tensor, run: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
    """Logits in training mode, then the gradients of a loss for the image and for each parameter.

    ``run`` is called with the image; by default it is the network.
    """
    return _gradients(network.train(), image, run)


def gradients(network: nn.Module, image: Tensor, run: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
    """Like `training`, but in evaluation mode, without dropout and batch statistics."""
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
