"""`boxconv analyze` and `boxconv draw`, as a user types them."""

import json
from pathlib import Path

import data_trees
import pytest
from command import boxconv
from PIL import Image

from boxconv.cli import main
from boxconv.data.scenes.dataset import draw_scene

SCENES = ["--size", "16", "32", "--batch-size", "2", "--quiet", "--scenes-per-epoch", "2"]
SCENES += ["--scenes-for-validation", "2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for network, epochs in (("boxenet", "2"), ("enet_minus", "1")):
        assert main(["train", "--network", network, "--epochs", epochs, "--out", str(folder / network), *SCENES]) == 0
    return folder


def test_analyze_writes_one_page_and_all_numbers(runs, tmp_path, capsys):
    out = tmp_path / "analysis"
    arguments = ["--against", runs / "enet_minus", "--images", 2, "--positions", 1, "--quiet", "--out", out]
    status, printed, _ = boxconv(capsys, "analyze", runs / "boxenet", *arguments)
    assert (status, printed) == (0, f"report: {out / 'report.html'}\n")
    assert {path.name for path in out.iterdir()} == {
        "report.html", "numbers.json", "boxes.csv", "layers.csv", "receptive_fields.csv",
        "boxes.png", "area_importance.png", "evolution.png", "evolution.gif", "symmetry.png", "receptive_field.png",
    }  # fmt: skip
    numbers = json.loads((out / "numbers.json").read_text())
    fields = [(row["network"], row["module"], row["channels"]) for row in numbers["receptive_fields"]]
    assert fields == [
        ("boxenet", "", 11),
        ("enet_minus", "", 11),
        ("boxenet", "stage1.1", 64),
        ("enet_minus", "stage1.1", 64),
    ]
    assert numbers["boxes"]["boxes"] == 1232
    assert numbers["boxes"]["mean_edge_drift"] > 0
    with Image.open(out / "evolution.gif") as film:
        assert film.n_frames == 3


def test_analyze_a_network_without_boxes(runs, tmp_path, capsys):
    arguments = ["--images", 1, "--positions", 4, "--quiet", "--out", tmp_path / "analysis"]
    status, _, errors = boxconv(capsys, "analyze", runs / "enet_minus" / "last.pt", *arguments)
    assert status == 0, errors
    assert {path.name for path in (tmp_path / "analysis").iterdir()} == {
        "report.html", "numbers.json", "receptive_fields.csv", "receptive_field.png",
    }  # fmt: skip


def test_the_report_lies_in_the_run_and_does_not_hinder_it(runs, capsys):
    status, printed, _ = boxconv(capsys, "analyze", runs / "boxenet", "--positions", 0, "--quiet")
    assert (status, printed) == (0, f"report: {runs / 'boxenet' / 'analysis' / 'report.html'}\n")
    status, _, _ = boxconv(capsys, "train", "--resume", "--out", runs / "boxenet", "--quiet")
    assert status == 0


def test_a_report_goes_with_the_run_it_is_about(tmp_path, capsys):
    options = ["--network", "boxenet", "--epochs", "1", "--out", tmp_path / "run", *SCENES]
    assert boxconv(capsys, "train", *options)[0] == 0
    assert boxconv(capsys, "analyze", tmp_path / "run", "--positions", 0, "--quiet")[0] == 0
    assert (tmp_path / "run" / "analysis" / "report.html").exists()
    assert boxconv(capsys, "train", *options, "--overwrite")[0] == 0
    assert not (tmp_path / "run" / "analysis").exists()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "report.html").write_text("")
    (tmp_path / "run" / "analysis").symlink_to(tmp_path / "elsewhere")
    assert boxconv(capsys, "train", *options, "--overwrite")[0] == 0
    assert (tmp_path / "elsewhere" / "report.html").exists()
    assert not (tmp_path / "run" / "analysis").exists()


