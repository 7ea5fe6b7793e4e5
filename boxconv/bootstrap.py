"""Confidence intervals by bootstrap: the score of other samples, drawn with replacement from those that were seen."""

from typing import Any

import numpy as np

RESAMPLES = 1000
TAILS = (0.025, 0.975)
"""An interval has 95 % of the resampled scores."""


def interval(scores: Any) -> Any:
    """Low and high end (2, ...) of the intervals of scores (resamples, ...); NaN counts as no score."""
    return np.nanquantile(scores, TAILS, axis=0)
