"""One operator, several implementations: `backend` names the one that serves a tensor, `use` chooses one."""

from . import deployed_layers, fused
from .dispatch import backend, use

__all__ = ["backend", "deployed_layers", "fused", "use"]
