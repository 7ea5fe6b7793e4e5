"""The report on a run: pictures, numbers as files, and sentences that follow from them."""

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

from box_convolution import BoxConv2d
from boxconv.analysis.importance import importance
from boxconv.analysis.receptive_field import draw_positions, receptive_field
from boxconv.analysis.run_numbers import RunAnalysis, numbers_of, with_history, write_numbers
from boxconv.analysis.run_report import report_on

SIZE = (12, 16)


@pytest.fixture
def model():
    return nn.Sequential(nn.Conv2d(3, 4, 1), BoxConv2d(4, 4, *SIZE), nn.Conv2d(16, 3, 1), BoxConv2d(3, 1, *SIZE))


@pytest.fixture
def analysis(model):
    layers = importance(model, torch.rand(1, 3, *SIZE))
    field = receptive_field(model, torch.rand(2, 3, *SIZE), draw_positions(2, 2, SIZE))
    start = {layer.name: (layer.boxes + torch.tensor([-1.0, 1, -1, 1])).tolist() for layer in layers}
    lines = [
        {"epoch": 0, "boxes": start},
        {"epoch": 1, "boxes": {layer.name: layer.boxes.tolist() for layer in layers}},
        {"epoch": 2, "boxes": {"another network": [[0, 1, 0, 1]]}},
    ]
    fields = {"output": {"test": field}}
    return RunAnalysis("test", layers, fields=fields, **with_history(lines, layers))


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_numbers_as_files(analysis, tmp_path):
    written = write_numbers(analysis, tmp_path / "new")
    assert {path.name for path in written} == {"numbers.json", "layers.csv", "boxes.csv", "receptive_fields.csv"}
    numbers = json.loads((tmp_path / "new/numbers.json").read_text())
    assert numbers["boxes"]["boxes"] == 19
    assert numbers["boxes"]["mean_edge_drift"] == pytest.approx(1)
    assert numbers["layers"][1]["following"] is None
    assert numbers["layers"][1]["area_importance_rank_correlation"] is None
    (field,) = numbers["receptive_fields"]
    energy = [float(row["energy"]) for row in rows(tmp_path / "new/receptive_fields.csv")]
    assert len(energy) == max(SIZE)
    assert energy[field["radius_0.9"]] >= 0.9 > energy[field["radius_0.9"] - 1]
    boxes = rows(tmp_path / "new/boxes.csv")
    assert len(boxes) == 19
    edges = [[float(row[edge]) for edge in ("top", "bottom", "left", "right")] for row in boxes[:16]]
    np.testing.assert_allclose(edges, analysis.layers[0].boxes.numpy(), rtol=1e-4, atol=1e-4)
    assert boxes[-1]["importance"] == "nan"


def test_only_states_of_this_network_are_history(analysis):
    assert list(analysis.epochs) == [0, 1]
    assert analysis.history["1"].shape == (2, 16, 4)
    assert analysis.evolution().epochs == [0, 1]
    torch.testing.assert_close(analysis.initial["1"], analysis.layers[0].boxes + torch.tensor([-1, 1, -1, 1]))


def test_the_page_shows_everything_and_needs_no_other_file(analysis, tmp_path):
    page = report_on(analysis, tmp_path, {"data": "none"}).read_text()
    for heading in ("What a box is", "Are large boxes important?", "Are boxes symmetric?", "How far does the network"):
        assert heading in page
    assert page.count("<img") == 6
    assert page.count("data:image/png;base64,") == 5
    assert page.count("data:image/gif;base64,") == 1
    assert 'src="' not in page.replace('src="data:', "")
    assert "3: no convolution after it: its boxes have no importance." in page
    assert "an edge moved 1.0 pixels on average" in page
    share = numbers_of(analysis)["boxes"]["larger_than_3x3"]
    assert f"{100 * share:.0f} % are larger than a 3x3 kernel" in page
    assert not list(tmp_path.glob(".*"))


def test_a_run_without_history_or_receptive_fields(analysis, tmp_path):
    bare = RunAnalysis("bare", analysis.layers)
    page = report_on(bare, tmp_path, {}).read_text()
    assert "This run recorded no boxes while it trained" in page
    assert "How far does" not in page
    assert "Before training" not in page
    assert not (tmp_path / "receptive_fields.csv").exists()


def test_a_network_without_boxes(analysis, tmp_path):
    page = report_on(RunAnalysis("plain", [], fields=analysis.fields), tmp_path, {}).read_text()
    assert "<h1>How far plain sees</h1>" in page
    assert "What a box is" not in page
    assert json.loads((tmp_path / "numbers.json").read_text())["boxes"] is None
    assert not (tmp_path / "boxes.csv").exists()


def test_tiny_boxes_have_no_symmetry(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 2, 1), BoxConv2d(2, 2, *SIZE), nn.Conv2d(4, 1, 1))
    model[1].set_boxes(torch.tensor([-0.5, 0.5, -0.5, 0.5]).expand(2, 2, 4))
    page = report_on(RunAnalysis("tiny", importance(model, torch.rand(1, 3, *SIZE))), tmp_path, {}).read_text()
    assert "100 % of all boxes are single pixels" in page
    assert "such boxes" not in page
    assert not (tmp_path / "symmetry.png").exists()
