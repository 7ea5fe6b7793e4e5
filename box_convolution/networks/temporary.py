"""Images that a network passes on and does not read again, so that a deployed box block may overwrite them."""

import threading
import weakref

import torch
from torch import Tensor

_passed_on = threading.local()


def as_temporary(image: Tensor, deployed: bool) -> Tensor:
    """Return ``image``, and note that it is passed on; the caller must not read it again.

    Only in ``deployed`` networks, and not in compiled and scripted code. One image is noted at a time, for the block
    that reads it next. It is not marked itself, because a copy of it would have the mark, too.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript compiles the whole of a joint condition
        if deployed and not torch.compiler.is_compiling() and isinstance(image, Tensor):
            _passed_on.image = weakref.ref(image)
    return image


def take_temporary(image: Tensor) -> bool:
    """Whether ``image`` was the last that was passed on. A second call returns False."""
    noted = getattr(_passed_on, "image", None)
    _passed_on.image = None
    return noted is not None and noted() is image
