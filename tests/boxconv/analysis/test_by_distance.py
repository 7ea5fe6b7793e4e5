"""Accuracy by distance: guessing gives 50 %, and pixels are counted in the right range and for the right side."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import printed
from PIL import Image

from boxconv.analysis.by_distance import RANGES, Measured, answers_of, balanced_accuracy, count_right
from boxconv.analysis.distance_picture import draw_by_distance
from boxconv.cli import main
from boxconv.data.scenes.evidence import QUESTIONS
from boxconv.errors import UsageError

SIDE = np.array([[0, 0, 1, -1]], np.int8)
DISTANCE = np.array([[0.0, 0.13, 2.0, 0.0]], np.float32)


def test_pixels_are_counted_by_range_and_side() -> None:
    scores = torch.tensor([[[5.0, 0, 0, 0]], [[0, 1, 1, 9]], [[0, 0, 0.5, 0]]])  # (3 classes, 1, 4 pixels)
    counts = count_right(scores, ([0], [1]), SIDE, DISTANCE)
    expected = np.zeros_like(counts)
    expected[0, 0] = [1, 1]  # the first pixel: right
    expected[int(0.13 * RANGES / 4), 0] += [1, 0]  # the second is called the other side
    expected[int(2.0 * RANGES / 4), 1] = [1, 1]
    assert (counts == expected).all()
    several = count_right(scores, ([0, 2], [1]), SIDE, DISTANCE)
    assert several[..., 1].sum() == 2, "the largest score of a side counts"


def test_evidence_that_is_nowhere_is_not_counted() -> None:
    assert count_right(torch.rand(2, 1, 4), ([0], [1]), SIDE, np.full((1, 4), np.inf, np.float32)).sum() == 0


def test_a_constant_answer_is_at_chance_whatever_the_shares() -> None:
    scores = torch.zeros(2, 1, 4)
    scores[0] = 1
    counts = count_right(scores, ([0], [1]), SIDE, np.zeros((1, 4), np.float32))
    assert balanced_accuracy(counts[0]) == 0.5
    assert np.isnan(balanced_accuracy(counts[1])), "nobody asked"


def test_scenes_that_do_not_show_both_sides_are_too_few() -> None:
    scenes = np.zeros((3, 2 * RANGES, 2, 2), np.int64)
    scenes[:, 3, 0] = [1000, 900]
    with pytest.raises(UsageError, match="--scenes: 3 are too few"):
        answers_of(scenes)


def test_intervals_are_over_scenes_and_rare_ranges_left_out() -> None:
    scenes = np.zeros((50, 2 * RANGES, 2, 2), np.int64)
    scenes[:, 3] = [[1000, 900], [1000, 700]]  # every scene alike: certain
    scenes[:25, 4] = [[1000, 1000], [1000, 1000]]  # right in one half of the scenes, wrong in the other
    scenes[25:, 4] = [[1000, 0], [1000, 0]]
    scenes[:, 5] = [[1, 1], [1, 1]]
    answers = answers_of(scenes)
    assert answers.start == [3 / RANGES, 4 / RANGES]
    assert answers.accuracy == [0.8, 0.5]
    assert (answers.low[0], answers.high[0]) == (0.8, 0.8)
    deviation = 0.5 / 50**0.5  # of the mean over 50 scenes
    assert answers.low[1] == pytest.approx(0.5 - 1.96 * deviation, abs=0.03)
    assert answers.high[1] == pytest.approx(0.5 + 1.96 * deviation, abs=0.03)
    assert answers.pixels[0] == [50_000, 50_000]
    assert answers == answers_of(scenes), "the same every time"


def train(out: Path, network: str, seed: int) -> Path:
    options = ["--size", "32", "64", "--epochs", "1", "--scenes-per-epoch", "2", "--scenes-for-validation", "3"]
    arguments = ["train", "--network", network, "--seed", str(seed), "--out", str(out), "--batch-size", "2", "--quiet"]
    assert main([*arguments, *options]) == 0
    return out


def test_runs_are_measured_kept_and_drawn_without_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [train(tmp_path / f"e{seed}", "enet_minus", seed) for seed in (0, 1)]
    runs.append(train(tmp_path / "b0", "boxenet", 0))
    capsys.readouterr()
    kept, picture, table = tmp_path / "kept.json", tmp_path / "lines.png", tmp_path / "lines.csv"
    status, first = printed(capsys, "distance", *runs, "--kept", kept, "--quiet")
    assert status == 0, first
    assert "ROAD OR ONCOMING LANE, BY DISTANCE" in first
    measured = json.loads(kept.read_text())
    assert [(run["network"], run["seed"], run["scenes"]) for run in measured] == [
        ("enet_minus", 0, 3), ("enet_minus", 1, 3), ("boxenet", 0, 3),
    ]  # fmt: skip
    assert set(measured[0]["answers"]) == {question.name for question in QUESTIONS}

    for run in runs:
        (run / "last.pt").unlink()
    page = tmp_path / "page.md"
    page.write_text("# Page\n")
    again = ["--kept", kept, "--plot", picture, "--csv", table, "--write", page]
    status, shown = printed(capsys, "distance", *again)
    assert (status, shown) == (0, first + f"written to {page}\n")
    assert "<!-- boxconv distance: begin -->" in page.read_text()
    assert Image.open(picture).width > 800
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["network"], row["seed"]) for row in rows} == {
        ("enet_minus", "0"),
        ("enet_minus", "1"),
        ("boxenet", "0"),
    }
    assert all(0 <= float(row["low"]) <= float(row["high"]) <= 1 for row in rows)
    status, shown = printed(capsys, "distance", "--kept", kept, "--networks", "boxenet")
    assert status == 0
    assert "enet_minus" not in shown

    recipe = tmp_path / "mine.json"
    content = json.loads((runs[0] / "config.json").read_text())["config"]
    for epochs, found in ((1, True), (2, False)):
        recipe.write_text(json.dumps(content | {"epochs": epochs}))
        status, shown = printed(capsys, "distance", "--kept", kept, "--networks", recipe)
        assert ("enet_minus" in shown, "boxenet" in shown) == (found, False), "runs with the settings of the recipe"
        assert status == (0 if found else 2)


def test_another_file_than_that_of_kept_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept.json").write_text("[{}]")
    status, text = printed(capsys, "distance", "--kept", tmp_path / "kept.json")
    assert (status, "holds nothing that was measured" in text) == (1, True)


def measured(seed: int, *ranges: list[list[int]]) -> Measured:
    """A run with these pixels, asked about and right, of each side in each range of distances."""
    scenes = np.zeros((4, 2 * RANGES, 2, 2), np.int64)
    scenes[:, : len(ranges)] = ranges
    return Measured("enet", seed, {}, 4, {"a or b": answers_of(scenes)}, "here")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """The values of every line that is plotted."""
    from matplotlib.axes import Axes

    lines: list[list[float]] = []
    plot = Axes.plot

    def noted(axes: Axes, at: list[float], values: list[float], **style: object) -> list[object]:
        lines.append(list(values))
        return plot(axes, at, values, **style)

    monkeypatch.setattr(Axes, "plot", noted)
    return lines


def test_each_seed_has_a_line(drawn: list[list[float]], tmp_path: Path) -> None:
    runs = [measured(seed, *[[[100, right], [100, right]]] * 3) for seed, right in ((0, 50), (1, 98))]
    draw_by_distance({"enet": runs}, {"a or b": "sign"}, tmp_path / "two.svg", width=64)
    assert drawn == [[50.0] * 3, [98.0] * 3]
    assert "chance" in (tmp_path / "two.svg").read_text()


def test_a_distance_that_one_class_hardly_has_is_not_drawn(drawn: list[list[float]], tmp_path: Path) -> None:
    often, rarely = [[10_000, 9_000], [10_000, 7_000]], [[10_000, 0], [4, 4]]
    draw_by_distance({"enet": [measured(0, often, often, rarely)]}, {"a or b": "sign"}, tmp_path / "rare.svg", width=64)
    assert [len(values) for values in drawn] == [2]
