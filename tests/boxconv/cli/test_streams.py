"""Streams with any encoding, and paths that are not valid text: every command prints, without a traceback."""

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_trees import THREE, noise, pick, save

from boxconv.cli import main
from boxconv.cli.commands import COMMANDS
from boxconv.data.class_table import write_classes


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, arguments: list[Any]) -> tuple[int, str]:
    """Exit status and all output of a command with strict streams in this encoding."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        for stream in streams:
            stream.flush()
    return status, "".join(stream.buffer.getvalue().decode(encoding) for stream in streams)  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    status, text = printed(monkeypatch, encoding, [*([command] if command else []), "--help"])
    assert status == 0
    assert "usage: boxconv" in text


def test_the_stream_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    result = subprocess.run(
        [sys.executable, "-m", "boxconv", "--help"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
    )
    assert all(command.encode() in result.stdout for command in COMMANDS)
    assert not result.stderr


ODD = os.fsdecode(b"\xff\xe9 \n\xe2\x98\x83")
"""A name with bytes that are not UTF-8, a line break and a snowman."""

# What each command says of a file, folder or network of this name that is not there, or is not what it should be.
REFUSED: list[list[Any]] = [
    ["train", "--data", "folder", "--root", ODD],
    ["train", "--start-from", ODD],
    ["train", "--recipe", ODD],
    ["evaluate", ODD],
    ["predict", ODD],
    ["submit", ODD, "--out", "out"],
    ["finetune", ODD, "--out", "out"],
    ["export", ODD, "--out", "out.onnx"],
    ["check-data", ODD],
    ["import-sunrgbd", ODD, "--out", "out"],
    ["compare", ODD, ODD],
    ["cost", ODD],
    ["bench", ODD],
    ["analyze", ODD],
    ["draw", ODD, "--out", "out.png"],
    ["distance", ODD],
    ["demo-app", ODD],
]


def test_every_command_with_an_input_is_in_the_table() -> None:
    assert {line[0] for line in REFUSED} == set(COMMANDS) - {"doctor"}


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("line", REFUSED, ids=[" ".join(line[: 1 if len(line) < 3 else 2]) for line in REFUSED])
def test_paths_that_are_no_text(
    line: list[Any], encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, text = printed(monkeypatch, encoding, line)
    assert status in (1, 2)
    assert "\\udcff\\udce9" in text or "\\\\udcff" in text, text


def test_results_of_files_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check a folder with such names, then draw pictures and predict."""
    root = Path(str(tmp_path), ODD)
    for split in ("train", "val"):
        for name in (f"a{ODD}", "b $x_"):
            save(root / "images" / split / f"{name}.png", noise(split + name))
            save(root / "labels" / split / f"{name}.png", pick(name, (0, 1, 2)))
    write_classes(root / "classes.csv", THREE)
    small = ["--size", 16, 32, "--batch-size", 2, "--epochs", 1, "--network", "enet_minus"]
    run = tmp_path / "run"
    lines: list[list[Any]] = [
        ["check-data", root, "--json", tmp_path / "report.json"],
        ["train", "--data", "folder", "--root", root, "--out", run, *small],
        ["train", "--out", run, "--resume"],
        ["evaluate", run / "best.pt", "--picture", tmp_path / f"seen{ODD}.png", "--json", tmp_path / "scores.json"],
        ["predict", run, root / "images" / "val", "--out", tmp_path / f"out{ODD}"],
        ["export", run, "--out", tmp_path / "net.safetensors"],
        ["predict", tmp_path / "net.safetensors", root / "images" / "val", "--out", tmp_path / "out2"],
        ["compare", run, "--plot", tmp_path / f"curves{ODD}.png"],
        ["analyze", run, "--positions", 0],
    ]
    for line in lines:
        status, text = printed(monkeypatch, "ascii", line)
        assert status == 0, (line, text)
    (tmp_path / "net.safetensors").rename(tmp_path / f"{ODD}.safetensors")
    status, text = printed(monkeypatch, "ascii", ["predict", tmp_path / f"{ODD}.safetensors", root, "--quiet"])
    # safetensors says so itself, or, before 0.5, raises an error of Python.
    assert (status, "not valid UTF-8" in text or "not utf-8, which a library needs" in text) == (1, True), text
    elsewhere = tmp_path / f"run{ODD}"
    status, text = printed(monkeypatch, "ascii", [*lines[1][:5], "--out", elsewhere, *small])
    assert (status, "a name that is not UTF-8, which TensorBoard needs" in text) == (2, True), text
    assert not elsewhere.exists()
    assert len(list((tmp_path / f"out{ODD}").iterdir())) == 4
    assert np.all([path.stat().st_size for path in tmp_path.iterdir()])


def test_a_library_that_takes_no_such_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boxconv.cli._run", lambda argv: len(argv[0].encode()))
    status, text = printed(monkeypatch, "ascii", [ODD])
    assert (status, "which a library needs: rename it" in text) == (1, True), text
