"""`boxconv doctor`: one screen, and the command that installs what is missing."""

import pytest

from box_convolution import extras
from box_convolution.ops import build_record, cpu_library
from boxconv.cli import doctor, main


def test_one_screen(capsys):
    assert main(["doctor"]) == (0 if cpu_library.status() is None else 1)
    lines = capsys.readouterr().out.splitlines()
    names = [line.partition("  ")[0] for line in lines]
    assert {"box-convolution", "Python", "PyTorch", "threads", "on the CPU", "Triton", "for the commands"} <= set(names)
    assert len(lines) <= 24


@pytest.mark.skipif(cpu_library.status() is not None, reason="no C++ kernels here")
def test_the_instruction_set_in_use(capsys):
    with cpu_library.use_isa("baseline" if "baseline" in cpu_library.isas() else cpu_library.isa()):
        main(["doctor"])
        assert f"C++ kernels, {cpu_library.isa()}" in capsys.readouterr().out


@pytest.fixture
def no_kernels(monkeypatch):
    def status():
        return f"libbox_conv2d.so was not built: {build_record.reason()}. Reinstall: {build_record.reinstall()}"

    monkeypatch.setattr(build_record, "_text", lambda name: "GNU 9.4.0 /usr/bin/c++: error: it is old\n")
    monkeypatch.setattr(cpu_library, "status", status)


@pytest.mark.parametrize("compilers", ["", "g++"])
def test_without_kernels(capsys, monkeypatch, no_kernels, compilers):
    """It shows the compiler and its error from the build by pip, the compilers there are now, and what to do."""
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/bin/{name}" if name in (compilers, "apt-get") else None)
    monkeypatch.delenv("CXX", raising=False)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "the slow reference: libbox_conv2d.so was not built: GNU 9.4.0 /usr/bin/c++: error: it is old" in out
    assert "pip install --force-reinstall --no-deps --no-cache-dir" in out
    (line,) = (line for line in out.splitlines() if line.startswith("compilers "))
    assert line.split(maxsplit=1)[1] == ("/bin/g++" if compilers else "none on the PATH")
    assert ("apt-get install g++" in out) == (not compilers)


def test_a_package_that_is_too_old(capsys, monkeypatch):
    found = extras.Requirement.found
    monkeypatch.setattr(extras.Requirement, "found", lambda self: "3.7.5" if self.name == "matplotlib" else found(self))
    main(["doctor"])
    assert "pip install 'matplotlib>=3.8'" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content, command",
    [
        ("", "<what it was installed from>"),
        ('{"url": "file:///a%20b/src", "dir_info": {"editable": true}}', "-e '/a b/src'"),
        ('{"url": "file:///a/box.whl", "archive_info": {}}', "'/a/box.whl'"),
        (
            '{"url": "https://host/box", "vcs_info": {"vcs": "git", "commit_id": "abc"}}',
            "'git+https://host/box@abc'",
        ),
    ],
)
def test_the_command_that_installs_it_again(monkeypatch, content, command):
    monkeypatch.setattr(build_record, "_text", lambda name: content)
    assert build_record.reinstall().endswith(f"--no-cache-dir {command}")
