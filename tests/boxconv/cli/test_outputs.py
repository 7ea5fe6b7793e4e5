"""No command replaces a file without --overwrite, and none replaces a file that it reads."""

import dataclasses
import os

import numpy as np
import pytest
from data_trees import fingerprint
from PIL import Image

from boxconv.cli import main
from boxconv.cli.commands import COMMANDS
from boxconv.cli.outputs import check_output_folder, check_outputs
from boxconv.data.data_folder import data_folder_of
from boxconv.errors import UsageError

# A command line, and the option whose file it names.
OUTPUTS = [
    ("draw boxenet-camvid --out there.png", "--out"),
    ("evaluate boxenet-camvid --root data --json there.png", "--json"),
    ("evaluate boxenet-camvid --root data --picture there.png", "--picture"),
    ("check-data data --json there.png", "--json"),
    ("check-data data --write-classes there.png", "--write-classes"),
    ("compare runs --plot there.png", "--plot"),
    ("distance runs --plot there.png", "--plot"),
    ("distance runs --csv there.png", "--csv"),
    ("export boxenet-camvid --out there.safetensors", "--out"),
    ("analyze boxenet-camvid --root data --out folder", "--out"),
    ("predict photo.png --out folder", "photo.png"),
    ("predict photo.png --out new --areas there.csv", "--areas"),
    ("predict photo.png --out new --contact-sheet there.html", "--contact-sheet"),
    ("train --out run --quiet", "run"),
]
# Command lines that would replace what they read.
INPUTS = [
    "draw boxenet-camvid --image photo.png --out photo.png",
    "draw boxenet-camvid --image photo.png --out link.png",
    "draw boxenet-camvid --image link.png --out photo.png",
    "export there.safetensors --out there.safetensors",
    "evaluate there.safetensors --root data --json there.safetensors",
    "check-data data --classes classes.csv --json classes.csv",
    "compare runs --kept runs.png --plot runs.png",
    "distance runs --kept classes.csv --csv classes.csv",
    "distance runs --csv same.png --plot same.png",
]
TRAIN = (
    "train --out trained --network enet_minus --size 16 32 --epochs 1 --scenes-per-epoch 2 --scenes-for-validation 2"
    " --quiet"
)
# Command lines whose output would be in a data folder, and the option that says so.
IN_DATA = [
    ("predict photo.png --out set/labels", "--out"),
    ("predict photo.png --out set/labels/val", "--out"),
    ("predict photo.png --out set", "--out"),
    ("predict set --out set", "--out"),
    ("predict photo.png --out link/val", "--out"),
    ("predict mirror --out .", "--out"),
    ("predict photo.png --out new --areas set/classes.csv", "--areas"),
    ("predict photo.png --out new --contact-sheet set/labels/a.html", "--contact-sheet"),
    ("evaluate boxenet-camvid --root set --json set/labels/val/a.json", "--json"),
    ("evaluate boxenet-camvid --root data --picture set/labels/val/a.png", "--picture"),
    ("evaluate boxenet-camvid --root data --json data/a.json", "--json"),
    ("check-data set --json set/labels/val/a.json", "--json"),
    ("check-data data --write-classes set/classes.csv", "--write-classes"),
    ("analyze boxenet-camvid --root set --out set/analysis", "--out"),
    ("draw boxenet-camvid --out set/labels/val/a.png", "--out"),
    ("distance runs --plot set/labels/val/a.png", "--plot"),
    ("distance runs --csv set/classes.csv", "--csv"),
    ("distance runs --kept set/labels/val/a.json", "--kept"),
    ("compare runs --plot set/labels/val/a.png", "--plot"),
    ("compare runs --write set/labels/notes.md", "--write"),
    ("bench --write set/labels/notes.md", "--write"),
    ("export boxenet-camvid --out set/labels/net.safetensors", "--out"),
    ("train --out set/labels/run", "--out"),
    ("train --data camvid --root data --cache set/labels/cache", "--cache"),
    ("finetune trained --out set/labels/run", "--out"),
    ("import-sunrgbd data --out set/labels/sunrgbd", "--out"),
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "run").mkdir()
    Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save("photo.png")
    os.link("photo.png", "link.png")
    there = "there.png there.csv there.html there.safetensors classes.csv runs.png folder/photo.png folder/report.html"
    for name in there.split():
        (tmp_path / name).write_text("kept")
    (tmp_path / "run" / "metrics.jsonl").write_text("kept")
    return tmp_path


