"""Build the package with scikit-build-core; without the C++ kernels if they cannot be built.

pip hides why. So the reason is kept in the installed package's metadata, for the warning when the layer first runs on
its reference implementation, and for `boxconv doctor`. With BOX_CONVOLUTION_REQUIRE_LIBRARY=1 the build fails instead.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

from scikit_build_core.build import (
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
]

RECORD = "kernels_not_built.txt"
_LIBRARY = re.compile(r"box_convolution/ops/(lib)?box_conv2d\.(so|dylib|dll)$")
_BUILD = """
import json, sys
from scikit_build_core import build
getattr(build, sys.argv[1])(sys.argv[2], json.loads(sys.argv[3]))
"""


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return _build("build_wheel", wheel_directory, config_settings)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return _build("build_editable", wheel_directory, config_settings)


def _build(function, directory, settings):
    """Build the wheel, with the kernels or with the reason why it has none, and return its name."""
    environment = with_compiler(os.environ)
    status, output = _attempt(function, directory, settings, environment)
    required = os.environ.get("BOX_CONVOLUTION_REQUIRE_LIBRARY", "") not in ("", "0")
    reason = first_error(output) if status else ""
    if status and not required:
        print("box-convolution: the C++ kernels were not built, see above; going on without them", flush=True)
        status, output = _attempt(function, directory, settings, environment | {"SKBUILD_WHEEL_CMAKE": "false"})
    if status:
        raise SystemExit(status)
    wheel = max(Path(directory).glob("*.whl"), key=lambda path: path.stat().st_mtime_ns)
    with zipfile.ZipFile(wheel) as archive:
        complete = any(_LIBRARY.search(name) for name in archive.namelist())
    if not complete:
        _note(wheel, reason or "they were left out of the build, or there was no CMake to build them with")
    return wheel.name


def with_compiler(environment):
    """Return ``environment``; with CXX added if it is not set and Python's own compiler is not on the PATH.

    scikit-build-core would ask for Python's compiler by name, such as g++, and not find an installed Clang.
    """
    theirs = (sysconfig.get_config_var("CXX") or "c++").split()[0]
    path = environment.get("PATH")
    found = next((name for name in (theirs, "c++", "clang++", "g++") if shutil.which(name, path=path)), theirs)
    if os.name != "posix" or "CXX" in environment or found == theirs:
        return dict(environment)
    return {**environment, "CXX": found}


def _attempt(function, directory, settings, environment):
    """Run scikit-build-core in a process of its own; print its output, and return its exit status and output."""
    command = [sys.executable, "-c", _BUILD, function, str(directory), json.dumps(settings)]
    lines = []
    with subprocess.Popen(
        command, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    return process.returncode, lines


def first_error(lines):
    """Return the compiler and the first line of its error, from the output of a build that failed."""
    text = "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines)
    identified = re.search(r"The CXX compiler identification is (?!unknown)(.+)", text)
    path = re.search(r"Check for working CXX compiler: (\S+)", text)
    compiler = " ".join(found[1] for found in (identified, path) if found)
    error = re.search(r"^\S.*?\berror: .*$", text, re.MULTILINE)
    if error:
        message = error[0]
    elif "No CMAKE_CXX_COMPILER could be found" in text:
        message = "CMake found no C++ compiler"
    elif named := re.search(r"compiler (?:set|specified) in (?:the )?environment variable CXX:\s+(\S+?)\.?\s", text):
        message = f"CMake found no C++ compiler named {named[1]}"  # CXX is set by scikit-build-core, too
    elif found := re.search(r"CMake Error[^\n]*:\n\s*(\S(?:[^\n]*:\n\n|[^\n]|\n +\S)*)", text):
        message = found[1]
    else:
        message = next((line for line in lines if "rror" in line), "the build ended without a message")
    message = " ".join(message.split()).rstrip(".")
    return f"{compiler}: {message}" if compiler else message


def _note(wheel, reason):
    """Put ``reason`` into the wheel's metadata, where `importlib.metadata` finds it after any kind of installation."""
    with zipfile.ZipFile(wheel) as archive:
        content = {entry: archive.read(entry) for entry in archive.infolist()}
    folder = next(entry.filename for entry in content if entry.filename.endswith(".dist-info/RECORD")).rpartition("/")[
        0
    ]
    text = f"{reason}\n".encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(text).digest()).rstrip(b"=").decode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in content.items():
            if entry.filename == f"{folder}/RECORD":
                archive.writestr(f"{folder}/{RECORD}", text)
                data += f"{folder}/{RECORD},sha256={digest},{len(text)}\n".encode()
            archive.writestr(entry, data)
