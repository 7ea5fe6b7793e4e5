"""The device for training and evaluation, and errors that come from it."""

import torch
from torch import nn


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where and why. The last checkpoint is intact."""


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device called ``name``; ``auto`` is the first of `device_names`.

    ``local_rank`` is the number of the GPU for cuda. Raises TrainingError for a device that is not available.
    """
    if name == "auto":
        name = device_names()[0]
    if name == "cuda" and local_rank:
        name = f"cuda:{local_rank}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        # About any other name PyTorch's text is a list of all that it has ever known.
        reason = f" ({str(error).splitlines()[0]})" if name.startswith("cuda") else ""
        here = " or ".join(("auto", *device_names()))
        raise TrainingError(f"--device {name}: not available here{reason}; expected {here}") from error
    return device


def device_names() -> list[str]:
    """The devices of this machine, as --device takes them: "cuda" if there is a GPU, and "cpu"."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [*(["cuda"] if gpus else []), *(f"cuda:{number}" for number in range(gpus) if gpus > 1), "cpu"]


def device_of(model: nn.Module) -> torch.device:
    """The device that ``model`` takes its input on: that of its first parameter, or the CPU if it has none."""
    return next((value.device for value in model.parameters()), torch.device("cpu"))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: PyTorch has other types and words for each kind of device."""
    words = ("out of memory", "can't allocate memory", "bad_alloc")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)
