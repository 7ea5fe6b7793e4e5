"""Check number and bool arguments of public functions, Python's or NumPy's. Errors name the argument."""

import math
import numbers
import operator
from typing import Any

import torch


def as_int(name: str, value: Any, *, least: int | None = None) -> int:
    """Return ``value`` as an int: a Python, NumPy or symbolic integer, or what `operator.index` takes; no bool.

    Raises TypeError or, below ``least``, ValueError.
    """
    if type(value) is not int and not isinstance(value, torch.SymInt):
        try:
            if isinstance(value, bool) or _is_bool_scalar(value):
                raise TypeError
            value = operator.index(value)
        except TypeError:
            raise TypeError(f"{name} must be an int, got {type(value).__name__} {value!r}") from None
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    number: int = value
    return number


def as_float(name: str, value: Any, *, least: float = -math.inf, most: float = math.inf) -> float:
    """Return ``value`` as a float: any real number of Python or NumPy, no bool.

    Raises TypeError or, for NaN and outside [``least``, ``most``], ValueError.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__} {value!r}")
    number = float(value)
    if not least <= number <= most:
        if most == math.inf:
            raise ValueError(f"{name} must be at least {least:g}, got {value}")
        raise ValueError(f"{name} must lie in [{least:g}, {most:g}], got {value}")
    return number


def as_bool(name: str, value: Any) -> bool:
    """Return ``value`` as a bool, Python's or NumPy's. Raises TypeError."""
    if not isinstance(value, bool) and not _is_bool_scalar(value):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__} {value!r}")
    return bool(value)


def as_size(name: str, value: Any) -> tuple[int, int]:
    """Return ``value`` as (height, width): any sequence of two integers of at least 1. Raises ValueError."""
    try:
        h, w = value
        return as_int(name, h, least=1), as_int(name, w, least=1)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be (height, width), two positive ints, got {value!r}") from None


def check_module(name: str, value: Any) -> None:
    """Raise TypeError unless ``value`` is an `nn.Module`."""
    if not isinstance(value, torch.nn.Module):
        raise TypeError(f"{name} must be an nn.Module, got {type(value).__name__}")


def _is_bool_scalar(value: Any) -> bool:
    """Whether ``value`` is NumPy's bool, without importing NumPy."""
    return getattr(value, "shape", None) == () and str(getattr(value, "dtype", "")) == "bool"
