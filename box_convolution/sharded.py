"""Parameters that are spread over processes as a `DTensor` (FSDP2, tensor parallelism), read and written as a whole.

Everything here is a plain read or write where the parameter is an ordinary tensor.
"""

from typing import Any

import torch
from torch import Tensor


def whole(parameter: Tensor) -> Tensor:
    """All of ``parameter`` in this process; differentiable. Where it is sharded, all processes must call this."""
    return parameter.full_tensor() if _is_distributed(parameter) else parameter  # type: ignore[attr-defined]


def complete_rows(parameter: Tensor) -> Tensor | None:
    """This process's part of ``parameter``, a view on it, if the last dimension is complete there; else None."""
    if not _is_distributed(parameter):
        return parameter
    distributed: Any = parameter
    last = parameter.dim() - 1
    cut = any(placement.is_partial() or getattr(placement, "dim", None) == last for placement in distributed.placements)
    return None if cut else distributed.to_local()


@torch.no_grad()
def write(parameter: Tensor, values: Tensor) -> None:
    """Overwrite ``parameter`` with ``values``, its whole content; where it is sharded, with those of rank 0.

    Where it is sharded, all processes must call this.
    """
    if _is_distributed(parameter):
        from torch.distributed.tensor import distribute_tensor

        distributed: Any = parameter
        values = values.to(device=parameter.device, dtype=parameter.dtype)
        values = distribute_tensor(values, distributed.device_mesh, distributed.placements)
    parameter.copy_(values)


def _is_distributed(parameter: Tensor) -> bool:
    return hasattr(parameter, "full_tensor")
