"""Launches that are prepared once for all calls of a kind.

With every launch of a kernel, Triton looks at each argument to find the machine code that was compiled for it. That
takes the CPU several times as long as the launch. A `Launch` keeps the machine code that Triton found.
"""

from typing import Any

from torch import Tensor


class Launch:
    """A kernel with all of its arguments except the tensors, which come first.

    All calls must be on one device, with tensors of the same dtypes and None in the same places. ``numbers`` are the
    arguments that follow the tensors, and ``constants`` those that are known when the kernel is compiled, in the
    kernel's order.
    """

    def __init__(
        self, kernel: Any, programs: int, numbers: tuple[int, ...], constants: dict[str, Any], options: dict[str, Any]
    ) -> None:
        self._kernel = kernel
        self._grid = (programs, 1, 1)
        self._numbers = numbers
        self._constants = constants
        self._options = options
        self._arguments = (*numbers, *constants.values())
        self._compiled: Any = None  # for tensors that start at multiples of 16 bytes, as new ones do

    def __call__(self, *tensors: Tensor | None) -> None:
        if not _aligned(tensors):
            self._start(tensors)
        elif self._compiled is None:
            compiled = self._start(tensors)
            if compiled is not None:  # as it is where the kernel is interpreted
                self._compiled = compiled[self._grid]
        else:
            self._compiled(*tensors, *self._arguments)

    def _start(self, tensors: tuple[Tensor | None, ...]) -> Any:
        """Let Triton find the machine code, or make it; return it."""
        return self._kernel[self._grid](*tensors, *self._numbers, **self._constants, **self._options)


def _aligned(tensors: tuple[Tensor | None, ...]) -> bool:
    """Whether all start at multiples of 16 bytes, for which Triton makes machine code of its own."""
    bits = 0
    for tensor in tensors:
        if tensor is not None:
            bits |= tensor.data_ptr()
    return bits % 16 == 0
