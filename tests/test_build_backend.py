"""The build backend: it builds the kernels if possible, else the package without them, with the reason in it."""

import base64
import hashlib
import os
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "build_backend"))
import backend  # no part of the package

GCC = """\
-- The CXX compiler identification is GNU 10.2.1
-- Check for working CXX compiler: /usr/bin/c++ - skipped
[1/5] Building CXX object transpose.cpp.o
In file included from /src/transpose.cpp:3:
/src/shuffle.h:8:1: error: '__builtin_shufflevector' was not declared in this scope
/src/shuffle.h:9:1: error: another
ninja: build stopped: subcommand failed.
"""
OURS = """\
-- The CXX compiler identification is GNU 8.3.0
-- Check for working CXX compiler: /usr/bin/c++ - skipped
CMake Error at CMakeLists.txt:23 (message):
  The kernels need GCC 11 or later, or Clang 14 or later (on Windows: clang-cl); this is
  GNU 8.3.0, /usr/bin/c++


-- Configuring incomplete, errors occurred!
"""
NO_COMPILER = """\
-- The CXX compiler identification is unknown
CMake Error at CMakeLists.txt:4 (project):
  No CMAKE_CXX_COMPILER could be found.

  Tell CMake where to find the compiler by setting either the environment
"""
CXX = """\
CMake Error at CMakeLists.txt:4 (project):
  Could not find compiler set in environment variable CXX:

  /usr/bin/none.

Call Stack
"""


@pytest.mark.parametrize(
    "output, expected",
    [
        (
            GCC,
            "GNU 10.2.1 /usr/bin/c++: /src/shuffle.h:8:1: error: '__builtin_shufflevector' was not declared in this "
            "scope",
        ),
        (
            OURS,
            "GNU 8.3.0 /usr/bin/c++: The kernels need GCC 11 or later, or Clang 14 or later (on Windows: clang-cl); "
            "this is GNU 8.3.0, /usr/bin/c++",
        ),
        (NO_COMPILER, "CMake found no C++ compiler"),
        (CXX, "CMake found no C++ compiler named /usr/bin/none"),
        ("", "the build ended without a message"),
    ],
    ids=["gcc", "ours", "no compiler", "CXX", "silence"],
)  # fmt: skip
def test_the_first_line_of_the_error(output, expected):
    assert backend.first_error(output.splitlines()) == expected


@pytest.fixture
def build(monkeypatch, tmp_path):
    """Run the backend with a scikit-build-core that fails a given number of times, then writes a wheel."""

    def run(failures, library):
        calls = []

        def attempt(function, directory, settings, environment):
            calls.append(environment.get("SKBUILD_WHEEL_CMAKE"))
            if len(calls) <= failures:
                return 1, GCC.splitlines()
            with zipfile.ZipFile(tmp_path / "box-1.whl", "w") as archive:
                archive.writestr("box_convolution/__init__.py", "")
                if library:
                    archive.writestr("box_convolution/ops/libbox_conv2d.so", "")
                archive.writestr("box-1.dist-info/RECORD", "box_convolution/__init__.py,,\n")
            return 0, []

        monkeypatch.setattr(backend, "_attempt", attempt)
        name = backend.build_wheel(str(tmp_path))
        with zipfile.ZipFile(tmp_path / name) as archive:
            return calls, {entry: archive.read(entry).decode() for entry in archive.namelist()}

    monkeypatch.delenv("SKBUILD_WHEEL_CMAKE", raising=False)
    return run


@pytest.mark.skipif(os.name != "posix", reason="Windows has Visual Studio's Clang")
def test_a_compiler_of_another_name_than_pythons_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(backend.sysconfig, "get_config_var", lambda name: "g++ -pthread")
    environment = {"PATH": str(tmp_path)}
    assert backend.with_compiler(environment) == environment  # none: the error names Python's own
    for name, expected in (("clang++", "clang++"), ("c++", "c++"), ("g++", None)):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
        assert backend.with_compiler(environment).get("CXX") == expected
    assert backend.with_compiler({**environment, "CXX": "mine"})["CXX"] == "mine"


def test_with_the_kernels_nothing_is_noted(build):
    calls, content = build(failures=0, library=True)
    assert calls == [None]
    assert f"box-1.dist-info/{backend.RECORD}" not in content


def test_a_failure_is_kept_in_the_package(build):
    calls, content = build(failures=1, library=False)
    assert calls == [None, "false"]
    note = content[f"box-1.dist-info/{backend.RECORD}"]
    assert note.startswith("GNU 10.2.1 /usr/bin/c++: /src/shuffle.h:8:1: error")
    digest = base64.urlsafe_b64encode(hashlib.sha256(note.encode()).digest()).rstrip(b"=").decode()
    listed = content["box-1.dist-info/RECORD"].splitlines()
    assert f"box-1.dist-info/{backend.RECORD},sha256={digest},{len(note)}" in listed


def test_left_out_on_purpose(build):
    _, content = build(failures=0, library=False)
    assert "left out" in content[f"box-1.dist-info/{backend.RECORD}"]


def test_where_the_kernels_are_required_a_failure_is_final(build, monkeypatch):
    monkeypatch.setenv("BOX_CONVOLUTION_REQUIRE_LIBRARY", "1")
    with pytest.raises(SystemExit):
        build(failures=1, library=False)


def test_the_note_is_found_under_the_same_name():
    from box_convolution.ops import build_record

    assert build_record._RECORD == backend.RECORD