def test_analyze_the_network_that_comes_trained(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data_trees.camvid_segnet(tmp_path / "camvid")
    options = ["--positions", "0", "--quiet", "--root", "camvid"]
    status, printed, errors = boxconv(capsys, "analyze", "boxenet-camvid", *options)
    assert (status, printed) == (0, "report: boxenet-camvid-analysis/report.html\n"), errors
    numbers = json.loads(Path("boxenet-camvid-analysis/numbers.json").read_text())
    assert numbers["boxes"]["boxes"] == 1232
    assert "mean_edge_drift" not in numbers["boxes"], "its training is not recorded"


def test_train_and_analyze_symmetric_boxes(tmp_path, capsys):
    options = ["--network", "boxenet", "--epochs", "1", "--symmetric", "--out", tmp_path / "run", *SCENES]
    status, _, _ = boxconv(capsys, "train", *options)
    assert status == 0
    status, _, _ = boxconv(capsys, "analyze", tmp_path / "run", "--positions", 0, "--quiet")
    assert status == 0
    numbers = json.loads((tmp_path / "run/analysis/numbers.json").read_text())
    assert numbers["network"] == "boxenet (symmetric)"
    assert numbers["boxes"]["horizontally_symmetric"] == 1
    assert numbers["boxes"]["vertically_symmetric"] < 1


@pytest.mark.parametrize("name", ["boxes.png", "boxes.svg"])
def test_draw(runs, tmp_path, capsys, name):
    image = tmp_path / "scene.png"
    Image.fromarray(draw_scene(1, 20, 40)[0]).save(image)
    best = runs / "boxenet" / "best.pt"
    status, printed, _ = boxconv(capsys, "draw", best, "--out", tmp_path / name, "--image", image, "--most", 5)
    assert (status, printed) == (0, f"5 of 64 boxes of stage1.1.box drawn in {tmp_path / name}\n")
    plain = (tmp_path / name).read_bytes()
    arguments = ["--image", image, "--features", "--layer", "stage4.0.box", "--at", 2, 3, "--overwrite"]
    status, printed, _ = boxconv(capsys, "draw", best, "--out", tmp_path / name, *arguments)
    assert status == 0
    assert "stage4.0.box: read by a 2x2 convolution (head): largest tap taken" in printed
    assert (tmp_path / name).read_bytes() != plain


@pytest.mark.parametrize(
    "line, status, message",
    [
        ("draw boxenet/best.pt --out b.jpg", 2, "--out: expected a name that ends in .png or .svg, got b.jpg"),
        ("draw boxenet/best.pt --out b.png --layer x", 2, "--layer: expected one of stage1.1.box, stage1"),
        ("draw boxenet/best.pt --out b.png --most 0", 2, "--most: expected at least 1, got 0"),
        ("draw boxenet/best.pt --out b.png --features", 2, "--features: needs an --image"),
        ("draw enet_minus/best.pt --out b.png", 2, "enet_minus has no box layers"),
        ("draw none.pt --out b.png", 1, "none.pt: no such file"),
        ("analyze boxenet --images 0", 2, "--images: expected at least 1, got 0"),
        ("analyze boxenet --positions -1", 2, "--positions: expected at least 0, got -1"),
        ("analyze boxenet --out new --levels x", 2, "--levels: boxenet has no module named 'x'"),
        ("analyze . --quiet", 2, "no run, there is neither best.pt nor last.pt in it"),
        ("analyze boxenet --out new --against nowhere", 1, "nowhere: no such file"),
    ],
)
def test_one_clear_message(runs, monkeypatch, capsys, line, status, message):
    monkeypatch.chdir(runs)
    before = sorted(runs.rglob("*"))
    found, _, err = boxconv(capsys, *line.split())
    assert (found, err.count("boxconv: error:")) == (status, 1)
    assert message in err
    assert sorted(runs.rglob("*")) == before


def test_a_damaged_history_is_named(runs, tmp_path, capsys):
    for name in ("best.pt", "boxes.jsonl"):
        (tmp_path / name).write_bytes((runs / "boxenet" / name).read_bytes())
    (tmp_path / "boxes.jsonl").write_text("{}\n{}\n")
    status, _, err = boxconv(capsys, "analyze", tmp_path, "--positions", 0, "--quiet")
    assert status == 1
    assert "boxes.jsonl, line 1: not a line of a box history" in err
