"""Facilities of PyTorch, and the networks that they are tested with. Importing this fills `FACILITIES`."""

from . import tracing  # isort: skip  (the order of the page)
from . import differentiating, switches, weights, tools, compiling  # isort: skip
from .table import ALL, FACILITIES, LAYER, Facility, check

__all__ = [
    "ALL",
    "FACILITIES",
    "LAYER",
    "Facility",
    "check",
    "compiling",
    "differentiating",
    "switches",
    "tools",
    "tracing",
    "weights",
]
