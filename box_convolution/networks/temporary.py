"""Images that a network passes on and does not read again, so that a deployed box block may overwrite them."""

import torch
from torch import Tensor

_MARK = "_read_no_more"


def as_temporary(image: Tensor) -> Tensor:
    """Return ``image``, marked; the caller must not read it again. Has no effect in compiled and scripted code."""
    if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript compiles the whole of a joint condition
        if not torch.compiler.is_compiling() and isinstance(image, Tensor):
            setattr(image, _MARK, True)
    return image


def take_temporary(image: Tensor) -> bool:
    """Whether ``image`` is marked; it is not any more after this call."""
    return bool(image.__dict__.pop(_MARK, False))
