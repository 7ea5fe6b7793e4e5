"""Files and tables of an image's results."""

import csv
import os
import re
import threading
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from PIL import Image

from boxconv.data.bands import Bands
from boxconv.data.class_table import ClassTable, DataError
from boxconv.reports import png, results
from boxconv.reports.kinds import ENDINGS
from boxconv.reports.results import ResultWriter

CLASSES = ClassTable(("road", "sky", "a, b"), ((200, 0, 0), (0, 100, 255), (9, 9, 9)), values=(1, 300, 7))
LABELS = np.repeat([[0, 0, 1, 1, 0]], 4, 0).astype(np.uint8)
HOSTILE = ["<img src=x onerror=alert(1)>.png", "javascript:alert(1).png", '" onload="x.png', "=1+1.png", "a b#?%.png",
           os.fsdecode(b"\xff\n.png")]  # fmt: skip


def picture(shape=(4, 5)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8))


def files(folder, name="photo"):
    return [folder / f"{name}{ending}" for ending in ENDINGS.values()]


def probabilities(labels=LABELS):
    logits = np.random.default_rng(1).normal(size=(3, *labels.shape))
    np.put_along_axis(logits, labels[None], 9, 0)
    return (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float16)


@pytest.mark.parametrize("band", [7, 10**6])
def test_every_kind(tmp_path, monkeypatch, band):
    monkeypatch.setattr(png, "_BAND_PIXELS", band)
    writer = ResultWriter(list(ENDINGS), CLASSES)
    outputs = files(tmp_path / "deep" / "folder")
    assert [path.name.removeprefix("photo") for path in outputs] == list(writer.endings)
    image = picture()
    writer.write(tmp_path / "photo.jpg", outputs, image, LABELS, probabilities())
    maps, colours, overlay, numbers, polygons = outputs
    assert (np.asarray(Image.open(maps)) == np.array(CLASSES.values)[LABELS]).all()
    assert (np.asarray(Image.open(colours)) == np.array(CLASSES.colours)[LABELS]).all()
    half = (np.asarray(image).astype(int) + np.asarray(Image.open(colours))) // 2
    assert (np.asarray(Image.open(overlay)) == half).all()
    assert (np.load(numbers) == probabilities()).all()
    assert np.load(numbers).dtype == np.float16
    assert polygons.read_text().count('"Feature"') == 3


def test_other_numbers_of_channels(tmp_path):
    bands = Bands.of(np.random.default_rng(0).random((5, 4, 5)).astype(np.float32))
    ResultWriter(["overlay"], CLASSES).write(tmp_path / "a.npy", [tmp_path / "o.png"], bands, LABELS)
    assert Image.open(tmp_path / "o.png").size == (5, 4)


def test_what_probabilities_need(tmp_path):
    writer = ResultWriter(["probabilities"], CLASSES)
    with pytest.raises(DataError, match=r"a\.tif: labelled in parts, so there are no probabilities of the whole"):
        writer.write(tmp_path / "a.tif", [tmp_path / "p.npy"], picture(), LABELS)
    side = int((results.MOST_PROBABILITIES / 3) ** 0.5)
    writer.check_size(Path("a.tif"), side, side)
    with pytest.raises(DataError, match=r"a\.tif: probabilities of 3 classes and .* leave them out of --save"):
        writer.check_size(Path("a.tif"), side + 1, side + 1)
    ResultWriter(["maps"], CLASSES).check_size(Path("a.tif"), side + 1, side + 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ENDINGS)
def test_no_room(tmp_path, kind, monkeypatch):
    """The old file is still there, and no other one."""
    output = tmp_path / f"photo{ENDINGS[kind]}"
    output.write_text("kept")

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="cannot write: No space left on device; what was there") as caught:
        ResultWriter([kind], CLASSES).write(tmp_path / "photo.jpg", [output], picture(), LABELS, probabilities())
    assert caught.value.filename == str(output)
    assert [path.name for path in tmp_path.iterdir()] == [output.name]
    assert output.read_text() == "kept"


