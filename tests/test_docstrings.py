"""The examples in docstrings give the results that they show."""

import doctest
from types import ModuleType

import pytest
import torch

import boxconv
from box_convolution import boxes, functional, layer, networks, ops
from box_convolution.convert import replace
from box_convolution.networks import box_block, enet, padding
from box_convolution.ops import box_operator, dispatch, reference, tensor_checks

WITH_EXAMPLES = [functional, layer, networks, box_block, boxconv, replace]
ALL = [*WITH_EXAMPLES, boxes, ops, enet, padding, tensor_checks, box_operator, dispatch, reference]


@pytest.mark.parametrize("module", ALL, ids=lambda module: module.__name__)
def test_docstrings(module: ModuleType) -> None:
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.failed == 0
    assert result.attempted or module not in WITH_EXAMPLES
