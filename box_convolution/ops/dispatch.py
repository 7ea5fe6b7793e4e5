"""Which implementation serves a tensor: `backend` names it, `use` chooses another.

Each implementation is a module that offers the functions of `Implementation`.
"""

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..torch_internals import in_a_transform, nothing_intervenes
from . import cpu_library, native, reference
from .epilogue import Epilogue
from .triton import launch


class Implementation(Protocol):
    """What a module must offer to serve the operators; arguments have passed `tensor_checks`."""

    def box_conv2d(self, input: Tensor, boxes: Tensor, normalize: bool, stride: int) -> Tensor: ...

    def box_conv2d_backward(
        self, grad_output: Tensor, input: Tensor, boxes: Tensor, normalize: bool, stride: int, output_mask: list[bool]
    ) -> tuple[Tensor, Tensor]: ...

    def box_conv2d_fused(
        self, input: Tensor, boxes: Tensor, epilogue: Epilogue, normalize: bool, stride: int
    ) -> Tensor: ...


IMPLEMENTATIONS: dict[str, Implementation] = {"reference": reference, "cpu": native, "triton": launch}
_forced: str | None = None


def backend(tensor: Tensor) -> str:
    """Name the implementation that serves ``tensor`` now: the fastest one available on its device."""
    return _forced or _fastest(tensor.device)


@functools.cache
def _fastest(device: torch.device) -> str:
    """Name the fastest implementation for ``device``. If that is the reference for want of kernels, warn."""
    if device.type not in ("cpu", "cuda"):
        return "reference"
    reason = cpu_library.status() if device.type == "cpu" else launch.status(device)
    if reason is not None:
        warnings.warn(f"box_conv2d runs on its plain-PyTorch reference, which is slow: {reason}", stacklevel=2)
        return "reference"
    return "cpu" if device.type == "cpu" else "triton"


def serving(tensor: Tensor) -> Implementation:
    """Return the module that `backend` names. Raises ValueError if it cannot serve the device of ``tensor``."""
    if _forced is None:
        return IMPLEMENTATIONS[_fastest(tensor.device)]
    if _forced == "cpu" and tensor.device.type != "cpu":
        raise ValueError(f"implementation 'cpu' was asked for, but input is on {tensor.device}")
    interpreted = tensor.device.type == "cpu" and _forced == "triton" and launch.interpreted()
    if _forced == "triton" and tensor.device.type != "cuda" and not interpreted:
        raise ValueError(
            f"implementation 'triton' was asked for, but input is on {tensor.device}: it serves GPUs, and the CPU only "
            "by Triton's interpreter, with TRITON_INTERPRET=1 in the environment when Python starts"
        )
    return IMPLEMENTATIONS[_forced]


def kernels_serve_cpu() -> bool:
    """Whether the C++ kernels serve the CPU now. Unlike `serving`, it does not warn of slow box convolutions."""
    return _forced in (None, "cpu") and cpu_library.status() is None


@contextmanager
def use(name: str) -> Iterator[None]:
    """Choose one implementation, for tests and bug reports: ``with box_convolution.ops.use("reference"): ...``.

    This applies to the whole process, because autograd may run the backward pass in another thread. Names are
    "reference", "cpu" and "triton". Raises ValueError for another name, and OSError, with the reason, if the
    implementation is not available.
    """
    global _forced
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"name must be one of {sorted(IMPLEMENTATIONS)}, got {name!r}")
    if name == "cpu":
        cpu_library.library()
    if name == "triton" and (reason := launch.status()) is not None:
        raise OSError(reason)
    previous, _forced = _forced, name
    try:
        yield
    finally:
        _forced = previous


def eager_on_cpu(tensor: Tensor) -> bool:
    """Whether ``tensor`` is an image (B, C, H, W) on the CPU, and nothing but autograd records or transforms the call.

    Operators without rules for vmap, forward mode and graphs are used in such calls only.
    """
    if not isinstance(tensor, Tensor):  # of `torch.fx`
        return False
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing() or in_a_transform() or in_forward_mode()
    return tensor.device.type == "cpu" and tensor.ndim == 4 and not recorded


def eager(operator: Callable[..., Any], kernel: Callable[..., Any]) -> Callable[..., Any]:
    """``operator`` as a function that calls ``kernel`` itself where PyTorch's dispatcher would do nothing else.

    Forward and backward of a small image take a sixth less of the host's time then. Not worth it for an operator that
    has no derivative: PyTorch calls it as fast as this asks.
    """

    def call(*arguments: Any) -> Any:
        return (kernel if nothing_intervenes(arguments) else operator)(*arguments)

    return call


def have_tangents(*tensors: Tensor) -> bool:
    return any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)


_plain = torch.zeros(())


def in_forward_mode() -> bool:
    """Whether forward-mode differentiation is active, for any tensor: only then does unpacking make a new tensor."""
    try:
        return forward_ad.unpack_dual(_plain).primal is not _plain
    except RuntimeError:
        return True
