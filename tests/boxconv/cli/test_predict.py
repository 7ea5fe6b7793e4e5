"""boxconv predict: what it writes for images and videos, and what it refuses."""

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import boxconv
from PIL import Image

from boxconv.cli.commands import parse
from boxconv.reports.kinds import ENDINGS


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with photographs, two of which have the same name, and a file that is not an image."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("one.png", "two.jpg", "deep/one.png", "deep/two.png", "deep/two.jpg")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (24, 36 + 8 * number, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path


def predict(capsys, line):
    return boxconv(capsys, "predict", *line.split(), "--quiet")


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_every_kind_and_both_tables(here, capsys):
    line = "boxonlyenet-camvid photos --out out --save maps colours overlay probabilities polygons"
    tables = "--areas t/areas.csv --contact-sheet t/sheet.html --min-area 4"
    status, out, errors = predict(capsys, f"{line} {tables}")
    assert (status, errors) == (0, "")
    assert "5 images labelled by boxonlyenet-camvid in out" in out
    stems = ("one", "two", "deep/one", "deep/two.jpg", "deep/two.png")
    assert names(here / "out") == sorted(f"{stem}{ending}" for stem in stems for ending in ENDINGS.values())
    with open("t/areas.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for stem, image in zip(stems, ("one.png", "two.jpg", "deep/one.png", "deep/two.jpg", "deep/two.png"), strict=True):
        labels = np.asarray(Image.open(f"out/{stem}.png"))
        pixels = [int(row["pixels"]) for row in rows if row["image"] == f"photos/{image}"]
        assert pixels == np.bincount(labels.ravel(), minlength=11).tolist()
        probabilities = np.load(f"out/{stem}_probabilities.npy")
        assert probabilities.shape == (11, *labels.shape)
        assert abs(probabilities.astype(np.float64).sum(0) - 1).max() <= 11 * 2**-12
        areas = [
            feature["properties"]["area"] for feature in json.loads(Path(f"out/{stem}.geojson").read_text())["features"]
        ]
        assert min(areas) >= 4
        assert sum(areas) <= labels.size
    assert (here / "t" / "sheet.html").read_text().count("<figure>") == 5


def test_other_kinds_are_added_beside_what_is_there(here, capsys):
    predict(capsys, "photos/one.png --out out")
    assert predict(capsys, "photos/one.png --out out --save polygons")[0] == 0
    assert names(here / "out") == ["one.geojson", "one.png", "one_colour.png"]
    before = (here / "out" / "one.geojson").read_bytes()
    status, _, errors = predict(capsys, "photos/one.png --out out --save polygons")
    assert (status, "1 of 1 outputs exists already, the first is out/one.geojson;" in errors) == (1, True)
    assert (here / "out" / "one.geojson").read_bytes() == before


def test_tables_of_a_resumed_run_have_all_images(here, capsys):
    assert predict(capsys, "photos --out whole --areas whole.csv --contact-sheet whole.html")[0] == 0
    assert predict(capsys, "photos/one.png photos/two.jpg --out parts")[0] == 0
    status, out, _ = predict(capsys, "photos --out parts --resume --areas parts.csv --contact-sheet parts.html")
    assert (status, "3 images labelled by boxenet-camvid in parts, 2 were there already" in out) == (0, True)
    assert (here / "parts.csv").read_bytes() == (here / "whole.csv").read_bytes()
    assert (here / "parts.html").read_text() == (here / "whole.html").read_text().replace("whole/", "parts/")


def test_an_unreadable_image_is_in_no_table(here, capsys):
    (here / "photos" / "broken.png").write_bytes(b"no image")
    status, _, errors = predict(capsys, "photos --out out")
    assert (status, "; --keep-going skips such files, --resume keeps what is" in errors) == (1, True)
    status, _, errors = predict(capsys, "photos --out out --keep-going --resume --areas a.csv")
    assert (status, "broken.png" in errors) == (1, True)
    assert len((here / "a.csv").read_text().splitlines()) == 1 + 5 * 11


@pytest.mark.parametrize(
    "line, message",
    [
        ("photos --min-area 0", "--min-area: expected at least 1 pixel, got 0"),
        ("photos --areas a.txt", "--areas: expected a file.csv, got a.txt"),
        ("photos --contact-sheet a.png", "--contact-sheet: expected a file.html, got a.png"),
        ("photos --save overlay --resume --areas a.csv", "--areas: with --resume it reads the maps of earlier images"),
        ("drive.mp4 --areas a.csv", "--areas: is for images, got the video drive.mp4"),
        ("drive.mp4 --save maps overlay", "--save: for videos expected colours and overlay, got maps"),
    ],
)
def test_refused_before_anything_is_written(here, capsys, line, message):
    pytest.importorskip("imageio_ffmpeg")
    before = names(here)
    status, _, errors = predict(capsys, line)
    assert (status, message in errors) == (2, True), errors
    assert names(here) == before


def test_tables_are_of_one_process(here, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, errors = predict(capsys, "photos --areas a.csv")
    assert (status, "--areas: is written by a single process: give it with --resume" in errors) == (2, True)


def test_images_too_large_for_probabilities(here, capsys, monkeypatch):
    monkeypatch.setattr("boxconv.reports.results.MOST_PROBABILITIES", 11 * 24 * 44)
    status, out, errors = predict(capsys, "photos --out out --save probabilities --keep-going")
    assert (status, "2 images labelled" in out) == (1, True)
    assert errors.count("leave them out of --save") == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a limit on the size of files")
def test_no_room(here):
    """On a full disk, one line names the file, and no half-written file is left."""
    program = (
        "import resource, signal, sys; from boxconv.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    line = "predict photos/one.png --out out --quiet --save polygons probabilities"
    done = subprocess.run([sys.executable, "-c", program, *line.split()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("boxconv: error: out/one")
    assert "cannot write: " in done.stderr
    assert done.stderr.count("\n") == 1
    assert not [name for name in names(here / "out") if ".tmp." in name]


def test_kinds_end_where_a_path_follows():
    """`--save` takes all words up to the next option, so paths must stand before it, or after another option."""
    args = parse(shlex.split("predict photo.jpg --save maps polygons --out out"))
    assert (args.save, len(args.inputs)) == (("maps", "polygons"), 1)
    with pytest.raises(SystemExit):
        parse(shlex.split("predict --save maps photo.jpg"))
    with pytest.raises(SystemExit):
        parse(shlex.split("predict photo.jpg --save None"))