def with_tables(folder, names=("b.png", "a.png")):
    """Write maps of images with these names, and the tables, to ``folder``; returns the writer."""
    writer = ResultWriter(
        ["maps"], CLASSES, areas=folder / "new" / "areas.csv", contact_sheet=folder / "new" / "sheet.html"
    )
    for name in names:
        writer.write(Path(name), [folder / f"of {Path(name).name}"], picture(), LABELS)
    writer.write_tables()
    return writer


def rows(folder):
    with open(folder / "new" / "areas.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_areas(tmp_path):
    with_tables(tmp_path)
    found = rows(tmp_path)
    assert [(row["image"], row["label"], row["class"], row["pixels"], row["share"]) for row in found[:3]] == [
        ("a.png", "1", "road", "12", "0.600000"),
        ("a.png", "300", "sky", "8", "0.400000"),
        ("a.png", "7", "a, b", "0", "0.000000"),
    ]
    assert [sum(int(row["pixels"]) for row in found if row["image"] == name) for name in ("a.png", "b.png")] == [20, 20]


def test_contact_sheet(tmp_path):
    with_tables(tmp_path)
    page = (tmp_path / "new" / "sheet.html").read_text()
    assert "<h1>2 images</h1>" in page
    assert page.index("a.png</b> 5 x 4") < page.index("b.png</b> 5 x 4")
    assert "road 60%, sky 40%" in page
    assert "road 60.0%" in page
    assert page.count("data:image/jpeg;base64,") == 2
    for link in re.findall(r'href="([^"]+)"', page):
        assert (tmp_path / "new" / link.replace("%20", " ")).exists()
    assert not re.search(r'(src|href)="(?!data:|\./)', page)


def tags(page):
    """The tags of a page as a browser parses them, each with the names of its attributes."""
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, values: found.append((tag, tuple(sorted(name for name, _ in values))))
    parser.feed(page)
    return found


def test_hostile_names(tmp_path):
    names = [tmp_path / name for name in HOSTILE]
    with_tables(tmp_path, names)
    page = (tmp_path / "new" / "sheet.html").read_text()
    seen = Counter(tags(page))
    assert {tag for tag, _ in seen} == {
        "html", "head", "meta", "title", "style", "body", "main", "h1", "p", "ul", "li", "i", "div", "figure", "img",
        "figcaption", "b", "br", "a",
    }  # fmt: skip
    assert seen[("img", ("alt", "loading", "src"))] == len(HOSTILE)
    assert seen[("a", ("href",))] == 2 * len(HOSTILE)
    links = [os.fsdecode(unquote_to_bytes(link)) for link in re.findall(r'href="\./([^"]*)"', page)]
    assert {(tmp_path / "new" / link).resolve() for link in links} == {tmp_path / f"of {name}" for name in HOSTILE}


def test_no_cell_is_a_formula(tmp_path):
    with_tables(tmp_path, ["=1+1.png", "-a.png", "@x.png"])
    images = {row["image"] for row in rows(tmp_path)}
    assert {Path(name) for name in images} == {Path("=1+1.png"), Path("-a.png"), Path("@x.png")}
    assert all(name.startswith("./") for name in images)


def test_tables_of_images_that_were_labelled_before(tmp_path):
    with_tables(tmp_path)
    first = {name: (tmp_path / "new" / name).read_bytes() for name in ("areas.csv", "sheet.html")}
    again = ResultWriter(
        ["maps"], CLASSES, areas=tmp_path / "new" / "areas.csv", contact_sheet=tmp_path / "new" / "sheet.html"
    )
    for name in ("a.png", "b.png"):
        again.add_earlier(Path(name), [tmp_path / f"of {name}"], lambda path: picture())
    again.write_tables()
    assert {name: (tmp_path / "new" / name).read_bytes() for name in first} == first


def test_from_several_threads(tmp_path):
    writer = ResultWriter(["maps"], CLASSES, areas=tmp_path / "areas.csv")
    threads = [
        threading.Thread(target=writer.write, args=(Path(f"{k}.jpg"), [tmp_path / f"{k}.png"], picture(), LABELS))
        for k in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.write_tables()
    assert (tmp_path / "areas.csv").read_text().count("\n") == 1 + 8 * 3
