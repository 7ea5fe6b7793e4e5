"""Run the CPU kernels' tests under AddressSanitizer and UndefinedBehaviorSanitizer: `make sanitize`.

To show that the sanitizers find faults here, libraries with a planted fault are tested first, and each fault must be
reported. Needs Linux, GCC and CMake.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from library_build import ROOT, build_library, pytest_command

# Each planted fault (entry.cpp), and a pattern for its report.
FAULTS = {
    1: (
        "a write behind the output",
        r"AddressSanitizer: heap-buffer-overflow.*\nWRITE of size.*\n.* in box::plant_fault",
    ),
    2: ("a read before the input", r"AddressSanitizer: heap-buffer-overflow.*\nREAD of size.*\n.* in box::plant_fault"),
    3: ("an integer that overflows", r"entry.cpp.* runtime error: signed integer overflow"),
}


def build(build: Path, fault: int) -> Path:
    """Build a library with the sanitizers and a planted fault (0 for none); returns its folder."""
    settings = {"BOX_SANITIZE": "ON", "BOX_PLANT_FAULT": str(fault), "CMAKE_BUILD_TYPE": "None"}
    return build_library(build, build / f"fault{fault}", settings)


def run(folder: Path, arguments: list[str], stderr: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run pytest in a Python with the sanitizers, with the library in ``folder``."""
    compiler = os.environ.get("CXX", "c++")
    libraries = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = {
        "LD_PRELOAD": ":".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    }
    # The sanitizers write to the stderr of the process and then end it, so pytest must not capture stderr.
    command = pytest_command(folder, ["--capture=sys", *arguments])
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, text=True, stderr=stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pytest", nargs="*", default=["tests/ops", "-k", "cpu"], help="arguments for pytest")
    arguments = parser.parse_args()
    directory = ROOT / "build" / "sanitize"
    if not shutil.which("cmake"):
        sys.exit("sanitize: no cmake on the PATH (pip install cmake)")
    for fault, (meaning, report) in FAULTS.items():
        done = run(
            build(directory, fault), ["-x", "-k", "every_dtype", "tests/ops/test_cpu_library.py"], subprocess.PIPE
        )
        if done.returncode == 0 or not re.search(report, done.stderr):
            sys.exit(f"{done.stderr}\nsanitize: planted fault {fault}, {meaning}, was not found")
        print(f"sanitize: planted fault {fault}, {meaning}, was found (exit status {done.returncode})", flush=True)
    return run(build(directory, 0), arguments.pytest).returncode


if __name__ == "__main__":
    sys.exit(main())
