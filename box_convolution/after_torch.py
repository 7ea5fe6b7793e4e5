"""Doing something as soon as PyTorch is imported, without importing it."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType


def after_torch(action: Callable[[], object]) -> None:
    """Call ``action`` now if PyTorch is imported already, else at the end of its import."""
    torch = sys.modules.get("torch")
    # Half-way through its import, PyTorch may be importing us (its "torch.backends" entry points come last of all).
    if torch is not None and hasattr(torch, "library"):
        action()
    else:
        sys.meta_path.insert(0, _Watch(action))


class _Watch(importlib.abc.MetaPathFinder):
    """Finds no module itself: it lets the others find `torch`, and adds ``action`` to the end of its execution."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            sys.meta_path.insert(0, self)  # not installed, or not yet
            return spec
        execute = spec.loader.exec_module

        def and_then(module: ModuleType) -> None:
            execute(module)
            self.action()

        spec.loader.exec_module = and_then  # type: ignore[method-assign]
        return spec
