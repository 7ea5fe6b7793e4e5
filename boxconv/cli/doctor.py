"""`boxconv doctor`: what runs here, what is missing, and the command that installs it. It needs no other package."""

import importlib
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import NamedTuple

_PARTS = {"train": "the commands", "export": "export", "sunrgbd": "import-sunrgbd", "video": "videos"}
_COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True)
class Doctor:
    """Show on one screen: versions, what the layer runs on here, what is missing, and the command that installs it.

    The exit status is 1 if the layer runs on its slow reference or not at all.
    """


class Finding(NamedTuple):
    """A line of the screen, and the remedy if something is missing."""

    name: str
    value: str
    remedy: str = ""
    grave: bool = False


def run(args: Doctor) -> int:
    findings = [*_versions(), *_layer(), *_packages()]
    width = max(len(finding.name) for finding in findings)
    for name, value, _, _ in findings:
        print(f"{name:{width}}  {value}")
    remedies = [(name, remedy) for name, _, remedy, _ in findings if remedy]
    print("\nNothing is missing." if not remedies else "\nWhat is missing, and how to get it:")
    for name, remedy in remedies:
        print(f"  {name}: {remedy}")
    return int(any(finding.grave for finding in findings))


def _versions() -> Iterator[Finding]:
    yield Finding("box-convolution", metadata.version("box_convolution"))
    system = " ".join((platform.system(), platform.machine(), *platform.libc_ver())).strip()
    yield Finding("Python", f"{platform.python_version()}, {system}")


def _layer() -> Iterator[Finding]:
    """Which implementation runs on the CPU, and on each GPU."""
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        yield Finding("PyTorch", f"cannot be imported: {error}", "pip install torch", grave=True)
        return
    build = (
        f"CUDA {torch.version.cuda}"
        if torch.version.cuda
        else f"ROCm {torch.version.hip}"
        if torch.version.hip
        else "CPU"
    )
    from box_convolution import extras
    from box_convolution.ops import cpu_library
    from box_convolution.ops.triton import launch

    outdated = [package for package in extras.requirements("") if not package.satisfied()]
    yield Finding("PyTorch", f"{torch.__version__}, built for {build}", extras.install(outdated) if outdated else "")
    variables = [
        f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "BOX_CONVOLUTION_ISA") if name in os.environ
    ]
    yield Finding("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores {' '.join(variables)}".strip())
    try:
        reason = cpu_library.status()
    except (OSError, ValueError) as error:  # BOX_CONVOLUTION_ISA asks for what is not there
        reason = str(error)
    if reason is None:
        others = ", ".join(name for name in cpu_library.isas() if name != cpu_library.isa())
        yield Finding("on the CPU", f"C++ kernels, {cpu_library.isa()}{f' (also there: {others})' if others else ''}")
    else:
        what, _, remedy = reason.partition(". ")
        yield Finding("on the CPU", f"the slow reference: {what}", remedy or what, grave=True)
        found = [path for name in _COMPILERS if (path := shutil.which(os.environ.get("CXX", name)))]
        yield Finding("compilers", ", ".join(dict.fromkeys(found)) or "none on the PATH", "" if found else _compiler())
    try:
        yield Finding("Triton", importlib.import_module("triton").__version__)
    except ImportError as error:
        yield Finding("Triton", str(error))
    if not torch.cuda.is_available():
        yield Finding("GPU", "none that PyTorch can use")
        return
    for index in range(torch.cuda.device_count()):
        reason = launch.status(torch.device("cuda", index))
        where = f"{torch.cuda.get_device_name(index)}: "
        if reason is None:
            yield Finding(f"GPU {index}", f"{where}Triton kernels")
        else:
            yield Finding(f"GPU {index}", f"{where}the slow reference", reason, grave=True)


def _compiler() -> str:
    """Return the command that installs a compiler here."""
    commands = {"apt-get": "apt-get install g++", "dnf": "dnf install gcc-c++", "brew": "xcode-select --install"}
    known = next((command for tool, command in commands.items() if shutil.which(tool)), "")
    return f"{known}, then install box-convolution again" if known else "install GCC 11 or later, or Clang"


def _packages() -> Iterator[Finding]:
    """Which packages of each extra are there, and which are missing."""
    try:
        from box_convolution import extras
    except (ImportError, OSError):  # for want of PyTorch, as was said above
        return
    for extra, part in _PARTS.items():
        needed = list(extras.requirements(extra))
        lacking = [package for package in needed if not package.satisfied()]
        versions = ", ".join(f"{package.name} {package.found() or 'missing'}" for package in needed)
        yield Finding(f"for {part}", versions, extras.install(lacking) if lacking else "")
