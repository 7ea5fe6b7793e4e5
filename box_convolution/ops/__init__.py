"""One operator, several implementations: which one serves a tensor is told by `backend` and overridden by `use`."""

from . import fused, inference
from .dispatch import backend, use

__all__ = ["backend", "fused", "inference", "use"]
