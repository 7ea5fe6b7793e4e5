"""Pytest plugin for a separate process in which Triton's interpreter runs the GPU kernels on the CPU.

The kernels are interpreted if TRITON_INTERPRET is 1 when they are first imported. This is why a separate process is
needed: `python -m pytest -p interpreter ...` with this folder in PYTHONPATH. Memory that the kernels write has marks
around it, which show writes outside of it.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import triton.runtime.interpreter as interpreter
from fences import fenced

from box_convolution.ops.triton import launch

_prepared: set[int] = set()


@pytest.fixture(autouse=True)
def _fenced() -> Iterator[None]:
    """Make reads of uninitialised memory return NaN, and fail the test after a write outside of allocated memory."""
    with fenced():
        yield


@contextmanager
def limits(**settings: int) -> Iterator[None]:
    """Other limits of the imaginary GPU: small ones cut small planes into many tiles and strips."""
    original = launch.limits
    changed = original(torch.device("cpu"))._replace(**settings)
    launch.limits = lambda device: changed  # type: ignore[assignment]
    try:
        yield
    finally:
        launch.limits = original


@contextmanager
def without_overflow_checks() -> Iterator[None]:
    """Turn off overflow checks, which saves a quarter of the time, for small planes, where no number can overflow."""
    builder = interpreter.interpreter_builder
    original = builder.options
    builder.options = dataclasses.replace(original, sanitize_overflow=False)
    try:
        yield
    finally:
        builder.options = original


# The interpreter prepares the language for every call of a function in a kernel, which takes a millisecond each time.
# Once for every module and launch is enough.

_launch = interpreter.GridExecutor.__call__


def _launch_once_prepared(self: Any, *args: Any, **kwargs: Any) -> Any:
    _prepared.clear()
    return _launch(self, *args, **kwargs)


def _call_once_prepared(self: Any, *args: Any, **kwargs: Any) -> Any:
    if id(self.fn.__globals__) not in _prepared:
        _prepared.add(id(self.fn.__globals__))
        interpreter._patch_lang(self.fn)
    return self.rewrite()(*args, **kwargs)


def _patch_tensor_for_numpy_2_4(tensor: Any, scope: Any) -> None:
    """Triton 3.6 converts an array (1,) to an integer, which NumPy refuses since version 2.4."""
    _patch_tensor(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))


_patch_tensor = interpreter._patch_lang_tensor
interpreter._patch_lang_tensor = _patch_tensor_for_numpy_2_4
# The interpreter would copy every tensor back to its device, but tensors on the CPU are not copied in the first place.
interpreter.GridExecutor._restore_args_dev = lambda *args: None
interpreter.GridExecutor.__call__ = _launch_once_prepared
interpreter.InterpretedFunction.__call__ = _call_once_prepared
