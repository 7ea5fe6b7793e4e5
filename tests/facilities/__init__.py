"""Facilities of PyTorch and what they are tried with: importing this fills `FACILITIES`."""

from . import compiling, differentiating, switches, tools, tracing, weights
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
