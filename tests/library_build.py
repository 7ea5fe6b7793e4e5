"""Build the C++ library with other compilers or flags, beside the installed one, and run tests with it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Runs pytest with the library in the folder argv[1].
_INSIDE = """
import sys, pytest
from box_convolution import ops
from box_convolution.ops import cpu_library
ops.__path__.insert(0, sys.argv[1])
if not cpu_library.library()._name.startswith(sys.argv[1]):
    sys.exit("another library was loaded: " + cpu_library.library()._name)
sys.exit(pytest.main(sys.argv[2:]))
"""


def build_library(build: Path, prefix: Path, settings: dict[str, str]) -> Path:
    """Build in ``build`` with these CMake settings, install below ``prefix``; returns the folder with the library.

    If it cannot be built, prints the reason and raises subprocess.CalledProcessError.
    """
    settings = {"CMAKE_INSTALL_LIBDIR": "lib", **settings}
    for arguments in (
        ["-S", str(ROOT), "-B", str(build), *(f"-D{name}={value}" for name, value in settings.items())],
        ["--build", str(build), "--parallel", "2"],
        ["--install", str(build), "--prefix", str(prefix)],
    ):
        done = subprocess.run(["cmake", *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            print(done.stdout, flush=True)
        done.check_returncode()
    return prefix / "lib"


def instruction_sets(folder: Path) -> list[str]:
    """Instruction sets of the library in ``folder`` that this machine supports."""
    script = """
import sys
from box_convolution import ops
ops.__path__.insert(0, sys.argv[1])
print(*ops.cpu_library.isas())
"""
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout.split()


def pytest_command(folder: Path, arguments: list[str]) -> list[str]:
    """Command line of pytest with the library in ``folder``; it fails if another library is loaded."""
    return [sys.executable, "-c", _INSIDE, str(folder), *arguments]
