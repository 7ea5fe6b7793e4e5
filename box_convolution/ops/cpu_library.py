"""The shared library with the C++ kernels: it is found, loaded and asked which instruction sets it has.

Its functions take pointers to structures. Those are defined where they are filled: native.py, native_layers.py.
"""

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from . import build_record

FILE = {"win32": "box_conv2d.dll", "darwin": "libbox_conv2d.dylib"}.get(sys.platform, "libbox_conv2d.so")
NOT_SERVED = 2  # BOX_NOT_SERVED
_ABI_VERSION = 12  # BOX_ABI_VERSION in box_conv2d.h
_ISA_VARIABLE = "BOX_CONVOLUTION_ISA"


@functools.cache
def library() -> ctypes.CDLL:
    """Load the shared library with the kernels.

    Raises OSError, with the reason and the remedy, if it is missing or does not load; ValueError if the environment
    variable BOX_CONVOLUTION_ISA (for tests and bug reports) asks for an instruction set that is not available.
    """
    # An editable installation has two folders: the one with this file, and the one that the library was installed into.
    folders = [Path(folder) for folder in sys.modules[__package__].__path__]
    path = next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)
    if path is None:
        why = build_record.reason()
        where = "" if why else f" is not in {' or '.join(map(str, folders))}: it"
        raise OSError(f"{FILE}{where} was not built{f': {why}' if why else ''}. {_remedy()}")
    try:
        found = ctypes.CDLL(str(path))
        version = found.box_abi_version()
        if version != _ABI_VERSION:
            raise OSError(f"it has version {version} of the interface, this package needs {_ABI_VERSION}")
        found.box_isa.restype = ctypes.c_char_p
        found.box_use_isa.argtypes = [ctypes.c_char_p]
    except (OSError, AttributeError) as error:
        raise OSError(f"{path} cannot be used: {error}. {_remedy()}") from error
    wanted = os.environ.get(_ISA_VARIABLE)
    if wanted:
        _force_isa(found, wanted, f"environment variable {_ISA_VARIABLE}")
    return found


def _remedy() -> str:
    compiler = "with a C++ compiler at hand (GCC 11 or later, or Clang 14 or later)"
    return f"Reinstall box-convolution {compiler}: {build_record.reinstall()}"


@functools.cache
def status() -> str | None:
    """Return None if the kernels can be used, else one line with the reason and the remedy.

    If BOX_CONVOLUTION_ISA is set, the user wants the kernels: then this raises what `library` raises.
    """
    try:
        library()
    except OSError as error:
        if os.environ.get(_ISA_VARIABLE):
            raise
        return str(error)
    return None


def isa() -> str:
    """Return the instruction set in use: "avx512", "avx2" or "baseline" on x86-64, "neon" on arm64."""
    name: bytes = library().box_isa()
    return name.decode()


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Force an instruction set in the whole process, for tests and bug reports.

    Raises ValueError if the library or this machine does not have it.
    """
    found, previous = library(), isa()
    _force_isa(found, name, "name")
    try:
        yield
    finally:
        found.box_use_isa(previous.encode())


def isas() -> list[str]:
    """List the instruction sets that both the library and this machine have, the fastest first."""
    return _present(library())


def _present(found: ctypes.CDLL) -> list[str]:
    previous = found.box_isa()
    present = [name for name in ("avx512", "avx2", "baseline", "neon") if not found.box_use_isa(name.encode())]
    found.box_use_isa(previous)
    return present


def _force_isa(found: ctypes.CDLL, name: str, argument: str) -> None:
    if found.box_use_isa(name.encode()):
        raise ValueError(f"{argument} must be one of {_present(found)} with this library on this machine, got {name!r}")


@functools.cache
def parallel_for() -> int:
    """Return the address of torch's parallel loop; 0 before PyTorch 2.10: then the library starts its own threads."""
    name = {"win32": "torch_cpu.dll", "darwin": "libtorch_cpu.dylib"}.get(sys.platform, "libtorch_cpu.so")
    try:  # PyTorch has loaded it already; its name alone finds it where a distribution keeps it in another folder
        beside = Path(torch.__file__).parent / "lib" / name
        loaded = ctypes.CDLL(str(beside) if beside.is_file() else name)
    except OSError:
        return 0
    function = getattr(loaded, "torch_parallel_for", None)
    return ctypes.cast(function, ctypes.c_void_p).value or 0 if function else 0


def workers() -> tuple[int, int]:
    """The number of threads, and `parallel_for`."""
    return torch.get_num_threads(), parallel_for()
