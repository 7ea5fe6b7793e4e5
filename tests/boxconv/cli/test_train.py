"""`boxconv train`: continuing a run, stopping it early, and watching it."""

import json

import pytest
from command import boxconv
from data_trees import fingerprint, folder
from small_runs import records

SCENES = [
    *("--size", "16", "32", "--batch-size", "2", "--scenes-per-epoch", "4", "--scenes-for-validation", "2"),
    *("--network", "enet_minus", "--lr", "0.004", "--no-flip"),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of one epoch, with settings that are not the defaults."""
    from boxconv.cli import main

    path = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "--out", str(path), *SCENES, "--epochs", "1", "--quiet"]) == 0
    return path


def test_more_epochs_and_a_page_for_a_run_that_is_there(finished, capsys):
    status, out, _ = boxconv(capsys, "train", "--out", finished, "--resume")
    assert (status, "epoch 1 of 1 is done; --resume with more --epochs continues the run" in out) == (0, True)
    page = finished / "progress" / "report.html"
    assert not page.exists()
    status, _, errors = boxconv(capsys, "train", "--out", finished, "--resume", "--report-every", "1", "--quiet")
    assert (status, errors, "enet_minus on drawn scenes" in page.read_text()) == (0, "", True)
    page.unlink()
    status, out, errors = boxconv(
        capsys, "train", "--out", finished, "--resume", "--epochs", "2", "--report-every", "1", "--quiet"
    )
    assert (status, errors) == (0, "")
    assert [record["epoch"] for record in records(finished)] == [1, 2]
    content = json.loads((finished / "config.json").read_text())
    assert (content["extended"], content["config"]["epochs"]) == (["1 of 1"], 2)
    assert (content["config"]["lr"], content["config"]["flip"]) == (0.004, False)
    assert "enet_minus on drawn scenes" in page.read_text()


def test_a_learning_rate_to_begin_with_is_printed_and_nothing_is_written(tmp_path, capsys):
    out = tmp_path / "run"
    status, printed, errors = boxconv(capsys, "train", "--out", out, *SCENES, "--find-lr")
    assert (status, errors) == (0, "")
    assert "learning rate  loss\n        1e-06  " in printed
    assert not out.exists()
    status, printed, errors = boxconv(capsys, "train", "--out", out, *SCENES, "--find-lr", "--resume")
    assert (status, "--find-lr: is for a new run" in printed + errors) == (2, True)


@pytest.mark.parametrize(
    "options, message",
    [
        # Also a value that is the default: whoever names it, means it.
        (["--lr", "0.002"], "--lr: --resume goes on with the run's 0.004, got 0.002"),
        (["--flip"], "--flip: --resume goes on with the run's False, got True"),
        (["--network", "boxenet"], "--network: --resume goes on with the run's 'enet_minus', got 'boxenet'"),
        (["--epochs", "0"], "--epochs: --resume may add epochs to the run's"),
        (["--patience", "0"], "--patience: expected at least 1, got 0"),
    ],
)
def test_settings_that_a_resumed_run_refuses(finished, capsys, options, message):
    before = fingerprint(finished)
    status, out, errors = boxconv(capsys, "train", "--out", finished, "--resume", "--quiet", *options)
    assert (status, message in out + errors) == (2, True), out + errors
    assert fingerprint(finished) == before


def test_a_resumed_run_says_that_its_classes_have_changed(tmp_path, capsys):
    root, line = folder(tmp_path / "data"), ["train", "--out", tmp_path / "run"]
    small = ("--size", "16", "32", "--epochs", "1", "--batch-size", "4", "--network", "enet_minus", "--quiet")
    assert boxconv(capsys, *line, "--data", "folder", "--root", root, *small)[0] == 0
    table = (root / "classes.csv").read_text()
    (root / "classes.csv").write_text(table.replace("road", "street").replace("flat", "even"))
    status, out, _ = boxconv(capsys, *line, "--resume")
    said = "note: the class table has changed since the run was saved: road is now street"
    assert (status, out.count(said)) == (0, 1), out
    (root / "classes.csv").write_text(table.replace("\n1,", "\n7,"))
    status, _, errors = boxconv(capsys, *line, "--resume", "--quiet")
    said = "--resume: the run's classes have the labels 0, 1, 2; now the class table has 0, 7, 2"
    assert (status, said in errors) == (2, True), errors


def test_a_page_goes_with_the_run_it_is_about(tmp_path, capsys):
    options = ["train", "--out", tmp_path / "run", *SCENES, "--epochs", "1", "--quiet"]
    assert boxconv(capsys, *options, "--report-every", "1")[0] == 0
    assert (tmp_path / "run" / "progress" / "report.html").exists()
    assert boxconv(capsys, *options, "--overwrite")[0] == 0
    assert not (tmp_path / "run" / "progress").exists()


def test_an_early_end_is_said(tmp_path, capsys):
    options = [*SCENES, "--epochs", "9", "--lr", "1e-12", "--patience", "1", "--val-every", "1"]
    status, out, _ = boxconv(capsys, "train", "--out", tmp_path / "run", *options)
    found = records(tmp_path / "run")
    assert (status, len(found) < 9, found[-1]["stopped_early"]) == (0, True, True)
    words = f"stopped early, after epoch {len(found)}: no better validation class IoU in 1 epoch;"
    assert words in out
    status, out, _ = boxconv(capsys, "train", "--out", tmp_path / "run", "--resume")
    assert (status, words in out) == (0, True)
    assert records(tmp_path / "run") == found
