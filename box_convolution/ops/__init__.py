"""One operator, several implementations: `backend` names the one that serves a tensor, `use` chooses one."""

from . import fused
from .dispatch import backend, use

__all__ = ["backend", "fused", "use"]