@pytest.mark.parametrize("line, named", OUTPUTS)
def test_what_is_there_is_kept(here, capsys, line, named):
    before = fingerprint(here)
    assert main(line.split()) in (1, 2)
    error = capsys.readouterr().err
    assert named in error
    assert "already" in error
    assert "--overwrite" in error
    assert fingerprint(here) == before


@pytest.mark.parametrize("line", INPUTS)
@pytest.mark.parametrize("more", [[], ["--overwrite"]], ids=["", "overwrite"])
def test_what_is_read_is_kept_whatever_is_asked(here, capsys, line, more):
    before = fingerprint(here)
    assert main([*line.split(), *more]) == 2
    error = capsys.readouterr().err
    assert "would be replaced; choose another name" in error or "is also the output of" in error
    assert fingerprint(here) == before


@pytest.fixture
def data_set(here):
    """A folder with images/ and labels/, a link to its labels, and a folder that `predict` would mirror into it."""
    for name in ("set/images/val", "set/labels/val", "mirror/set/labels/val"):
        (here / name).mkdir(parents=True)
    for name in ("set/images/val/a.png", "mirror/set/labels/val/a.png"):
        Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(name)
    for name in ("set/labels/val/a.png", "set/labels/val/a.json", "set/classes.csv", "set/notes.md"):
        (here / name).write_text("kept")
    (here / "link").symlink_to(here / "set" / "labels")
    return here / "set"


@pytest.mark.parametrize("line, option", IN_DATA, ids=[line for line, _ in IN_DATA])
def test_nothing_is_written_into_a_data_folder(here, data_set, capsys, line, option):
    if "trained" in line:
        assert main(TRAIN.split()) == 0
    overwrite = line.split()[0] not in ("bench", "import-sunrgbd")
    before = fingerprint(here)
    assert main([*line.split(), *(["--overwrite"] if overwrite else [])]) == 2
    error = capsys.readouterr().err
    assert f"boxconv: error: {option}: " in error
    assert "which is never written to: give another place" in error
    assert fingerprint(here) == before


def test_what_a_data_folder_is(tmp_path):
    def folder_of(path):
        found = data_folder_of(tmp_path / path)
        return found and found.relative_to(tmp_path).as_posix()

    for name in ("own/images", "own/labels", "shapes/images", "city/gtFine", "camvid/trainannot", "photos/images"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "shapes" / "classes.csv").touch()
    assert folder_of("own") == folder_of("own/labels/new/a.png") == folder_of("own/classes.csv") == "own"
    assert folder_of("own/runs/a") is folder_of("own/labels.png") is None, "a project may have data beside its results"
    assert folder_of("shapes/images/a.png") == "shapes"
    assert folder_of("city/gtFine/a.png") == folder_of("city") == "city"
    assert folder_of("camvid/trainannot/a.png") == "camvid"
    assert folder_of("photos/images/a.png") is None
    assert folder_of("a.png") is None
    assert folder_of("city/runs/a") is None


def test_every_command_with_an_output_is_in_the_tables():
    """Every command with an option for an output has --overwrite, except import-sunrgbd, which replaces nothing."""
    writing = {"out", "json", "picture", "plot"}
    settings = {name: {field.name for field in dataclasses.fields(kind)} for name, (kind, _) in COMMANDS.items()}
    found = {name for name, fields in settings.items() if writing & fields}
    offering = {name for name, fields in settings.items() if "overwrite" in fields}
    assert found - {"import-sunrgbd"} == offering
    assert {line.split()[0] for line, _ in OUTPUTS} | {"submit", "finetune"} == offering  # their tests are elsewhere
    assert {line.split()[0] for line, _ in IN_DATA} | {"submit"} == offering | {"import-sunrgbd", "bench"}


def test_asked_to_replace(here, capsys):
    line = ["draw", "boxenet-camvid", "--image", "photo.png", "--out", "there.png"]
    assert main([*line, "--overwrite"]) == 0
    assert Image.open("there.png").size[0] > 100
    assert Image.open("photo.png").size == (48, 32)


def test_folders(here):
    check_output_folder("--out", here / "new", overwrite=False)
    check_output_folder("--out", here / "data", overwrite=False)
    check_output_folder("--out", here / "folder", overwrite=True)
    with pytest.raises(UsageError, match=r"--out: .*folder holds files already"):
        check_output_folder("--out", here / "folder", overwrite=False)
    with pytest.raises(UsageError, match=r"--out: .*photo\.png is a file; expected a folder"):
        check_output_folder("--out", here / "photo.png", overwrite=True)
    with pytest.raises(UsageError, match=r"--json: .*folder is a folder; expected the name of a file"):
        check_outputs({"--json": here / "folder"}, overwrite=True)
