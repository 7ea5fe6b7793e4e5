"""Run tests with the versions of this environment, and record the result in docs/compatibility.json.

python tests/versions.py tests              # all tests; the arguments are those of pytest
"""

import platform
import re
import subprocess
import sys
from importlib import metadata

from compatibility_table import record

PACKAGES = ("torch", "triton", "numpy", "pillow", "matplotlib", "onnx", "onnxruntime", "onnxscript", "huggingface_hub")


def versions() -> str:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join((f"Python {platform.python_version()}", *found))


def main() -> int:
    arguments = sys.argv[1:]
    done = subprocess.run([sys.executable, "-m", "pytest", *arguments], stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="")
    # Matches a line such as "3 failed, 90 passed, 2 skipped in 10 s".
    summary = re.findall(r"^=*\s*((?:\d+ \w+, )*\d+ \w+) in ", done.stdout, re.MULTILINE)
    record("versions", versions(), f"pytest {' '.join(arguments)}: {summary[-1] if summary else 'did not run'}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
