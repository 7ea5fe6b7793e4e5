"""The command line as a user types it: results, exit status, and messages that name the files."""

import json
import signal
import subprocess
import sys

import data_trees
import numpy as np
import pytest
from command import boxconv
from data_trees import fingerprint
from faults import runs
from PIL import Image

SMALL = ["--size", "16", "32", "--batch-size", "2", "--epochs", "1", "--quiet"]
SCENES = [*SMALL, "--scenes-per-epoch", "4", "--scenes-for-validation", "2", "--network", "enet_minus"]


def process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "boxconv", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def folder(tmp_path):
    """A data set in a folder, of drawn scenes: 4 for training, 2 for validation."""
    return data_trees.scenes(tmp_path / "data", {"train": range(4), "val": range(4, 6)}, (20, 40))


def test_the_whole_way_on_a_folder(folder, tmp_path):
    before = fingerprint(folder)
    run, out = tmp_path / "run", tmp_path / "out"
    trained = process("train", "--data", "folder", "--root", folder, "--out", run, "--network", "boxenet", *SMALL)
    assert (trained.returncode, trained.stderr) == (0, "")
    assert "best validation class IoU" in trained.stdout
    scored = process("evaluate", run / "best.pt", "--json", tmp_path / "scores.json", "--quiet")
    assert (scored.returncode, scored.stderr) == (0, "")
    assert "pixel accuracy" in scored.stdout
    scores = json.loads((tmp_path / "scores.json").read_text())
    record = json.loads((run / "metrics.jsonl").read_text())
    assert scores["scores"]["class_iou"] == record["val_class_iou"]
    full = process("evaluate", run / "best.pt", "--full-resolution", "--split", "train", "--quiet")
    assert "4 images, scored at the labels' own resolution" in full.stdout
    predicted = process("predict", run / "best.pt", folder / "images" / "val", "--out", out, "--quiet")
    assert (predicted.returncode, predicted.stderr) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == ["4.png", "4_colour.png", "5.png", "5_colour.png"]
    assert np.asarray(Image.open(out / "4.png")).shape == (20, 40)
    assert fingerprint(folder) == before


def test_interrupt_and_resume(tmp_path):
    run = tmp_path / "run"
    training = runs.start("train", "--out", run, *SCENES, "--epochs", "10000")
    runs.wait_for(lambda: runs.epochs(run) > 0, training)
    training.send_signal(signal.SIGINT)
    status, errors = runs.finish(training)
    assert (status, "Traceback" in errors) == (130, False)
    assert "the state is saved, go on with --resume" in errors
    assert (run / "last.pt").exists()
    again = process("train", "--out", run, "--resume", "--lr", "0.5", "--quiet")
    assert (again.returncode, "--lr: --resume goes on with the run's" in again.stderr) == (2, True)


def _truncate(root):
    path = root / "images/val/5.png"
    path.write_bytes(path.read_bytes()[:-200])


def _label_outside(root):
    Image.fromarray(np.full((20, 40), 77, np.uint8)).save(root / "labels/train/2.png")


def _other_size(root):
    Image.fromarray(np.zeros((21, 40), np.uint8)).save(root / "labels/train/1.png")


@pytest.mark.parametrize(
    "spoil, words",
    [
        (_truncate, ["images/val/5.png"]),
        (_label_outside, ["labels/train/2.png", "77"]),
        (_other_size, ["labels/train/1.png", "21", "20"]),
        (lambda root: (root / "labels/train/0.png").unlink(), ["images/train/0.png"]),
    ],
)
def test_faulty_data_is_reported_by_file_before_training(folder, tmp_path, capsys, spoil, words):
    spoil(folder)
    before = fingerprint(folder)
    run = tmp_path / "run"
    status, out, errors = boxconv(capsys, "train", "--data", "folder", "--root", folder, "--out", run, *SMALL)
    assert status == 1
    assert all(word in errors for word in words), errors
    assert not run.exists()
    status, out, _ = boxconv(capsys, "check-data", folder, "--quiet")
    assert status == 1
    assert all(word in out for word in words), out
    assert fingerprint(folder) == before


def test_check_data_writes_what_it_is_asked_for(folder, tmp_path, capsys):
    before = fingerprint(folder)
    report = tmp_path / "report.json"
    status, _, errors = boxconv(capsys, "check-data", folder, "--quiet", "--json", report, "--split", "val")
    assert (status, errors) == (0, "")
    content = json.loads(report.read_text())
    assert (content["data"], content["ok"], content["pairs"], content["faults"]) == ("folder", True, {"val": 2}, [])
    assert fingerprint(folder) == before
    _truncate(folder)
    assert boxconv(capsys, "check-data", folder, "--quiet", "--json", report, "--overwrite")[0] == 1
    (fault,) = json.loads(report.read_text())["faults"]
    assert (fault["kind"], fault["file"]) == ("damaged file", "images/val/5.png")


def test_cityscapes_from_the_archive_to_the_submission(tmp_path, capsys):
    root = data_trees.cityscapes(tmp_path / "data", size=(32, 64))
    before = fingerprint(root)
    status, out, errors = boxconv(capsys, "check-data", root, "--quiet")
    assert (status, "4 pairs in train (of 2975 published)" in out) == (0, True), out
    run, cache = tmp_path / "run", tmp_path / "cache"
    options = ["--recipe", "cityscapes-enet-minus", "--data-root", root, "--size", "16", "32", "--epochs", "1"]
    options += ["--workers", "0", "--batch-size", "2", "--cache", cache, "--out", run, "--quiet"]
    status, out, errors = boxconv(capsys, "train", *options)
    assert (status, errors) == (0, ""), errors
    assert len([path for path in cache.rglob("*") if path.is_file()]) == 6
    again = ["--recipe", "cityscapes-enet-minus", "--out", run, "--resume", "--quiet"]
    assert boxconv(capsys, "train", *again)[0] == 0
    status, out, errors = boxconv(capsys, "evaluate", run / "best.pt", "--full-resolution", "--quiet")
    assert (status, "2 images, scored at the labels' own resolution" in out) == (0, True), errors
    status, out, errors = boxconv(capsys, "submit", run / "best.pt", "--out", tmp_path / "out", "--quiet")
    assert (status, "2 images labelled" in out) == (0, True), errors
    assert np.asarray(Image.open(tmp_path / "out" / "berlin_000000_000019_pred_labelIds.png")).shape == (32, 64)
    assert boxconv(capsys, "submit", run / "best.pt", "--out", tmp_path / "out", "--quiet")[0] == 1
    assert fingerprint(root) == before


@pytest.mark.parametrize("place", ["in an import", "elsewhere"])
def test_ctrl_c_while_modules_load(tmp_path, place):
    """A library that loses KeyboardInterrupt, as large ones do while they are imported, does not lose ctrl-C."""
    interrupt = "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "library.py").write_text(interrupt + "except KeyboardInterrupt:\n    pass\n")
    run = "import library" if place == "in an import" else interrupt + "finally:\n    print('cleaned up')"
    code = f"from boxconv import cli\ncli._run = lambda argv: exec({run!r})\nraise SystemExit(cli.main([]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (130, "boxconv: stopped\n")
    assert done.stdout == ("" if place == "in an import" else "cleaned up\n")
