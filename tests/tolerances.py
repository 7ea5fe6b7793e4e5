"""The only table of tolerances. Nothing changes it: no environment variable, no device, no machine.

A limit is the number below times a scale that the test gives:

- values of a mean: the largest |input|, because a mean is never larger. For a sum of n pixels it is n times as large;
- gradients: the largest element of the true gradient, but at least 1, because images and incoming gradients have unit
  scale. So a gradient whose terms cancel is compared with the size of the terms.

The row is that of the result's dtype. float64 has five digits to spare for the order of summation. A float32 mean must
be as good as if every box were summed separately, even in a plane of two million pixels with an offset. Half precision
is rounded once: half a unit in the last place for values, a whole one for gradients.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Tolerance(NamedTuple):
    value: float
    gradient: float


TOLERANCES = {
    torch.float64: Tolerance(value=1e-11, gradient=1e-11),
    torch.float32: Tolerance(value=1e-6, gradient=1e-5),
    torch.float16: Tolerance(value=2**-11, gradient=2**-10),
    torch.bfloat16: Tolerance(value=2**-8, gradient=2**-7),
}


def assert_values(actual: Tensor, truth: np.ndarray | Tensor, scale: float) -> None:
    """``actual`` equals ``truth`` within the value tolerance of its dtype times ``scale``."""
    _assert_within(actual, truth, TOLERANCES[actual.dtype].value * scale)


def assert_gradient(actual: Tensor, truth: np.ndarray | Tensor) -> None:
    """``actual`` equals ``truth`` within the gradient tolerance of its dtype times the largest element, at least 1."""
    truth = torch.as_tensor(truth)
    largest = truth.abs().max().item() if truth.numel() else 0.0
    _assert_within(actual, truth, TOLERANCES[actual.dtype].gradient * max(1.0, largest))


def _assert_within(actual: Tensor, truth: np.ndarray | Tensor, limit: float) -> None:
    truth = torch.as_tensor(truth, dtype=torch.float64)
    assert actual.shape == truth.shape, f"shape {tuple(actual.shape)}, expected {tuple(truth.shape)}"
    if not actual.numel():
        return
    error = (actual.detach().double().cpu() - truth.cpu()).abs()
    worst = error.max().item()
    # NaN fails as well, because it is not <= any limit.
    assert worst <= limit, f"error {worst:.3g} > {limit:.3g} at {np.unravel_index(error.argmax().item(), error.shape)}"
