"""Progress: bars on a terminal; elsewhere, one line per epoch."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from boxconv.progress_bar import progress_bar

EPOCHS = 3


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "stream, shown, drawn", [(Terminal(), True, True), (Terminal(), False, False), (io.StringIO(), True, False)]
)
def test_a_bar_is_drawn_on_a_terminal_only(
    stream: io.StringIO, shown: bool, drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress_bar(range(3), shown=shown, desc="counting")) == [0, 1, 2]
    assert ("counting" in stream.getvalue()) is drawn


def test_a_log_gets_one_line_an_epoch(tmp_path: Path) -> None:
    settings = "--size 16 32 --scenes-per-epoch 8 --scenes-for-validation 4 --batch-size 2 --network boxonlyenet"
    command = [sys.executable, "-m", "boxconv", "train", "--out", "run", "--epochs", str(EPOCHS), *settings.split()]
    log = tmp_path / "log"
    with log.open("w") as file:
        subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, cwd=tmp_path, check=True)
    lines = log.read_text().splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == EPOCHS
    assert all("train class IoU" in line and "val class IoU" in line for line in epochs)
    assert len(lines) < len(epochs) + 5, lines
    assert "\r" not in log.read_text()
