"""Build the C++ library apart from the installed one, and test that one: for other compilers and compiler flags."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Runs pytest with the library in the folder argv[1].
_INSIDE = """
import sys, pytest
from box_convolution import ops
from box_convolution.ops import cpu
ops.__path__.insert(0, sys.argv[1])
if not cpu.library()._name.startswith(sys.argv[1]):
    sys.exit("another library was loaded: " + cpu.library()._name)
sys.exit(pytest.main(sys.argv[2:]))
"""


def build_library(build: Path, prefix: Path, settings: dict[str, str]) -> Path:
    """Build in ``build`` with these CMake settings, install below ``prefix``; the folder with the library.

    Raises subprocess.CalledProcessError, with what was printed in ``output``, where it cannot be built.
    """
    for arguments in (
        ["-S", str(ROOT), "-B", str(build), *(f"-D{name}={value}" for name, value in settings.items())],
        ["--build", str(build), "--parallel", "2"],
        ["--install", str(build), "--prefix", str(prefix)],
    ):
        subprocess.run(["cmake", *arguments], check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return prefix / "box_convolution" / "ops"


def pytest_command(folder: Path, arguments: list[str]) -> list[str]:
    """Command line of pytest on the library in ``folder``; it fails where another library is loaded."""
    return [sys.executable, "-c", _INSIDE, str(folder), *arguments]
