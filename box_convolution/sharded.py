"""Parameters that are spread over processes as a `DTensor` (FSDP2, tensor parallelism), read and written as a whole.

If the parameter is an ordinary tensor, each function is a plain read or write.
"""

from typing import Any

import torch
from torch import Tensor, nn


def whole(parameter: Tensor) -> Tensor:
    """Return the complete ``parameter``, differentiably. If it is sharded, all processes must call this."""
    return parameter.full_tensor() if _is_distributed(parameter) else parameter  # type: ignore[attr-defined]


def complete_rows(parameter: Tensor) -> Tensor | None:
    """Return a view of this process's part of ``parameter`` if its last dimension is complete here; else None."""
    if not _is_distributed(parameter):
        return parameter
    distributed: Any = parameter
    last = parameter.dim() - 1
    cut = any(placement.is_partial() or getattr(placement, "dim", None) == last for placement in distributed.placements)
    return None if cut else distributed.to_local()


@torch.no_grad()
def write(parameter: Tensor, values: Tensor) -> None:
    """Overwrite the complete ``parameter`` with ``values``.

    If it is sharded, all processes must call this, and the values of rank 0 are written.
    """
    if _is_distributed(parameter):
        from torch.distributed.tensor import distribute_tensor

        distributed: Any = parameter
        values = values.to(device=parameter.device, dtype=parameter.dtype)
        values = distribute_tensor(values, distributed.device_mesh, distributed.placements)
    parameter.copy_(values)


def _is_distributed(parameter: Tensor) -> bool:
    return type(parameter) is not nn.Parameter and hasattr(parameter, "full_tensor")  # a DTensor is of its own type
