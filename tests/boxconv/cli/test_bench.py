"""`boxconv bench` on small images: what it prints and writes. No test depends on a measured time."""

import re
import statistics

import pytest

from boxconv.cli import main
from boxconv.cli.bench import NAME
from boxconv.profiling import network_speed
from boxconv.profiling.timing import Timing
from boxconv.reports.tables import replaced_section

BEGIN, END = f"<!-- {NAME}: begin -->", f"<!-- {NAME}: end -->"

SMALL = ["--size", "32", "48", "--rounds", "2", "--threads", "1", "--device", "cpu"]


def test_networks_into_a_file(tmp_path, capsys):
    path = tmp_path / "results.md"
    path.write_text("# Results\n\nBefore.\n")
    command = ["bench", "enet", "boxenet", *SMALL, "--no-blocks", "--no-train", "--write", str(path)]
    assert main(command) == 0
    assert re.search(r"^boxenet +\d", capsys.readouterr().out, re.MULTILINE)
    text = path.read_text()
    assert text.startswith(f"# Results\n\nBefore.\n\n{BEGIN}\n## Speed of the networks\n")
    assert text.endswith(f"{END}\n")
    row = re.search(r"^\| boxenet \|.*$", text, re.MULTILINE).group().split("|")
    assert row[-3].strip() == "478"
    assert row[-2].strip() == "0.857"
    assert main(command) == 0
    assert path.read_text().count("## Speed of the networks") == 1


def test_blocks_and_training(capsys, monkeypatch):
    monkeypatch.setattr(network_speed, "BLOCK_SHAPE", (1, 16, 8, 12))
    monkeypatch.setattr(network_speed, "TRAINING_SHAPE", (2, 3, 16, 24))
    assert main(["bench", "enet", "boxerfnet", *SMALL[:2], "16", *SMALL[3:]]) == 0
    out = capsys.readouterr().out
    assert all(title in out for title in ("NETWORKS, CPU", "BLOCKS, CPU", "TRAINING STEP, CPU"))
    assert "ERFNet: box block" in out
    steps = {line.split()[0]: line.split() for line in out.partition("TRAINING STEP")[2].splitlines() if "..." in line}
    assert set(steps) == {"enet", "boxerfnet"}
    assert steps["enet"][5] == "1.000"
    assert "1.000" not in steps["boxerfnet"]  # its base, ERFNet, was not timed


def test_a_ratio_is_that_of_one_turn():
    """A machine that is half as fast from some turn on changes both medians, but not in the same way."""

    def timing(*times):
        return Timing(statistics.median(times), min(times), max(times), times)

    base = timing(10.0, 10.0, 20.0, 20.0, 20.0)
    slower = timing(15.0, 15.0, 15.0, 30.0, 30.0)
    assert slower.over(base) == 1.5
    assert slower.median / base.median == 0.75
    assert timing(30.0).over(base) == 1.5  # not called equally often


def test_only_the_marked_section_is_replaced(tmp_path):
    path = tmp_path / "results.md"
    path.write_text(f"a\n{BEGIN}\nold\n{END}\nb\n")
    assert replaced_section(path, NAME, "new\n") == f"a\n{BEGIN}\nnew\n{END}\nb\n"


@pytest.mark.parametrize("text", [BEGIN, END, f"{END} {BEGIN}", f"{BEGIN} {END} {BEGIN}"])
def test_half_a_section_is_refused(tmp_path, capsys, text):
    path = tmp_path / "results.md"
    path.write_text(text)
    assert main(["bench", *SMALL, "--write", str(path)]) == 2
    assert "must hold" in capsys.readouterr().err
    assert path.read_text() == text
