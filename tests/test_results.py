"""`benchmarks/results.py`: which runs it trains, which it takes as finished, and when it stops."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from boxconv import cli
from boxconv.training import recipes


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "results.py"
    spec = importlib.util.spec_from_file_location("results_script", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "results_script", module)
    spec.loader.exec_module(module)
    return module


def test_every_network_with_its_seeds(results: ModuleType) -> None:
    planned = results.experiments("scenes", False, Path("runs"))
    others = results.experiments("scenes", False, Path("runs"), results.WITHOUT_BOXES, 1)
    known = {path.stem for path in recipes.FOLDER.glob("scenes-*.json")}
    assert {each.recipe for each in (*planned, *others)} == known, "every recipe on drawn scenes"
    assert [(each.recipe, each.seed) for each in others] == [("scenes-enet-long", 0), ("scenes-enet-wide", 0)]
    assert [each.seed for each in planned] == sorted(each.seed for each in planned), "one seed of each first"
    count = {recipe: sum(each.recipe == recipe for each in planned) for recipe in ("scenes-enet", "scenes-erfnet")}
    assert count == {"scenes-enet": 3, "scenes-erfnet": 2}
    assert {each.network for each in results.experiments("scenes", True, Path("runs"))} == {"enet", "boxenet"}
    assert len({each.recipe for each in results.experiments("camvid", False, Path("runs"))}) == 9


def write_run(folder: Path, epochs: int, of: int, last: str = "{}") -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"config": {"epochs": of}}))
    (folder / "metrics.jsonl").write_text("{}\n" * (epochs - 1) + f"{last}\n")


def test_a_run_that_stopped_early_is_finished(results: ModuleType, tmp_path: Path) -> None:
    for name, last in (("stopped", '{"stopped_early": true}'), ("interrupted", "{}")):
        write_run(tmp_path / name, 2, 3, last)
    finished = [results.Experiment("scenes-enet", 0, tmp_path / name).finished() for name in ("stopped", "interrupted")]
    assert finished == [True, False]


def test_finished_runs_are_not_trained_again(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    write_run(runs / "scenes-enet-s0", 3, 3)
    write_run(runs / "scenes-boxenet-s0", 2, 3)
    (runs / "scenes-boxenet-s0" / "last.pt").write_bytes(b"")
    commands: list[tuple[str, ...]] = []

    def boxconv(*arguments: object) -> int:
        commands.append(tuple(map(str, arguments)))
        return 1

    monkeypatch.setattr(results, "boxconv", boxconv)
    monkeypatch.setattr(sys, "argv", ["results.py", "--quick", "--runs", str(runs), "--out", str(tmp_path / "out")])
    assert results.main() == 1
    assert commands == [("train", "--resume", "--out", str(runs / "scenes-boxenet-s0"), "--quiet")]
    assert "1 of 2 runs to train" in capsys.readouterr().out

    commands.clear()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--no-training"])
    results.main()
    assert [command[0] for command in commands] == ["compare", "distance", "distance"]
    assert all(str(runs / "scenes-boxenet-s0") not in command for command in commands), "it is not finished"


SIDE_BY_SIDE = """
import sys
from pathlib import Path
from side_by_side import Job, train_all
folder, minutes = Path(sys.argv[1]), float(sys.argv[2])
jobs = [Job(folder / "runs" / name, ("--recipe", f"scenes-{name}", *sys.argv[3:])) for name in ("enet", "boxenet")]
statuses = train_all(jobs, folder / "samples", 2, minutes)
print(sorted((path.name, status) for path, status in statuses.items()))
"""
TINY = [*("--size", "32", "64", "--epochs", "2", "--scenes-per-epoch", "6", "--scenes-for-validation", "2"),
        *("--batch-size", "3", "--device", "cpu", "--seed", "3")]  # fmt: skip


def side_by_side(folder: Path, minutes: float) -> str:
    return subprocess.run(
        [sys.executable, "-c", SIDE_BY_SIDE, str(folder), str(minutes), *TINY],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "benchmarks")},
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()[-1]  # fmt: skip


def test_runs_side_by_side_are_those_of_the_command(tmp_path: Path) -> None:
    """Samples that are made first, for several runs, are the same as those that a run draws itself."""
    assert side_by_side(tmp_path, 0) == "[]", "stopped before samples are made"
    assert side_by_side(tmp_path, 10) == "[('boxenet', 0), ('enet', 0)]"
    assert cli.main(["train", "--recipe", "scenes-boxenet", *TINY, "--out", str(tmp_path / "alone"), "--quiet"]) == 0
    records = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "alone", tmp_path / "runs" / "boxenet")
    ]
    values = [[{key: record[key] for key in record if "second" not in key} for record in run] for run in records]
    assert values[0] == values[1]
    assert len(values[0]) == 2
