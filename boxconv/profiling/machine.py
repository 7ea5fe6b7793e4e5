"""Facts about machine and software, to be printed with measured times."""

import datetime
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

import torch

from box_convolution import __version__


def facts(threads: Iterable[int], keeps_memory: bool) -> list[list[str]]:
    """Table rows with date, hardware, versions and whatever else influences times.

    threads: numbers of threads that were measured. keeps_memory: the result of `keep_freed_memory`.
    """
    settings = [f"`{name}={value}`" for name, value in sorted(os.environ.items()) if name.startswith(("OMP_", "KMP_"))]
    return [
        ["date", datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")],
        ["processor", f"{processor()}, {os.cpu_count()} logical cores; {caches()}"],
        *([["GPU", torch.cuda.get_device_name()]] if torch.cuda.is_available() else []),
        ["threads", ", ".join(map(str, threads))],
        ["malloc", "keeps freed memory: no fresh pages in the times" if keeps_memory else "as the system has it"],
        ["load when it began", load()],
        ["box_convolution", f"{__version__}, {commit()}"],
        ["torch", f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"],
        ["python, system", f"{platform.python_version()}, {platform.system()} {platform.machine()}"],
        *([["environment", ", ".join(settings)]] if settings else []),
    ]


def processor() -> str:
    info = Path("/proc/cpuinfo")
    fields = (line.partition(":") for line in info.read_text().splitlines()) if info.exists() else ()
    first: dict[str, str] = {}
    for key, _, value in fields:
        first.setdefault(key.strip(), value.strip())
    if "model name" not in first:
        return platform.processor() or platform.machine()
    return f"{first['model name']} (family {first.get('cpu family')}, model {first.get('model')})"


def caches() -> str:
    """Size of each level of data cache of the first core."""
    found = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    return ", ".join(found) or "caches unknown"


def load() -> str:
    if not hasattr(os, "getloadavg"):
        return "unknown"
    return ", ".join(f"{load:.1f}" for load in os.getloadavg()) + " (mean of 1, 5, 15 minutes)"


def commit() -> str:
    """The commit of the repository that this file belongs to, as text."""
    git, here = ["git", "-C", str(Path(__file__).parent)], Path(__file__).name
    try:  # the package may be installed inside the repository of another project, whose commit says nothing
        subprocess.run([*git, "ls-files", "--error-unmatch", here], capture_output=True, check=True)
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "not in a repository"
    return "commit " + described.stdout.strip()


def provenance() -> str:
    """Software and hardware in one line."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    return f"box_convolution {__version__}, {commit()}; torch {torch.__version__}; {device}"
