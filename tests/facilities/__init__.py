"""Facilities of PyTorch, and the networks that they are tested with. Importing this fills `FACILITIES`."""

from . import tracing, differentiating, switches, weights, tools, compiling  # noqa: F401, I001 -- in the page's order
from .table import ALL, FACILITIES, LAYER, Facility, check

__all__ = ["ALL", "FACILITIES", "LAYER", "Facility", "check"]
