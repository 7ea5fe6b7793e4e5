"""The examples in docstrings give the results that they show."""

import doctest
from types import ModuleType

import pytest
import torch

import boxconv
from box_convolution import functional, layer, networks
from box_convolution.convert import replace
from box_convolution.networks import box_block

WITH_EXAMPLES = [functional, layer, networks, box_block, boxconv, replace]


@pytest.mark.parametrize("module", WITH_EXAMPLES, ids=lambda module: module.__name__)
def test_docstrings(module: ModuleType) -> None:
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.failed == 0
    assert result.attempted
