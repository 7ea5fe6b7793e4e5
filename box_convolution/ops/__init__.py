"""One operator, several implementations: `backend` names the one that serves a tensor, `use` chooses one."""

from . import fused, inference
from .dispatch import backend, use

__all__ = ["backend", "fused", "inference", "use"]
