"""All names of PyTorch that this package uses although they are not public.

Calls of the operator and the layer need none of them, except while `torch.compile` traces. If a release lacks
a name, the function that needs it raises an error that says so, or gives the right result more slowly. `missing` lists
such names, and then a test fails.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import has_torch_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = [
    "PRELU", "Float32Buffers", "GraphError", "TorchDispatchMode", "has_hooks", "in_a_transform", "missing",
    "nothing_intervenes", "saved", "sequence_number", "shape_of_input", "tree_leaves",
]  # fmt: skip

_PLAIN: int | None = None  # what PyTorch's dispatcher knows of tensors and calls of which nobody takes notice
try:
    from torch._C import DispatchKey, DispatchKeySet
    from torch._C import _dispatch_keys as keys_of
    from torch._C import _dispatch_tls_local_exclude_set as excluded_keys
    from torch._C import _dispatch_tls_local_include_set as included_keys
    from torch.autograd import _profiler_enabled as profiled

    _PLAIN = 0
    for _key in ("CPU", "CUDA", "AutogradCPU", "AutogradCUDA", "ADInplaceOrView", "BackendSelect"):
        _PLAIN |= DispatchKeySet(getattr(DispatchKey, _key)).raw_repr()
except (ImportError, AttributeError):
    _PLAIN = None

PRELU = ("aten::prelu", "aten::_prelu_kernel")
"""Names of PReLU's operators for counting operations: the first calls the second, so only one of them is seen."""


def missing() -> list[str]:
    """List the names that this release of PyTorch lacks."""
    image = torch.ones((1, 1, 1, 1), requires_grad=True)
    nodes: dict[Any, tuple[str, ...]] = {
        nn.Conv2d(1, 1, 1)(image).grad_fn: ("_saved_weight", "_saved_groups", "_saved_transposed", "_input_metadata"),
        nn.BatchNorm2d(1).eval()(image).grad_fn: ("_saved_weight", "_sequence_nr"),
        torch.cat((image, image), 1).grad_fn: ("_saved_dim",),
        torch.constant_pad_nd(image, [1, 1]).grad_fn: ("_saved_pad",),
    }
    wanted: dict[Any, tuple[str, ...]] = {
        torch._C: (
            *("_are_functorch_transforms_active", "_dispatch_keys", "DispatchKey", "DispatchKeySet"),
            *("_dispatch_tls_local_exclude_set", "_dispatch_tls_local_include_set"),
        ),
        torch.autograd: ("_profiler_enabled",),
        forward_ad: ("_current_level",),
        nn.Module(): ("_forward_hooks", "_forward_pre_hooks", "_apply"),
        **nodes,
    }
    named = [
        f"{kind} node of autograd"
        for node, kind in zip(nodes, ("ConvolutionBackward", "BatchNorm", "CatBackward", "ConstantPad"), strict=True)
        if kind not in node.name()
    ]
    return named + [f"{owner}: {name}" for owner, names in wanted.items() for name in names if not hasattr(owner, name)]


def in_a_transform() -> bool:
    """Whether this runs inside a transform (torch.func.grad, jvp, vmap ...) or forward mode, or is traced there.

    False if PyTorch lacks the names: PyTorch itself then raises an error for what it cannot differentiate.
    """
    active: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
    level: int = getattr(forward_ad, "_current_level", -1)
    return active() or level >= 0


def nothing_intervenes(arguments: tuple[Any, ...]) -> bool:
    """Whether an operator that is called with these arguments comes to nothing but its kernel.

    That is so if nothing casts, differentiates, traces, transforms or watches the call. False if unknown.
    """
    if torch.compiler.is_compiling() or _PLAIN is None or profiled() or has_torch_function(arguments):
        return False
    keys, recorded = included_keys().raw_repr(), torch.is_grad_enabled()
    for argument in arguments:
        if isinstance(argument, Tensor):
            if recorded and argument.requires_grad:
                return False
            keys |= keys_of(argument).raw_repr()
    return not keys & ~excluded_keys().raw_repr() & ~_PLAIN


def has_hooks(module: nn.Module) -> bool:
    """Whether calling ``module`` runs other code than its class's ``forward``: hooks, or methods of its own.

    True if unknown, because such modules are not changed.
    """
    if {"forward", "_conv_forward"} & vars(module).keys() or type(module).__call__ is not nn.Module.__call__:
        return True
    return any(bool(getattr(module, name, True)) for name in ("_forward_hooks", "_forward_pre_hooks"))


class Float32Buffers(nn.Module):
    """A module whose own buffers keep their dtype: ``half()`` and the like convert only its children."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Float32Buffers":
        kept = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in kept.items():
            moved = getattr(self, name)
            if moved.dtype != buffer.dtype:
                setattr(self, name, buffer.to(moved.device))
        return self


class GraphError(RuntimeError):
    """The autograd graph of this PyTorch release lacks an attribute that we need."""


def saved(node: Any, name: str) -> Any:
    """Return the argument ``name`` as a node of the autograd graph saved it. Raises GraphError."""
    return _of_node(node, f"_saved_{name}")


def shape_of_input(node: Any, index: int) -> tuple[int, ...]:
    """Return the shape of the node's input gradient number ``index``. Raises GraphError."""
    return tuple(_of_node(node, "_input_metadata")[index].shape)


def sequence_number(node: Any) -> int:
    """Return the node's place in the order in which operations ran. Raises GraphError."""
    return int(_of_node(node, "_sequence_nr")())


def _of_node(node: Any, name: str) -> Any:
    try:
        return getattr(node, name)
    except AttributeError:
        raise GraphError(
            f"torch {torch.__version__} does not show {name} of {node.name()} in autograd's graph: convolutions beside "
            "boxes cannot be found with this release"
        ) from None
