"""Projected gradient descent (section 3.1 of the paper): project boxes into their limits after every optimiser step.

PyTorch calls a hook of this module after the step of any `torch.optim.Optimizer`. The hook finds the layers whose boxes
the optimiser updates: the parameter itself, a `DTensor`, or a copy in higher precision.
"""

import sys
import warnings
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from .sharded import complete_rows, whole, write

if TYPE_CHECKING:
    from .layer import BoxConv2d

layers: "weakref.WeakSet[BoxConv2d]" = weakref.WeakSet()
"""All layers of this process. Read it with `_present`."""

_copies: "weakref.WeakKeyDictionary[BoxConv2d, weakref.ref[Tensor]]" = weakref.WeakKeyDictionary()
"""Layers for which an optimiser updates a copy of the boxes in higher precision, and this copy."""

_unprojected: "weakref.WeakSet[BoxConv2d]" = weakref.WeakSet()
"""Layers whose boxes were updated but not yet projected by `project_boxes`."""


@torch.no_grad()
def project_stored(parameter: Tensor, project: Callable[[Tensor], Tensor]) -> None:
    """Apply ``project`` to boxes (..., 3 or 4) in place.

    If they are sharded, processes communicate only if the edges of one box lie in different processes.
    """
    rows = complete_rows(parameter)
    if rows is None:
        write(parameter, project(whole(parameter)))
    else:
        rows.copy_(project(rows))


def project_boxes(model: nn.Module) -> None:
    """Project the stored boxes of every `BoxConv2d` in ``model`` into their limits.

    An optimiser's step does this by itself, except in two cases: `FullyShardedDataParallel` (FSDP1), which splits
    weights at any place, and optimisers that are not a `torch.optim.Optimizer`. In these cases call this function after
    each step, in all processes.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    with _summoned(model):
        for layer in [module for module in model.modules() if module in layers]:
            layer.project_()  # type: ignore[operator]
            _unprojected.discard(layer)  # type: ignore[arg-type]


def _summoned(model: nn.Module) -> Any:
    """Return a context in which FSDP1's weights are complete; they are written back at its end."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        from torch.distributed.fsdp import FullyShardedDataParallel

        if FullyShardedDataParallel.fsdp_modules(model):
            return FullyShardedDataParallel.summon_full_params(model)
    return nullcontext()


def _present() -> "list[BoxConv2d]":
    """List all layers, even while other threads make some, which is an error for the loop over a set."""
    while True:
        try:
            return list(layers)
        except RuntimeError:
            continue


def _held(optimizer: Optimizer) -> dict[int, Tensor]:
    """Return the optimiser's parameters by their id, in the same order in all processes."""
    return {id(parameter): parameter for group in optimizer.param_groups for parameter in group["params"]}


def _stored(layer: "BoxConv2d") -> Tensor | None:
    """Return the layer's stored boxes, or FSDP1's view of them; None if a parametrisation computes them."""
    return dict(layer.named_parameters(recurse=False)).get("scaled_boxes", vars(layer).get("scaled_boxes"))


def _copy_of(layer: "BoxConv2d") -> Tensor | None:
    reference = _copies.get(layer)
    return None if reference is None else reference()


def _find_copies(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Find out which of the optimiser's parameters are copies of layers' boxes in higher precision, before a step.

    A copy is recognised by its values: before the step, they are those of the layer once rounded to its dtype.
    """
    held = _held(optimizer)
    for layer in _present():
        stored = _stored(layer)
        if (
            stored is None
            or stored.itemsize >= 4
            or id(stored) in held
            or not stored.requires_grad
            or _copy_of(layer) is not None
        ):
            continue
        for parameter in held.values():
            if parameter.itemsize >= 4 and _rounds_to(parameter, stored):
                _copies[layer] = weakref.ref(parameter)


def _rounds_to(precise: Tensor, stored: Tensor) -> bool:
    """Whether ``precise``, rounded to the dtype of ``stored``, equals it; both of one kind of tensor, on one device."""
    if precise.shape != stored.shape or precise.device != stored.device or _kind(precise) is not _kind(stored):
        return False
    try:
        return torch.equal(precise.detach().to(stored.dtype), stored.detach())
    except RuntimeError:  # meta and fake tensors have no numbers
        return False


def _kind(tensor: Tensor) -> type:
    """Return the kind of a tensor: different kinds, such as fake and real ones, must not meet in an operation."""
    return Tensor if type(tensor) is nn.Parameter else type(tensor)


def _project_after_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Project the boxes that the optimiser updates, in all layers of this process."""
    held = _held(optimizer)
    places = {key: place for place, key in enumerate(held)}
    found: list[tuple[int, BoxConv2d, Tensor]] = []
    for layer in _present():
        for parameter in (_stored(layer), _copy_of(layer)):
            if parameter is not None and id(parameter) in held and parameter.requires_grad:
                found.append((places[id(parameter)], layer, parameter))
        if _is_flattened(layer) and any(map(_is_flat_parameter, held.values())):
            _wait_for_project_boxes(layer)
    # In the optimiser's order, which is the same in all processes: projecting a sharded parameter may communicate.
    for _, layer, parameter in sorted(found, key=lambda each: each[0]):
        if parameter.dim() < 3:  # FSDP1 has flattened it
            _wait_for_project_boxes(layer)
        elif parameter is _stored(layer):
            layer.project_()
        else:
            project_stored(parameter, layer._projected)


def _is_flattened(layer: "BoxConv2d") -> bool:
    """Whether FSDP1 has replaced the layer's parameter by a view of its flat parameter."""
    return "scaled_boxes" in vars(layer) and layer.scaled_boxes.requires_grad


def _is_flat_parameter(parameter: Tensor) -> bool:
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(parameter, fsdp.FlatParameter)


def _wait_for_project_boxes(layer: "BoxConv2d") -> None:
    """Expect a call of `project_boxes` before the next step; warn if there was none since the last one."""
    if layer in _unprojected:
        # Python's default filter shows a warning once for each place in the code, so this one once in a process.
        warnings.warn(
            "FullyShardedDataParallel (FSDP1) cuts the weights of BoxConv2d anywhere, so an optimiser's step cannot "
            "project them: call box_convolution.project_boxes(model) after optimizer.step(), in all processes. Until "
            "then stored boxes may leave their limits; what is computed uses the nearest valid boxes",
            stacklevel=2,
        )
    _unprojected.add(layer)


register_optimizer_step_pre_hook(_find_copies)
register_optimizer_step_post_hook(_project_after_step)
