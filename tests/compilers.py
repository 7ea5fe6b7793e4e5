"""Build the CPU kernels with every compiler below that this machine has, and test them: `make test-compilers`.

A warning is a failure. Each library runs the operator's cases on every instruction set of this machine. The newest
Clang also builds a library that stops at a misaligned access (UndefinedBehaviorSanitizer). Needs Linux and CMake;
installs nothing, and says which compilers are missing.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from compatibility_table import record
from library_build import ROOT, build_library, instruction_sets, pytest_command

COMPILERS = ["g++-11", "g++-12", "g++-13", "g++-14", "clang++-14", "clang++-15", "clang++-16", "clang++-19"]
CASES = [
    "tests/ops/test_cpu_library.py::test_every_instruction_set",
    "tests/ops/test_cpu_library.py::test_every_dtype",
    "tests/ops/test_cpu_library.py::test_nothing_outside_is_read_or_written",
    "tests/ops/test_cpu_library.py::test_number_of_threads_changes_no_bit",
    "tests/ops/test_cpu_library.py::test_the_library_needs_the_c_library_alone",
    "tests/ops/test_channels_last.py",
    "tests/ops/test_fixed_point.py",
    "tests/ops/test_exact.py",
    "tests/ops/test_boxes_in_place.py",
    "tests/ops/test_inference.py",
]
RANDOM_CASES = ["tests/ops/test_against_oracle.py", "-k", "cpu and (float32 or sliver or nothing)"]
FEW = {"BOX_CONVOLUTION_TIMES_THE_CASES": "0.2"}
# A trap needs no library of the sanitizer. Loops with checks are not vectorised; the warning about it is turned off.
ALIGNMENT = "-fsanitize=alignment -fsanitize-trap=alignment -Wno-pass-failed"


def version(compiler: str) -> str:
    """Name and version of a compiler, such as "g++-11 11.3.0"."""
    first = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    numbers = re.search(r"\d+\.\d+\.\d+", first)
    return f"{compiler} {numbers[0] if numbers else first}"


def outcome(compiler: str, flags: str) -> str:
    """Build the library with ``flags`` and test it; returns the result as one line of text."""
    build = ROOT / "build" / "compilers" / "".join(c if c.isalnum() or c in "+-" else "_" for c in compiler + flags)
    settings = {"CMAKE_CXX_COMPILER": compiler, "CMAKE_CXX_FLAGS": f"-Werror {flags}", "CMAKE_BUILD_TYPE": "None"}
    try:
        folder = build_library(build, build / "installed", settings)
    except subprocess.CalledProcessError:
        return "does not build"
    if status := failed(folder, CASES, {}):
        return f"built; its tests failed ({status})"
    isas = instruction_sets(folder)
    for isa in isas:
        if status := failed(folder, RANDOM_CASES, FEW | {"BOX_CONVOLUTION_ISA": isa}):
            return f"built; its tests failed on {isa} ({status})"
    return f"built without a warning; passes on {', '.join(isas)}"


def failed(folder: Path, arguments: list[str], environment: dict[str, str]) -> str | None:
    """How pytest failed, with the library in ``folder``; None if it passed."""
    command = pytest_command(folder, ["-x", *arguments])
    status = subprocess.run(command, cwd=ROOT, env=os.environ | environment).returncode
    if status == 0:
        return None
    return f"exit status {status}" if status > 0 else f"signal {-status}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("compilers", nargs="*", default=COMPILERS, help=f"default: {' '.join(COMPILERS)}")
    parser.add_argument("--write", type=Path, metavar="JSON", help="add the outcomes to this file")
    arguments = parser.parse_args()
    if not shutil.which("cmake"):
        sys.exit("test-compilers: no cmake on the PATH (pip install cmake)")
    present = [compiler for compiler in arguments.compilers if shutil.which(compiler)]
    missing = [compiler for compiler in arguments.compilers if compiler not in present]
    if missing:
        print(f"test-compilers: not on this machine, not tried: {', '.join(missing)}", flush=True)
    runs = [(compiler, "", "") for compiler in present]
    runs += [(compiler, ALIGNMENT, ", alignment checked") for compiler in present if "clang" in compiler][-1:]
    good = bool(present)
    for compiler, flags, title in runs:
        name, result = version(compiler) + title, outcome(compiler, flags)
        good &= "passes" in result
        print(f"test-compilers: {name}: {result}", flush=True)
        if arguments.write:
            record("compiler", name, result, arguments.write)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
