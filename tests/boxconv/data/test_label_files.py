"""Label files of all kinds: they give the same classes, or a message that says what is unclear."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_trees import fingerprint, noise, pick, png, save, tiff
from PIL import Image

from boxconv.cli import main
from boxconv.data.checks.check import check
from boxconv.data.checks.draft import draft_classes
from boxconv.data.class_table import ClassTable, DataError, read_classes, write_classes
from boxconv.data.label_encoding import read_palette
from boxconv.data.label_files import open_label

CLASSES = np.array([[0, 1, 1, 255], [2, 2, 0, 1], [0, 0, 255, 2]])
"""The classes in every file below."""
NAMES, COLOURS = ("road", "car", "tree"), ((200, 0, 0), (0, 0, 200), (0, 99, 0))


def table(values: tuple[int, ...] = (), void: tuple[int, ...] = ()) -> ClassTable:
    return ClassTable(NAMES, COLOURS, void=frozenset(void), values=values)


def valued(values: tuple[int, ...], void: int, kind: Any = np.uint8) -> np.ndarray:
    return np.select([k == CLASSES for k in range(3)], values, void).astype(kind)


def with_alpha(values: np.ndarray, alpha: int = 255) -> np.ndarray:
    return np.dstack([values, np.full(values.shape[:2], alpha, np.uint8)])


def indexed(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values)
    image.putpalette([(7 * i) % 256 for i in range(768)])
    return image


GAPS, ONES = (3, 17, 200), (1, 2, 3)

# Suffixes, what is saved, and the class table.
VALUES: list[tuple[str, str, Any, ClassTable]] = [
    ("from 0, 255 void", "png tif bmp", valued((0, 1, 2), 255), table()),
    ("from 0, void by a row", "png tif bmp", valued((0, 1, 2), 9), table(void=(9,))),
    ("from 1, 0 void", "png tif bmp", valued(ONES, 0), table(ONES, (0,))),
    ("with gaps", "png tif bmp", valued(GAPS, 255), table(GAPS)),
    ("255 is a class, 0 void", "png", valued((255, 1, 2), 0), table((255, 1, 2), (0,))),
    ("colour table", "png bmp", indexed(valued(GAPS, 255)), table(GAPS)),
    ("grey and opaque alpha", "png tif", with_alpha(valued(GAPS, 255)), table(GAPS)),
    ("equal channels", "png tif bmp", np.dstack([valued(GAPS, 255)] * 3), table(GAPS)),
    ("equal channels, opaque", "png tif", with_alpha(np.dstack([valued(GAPS, 255)] * 3)), table(GAPS)),
    ("16 bits", "png tif", valued((1000, 2, 65535), 0, np.uint16), table((1000, 2, 65535), (0,))),
    ("16 bits of small values", "png tif", valued(ONES, 255, np.uint16), table(ONES)),
    ("32 bits", "tif", valued(GAPS, 255, np.int32), table(GAPS)),
]


@pytest.mark.parametrize("suffixes, saved, classes", [row[1:] for row in VALUES], ids=[row[0] for row in VALUES])
def test_values(suffixes: str, saved: Any, classes: ClassTable, tmp_path: Path) -> None:
    image = saved if isinstance(saved, Image.Image) else Image.fromarray(saved)
    for suffix in suffixes.split():
        path = tmp_path / f"label.{suffix}"
        image.save(path)
        label = open_label(path, classes)
        assert (label.mode, np.asarray(label).tolist()) == ("L", CLASSES.tolist()), suffix


def test_masks_of_one_bit_are_0_and_1(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 1], [1, 0, 0]], bool)
    for suffix in ("png", "tif", "bmp"):
        Image.fromarray(mask).save(tmp_path / f"mask.{suffix}")
        assert np.array_equal(np.asarray(open_label(tmp_path / f"mask.{suffix}", table())), mask)


COLOURED = np.select([(k == CLASSES)[..., None] for k in range(3)], COLOURS, (0, 0, 0)).astype(np.uint8)
PALETTE = "red,green,blue,name\n200,0,0,road\n0,0,200,car\n0,99,0,tree\n0,0,0,void\n255,255,255,Road\n"


@pytest.mark.parametrize("name", ["label.png", "label.tif", "label.bmp", "alpha.png", "table.png"])
def test_colours(name: str, tmp_path: Path) -> None:
    (tmp_path / "palette.csv").write_text(PALETTE)
    image = Image.fromarray(with_alpha(COLOURED) if name.startswith("alpha") else COLOURED)
    (image.quantize(4) if name.startswith("table") else image).save(tmp_path / name)
    label = open_label(tmp_path / name, table(), read_palette(tmp_path / "palette.csv", table()))
    assert np.asarray(label).tolist() == CLASSES.tolist()


def test_greys_that_the_palette_has(tmp_path: Path) -> None:
    """Programs that compress files convert black-and-white labels in colours to grey, or to one bit per pixel."""
    (tmp_path / "palette.csv").write_text(PALETTE)
    mask = np.array([[0, 255, 0]], np.uint8)
    for name, image in {"l": Image.fromarray(mask), "1": Image.fromarray(mask > 0)}.items():
        image.save(tmp_path / f"{name}.png")
        label = open_label(tmp_path / f"{name}.png", table(), read_palette(tmp_path / "palette.csv", table()))
        assert np.asarray(label).tolist() == [[255, 0, 255]]


def _pages(path: Path) -> None:
    page = Image.fromarray(valued((0, 1, 2), 255))
    page.save(path, save_all=True, append_images=[page])


def _deep_colours(path: Path) -> None:
    values = range(6)
    if path.suffix == ".png":
        path.write_bytes(png(2, 1, 16, b"\0" + struct.pack(">6H", *values), colour=2))
    else:
        path.write_bytes(tiff(2, 1, 16, struct.pack("<6H", *values), channels=3))


def _as(kind: str, **options: Any) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(COLOURED).save(path, kind, **options)


# Name, what is saved, words of the message.
ASKED: list[tuple[str, Any, str]] = [
    ("unknown.png", valued((0, 1, 7), 255), r"expected labels 0 to 2, or 255 for void, found 7 \(first at row 1"),
    ("unknown.tif", valued((0, 1, 700), 255, np.uint16), r"found 700 \(first at row 1"),
    ("negative.tif", valued((0, 1, -1), 255, np.int32), r"found -1 \(first"),
    ("transparent.png", with_alpha(valued((0, 1, 2), 255), 0), "found 12 transparent pixels"),
    ("transparent colours.png", with_alpha(COLOURED, 254), "found 12 transparent pixels"),
    ("colours.png", COLOURED, "found colours: palette.csv in the data folder, or --palette FILE"),
    ("floats.tif", valued((0, 1, 2), 255, np.float32), "found mode F .floating-point numbers"),
    ("ink.tif", Image.fromarray(COLOURED).convert("CMYK"), "found mode CMYK"),
    ("pages.tif", _pages, "found 2 pages"),
    ("deep.png", _deep_colours, "found 16 bits in each of several channels"),
    ("deep.tif", _deep_colours, "found 16 bits in each of several channels"),
    ("jpeg.png", _as("JPEG"), "must be PNG, TIFF or BMP files, found JPEG: its values have changed: write"),
    ("webp.tif", _as("WEBP"), "found WEBP: its values have changed: write the label again, as PNG, from where"),
    ("lossy.tif", _as("TIFF", compression="jpeg"), "found TIFF with JPEG compression: its values have changed"),
    ("animation.bmp", _as("GIF"), "must be PNG, TIFF or BMP files, found GIF: save the labels as PNG"),
]


@pytest.mark.parametrize("name, saved, words", ASKED, ids=[row[0] for row in ASKED])
def test_unclear_labels_are_refused(name: str, saved: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if callable(saved):
        saved(path)
    else:
        (saved if isinstance(saved, Image.Image) else Image.fromarray(saved)).save(path)
    with pytest.raises(DataError, match=words) as caught:
        open_label(path, table())
    assert str(path) in str(caught.value)


def shape(label: str, points: list[list[float]], kind: str = "polygon") -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}


def polygons(path: Path, *shapes: Any, **more: Any) -> Path:
    content = {"version": "5.4.1", "imagePath": "a.jpg", "imageWidth": 8, "imageHeight": 6, "shapes": shapes}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**content, **more}))
    return path


def test_polygons(tmp_path: Path) -> None:
    square = shape("road", [[1, 1], [4, 1], [4, 3], [1, 3]])
    above = shape("Car", [[3, 3], [6, 2]], "rectangle")
    hidden = shape("__ignore__", [[7, 5], [7, 5.2]], "circle")
    path = polygons(tmp_path / "a.json", square, above, hidden)
    expected = np.full((6, 8), 255)
    expected[1:4, 1:5] = 0
    expected[2:4, 3:7] = 1
    assert np.asarray(open_label(path, table())).tolist() == expected.tolist()
    background = ClassTable(("_background_", "road", "car"), COLOURS)
    expected = np.select([expected == 255, expected == 0], [0, 1], 2)
    expected[4:6, 6:8] = 255
    assert np.asarray(open_label(path, background)).tolist() == expected.tolist()


@pytest.mark.parametrize(
    "content, words",
    [
        ("{", "found a file where there is"),
        ("[]", "found a file where there is"),
        ("{}", "found a file without 'imageWidth'"),
        ("[" * 100_000, "found a file where there is"),
        ({"imageWidth": "8"}, "an image of '8' x 6 pixels"),
        ({"imageWidth": 2**25}, "are more than 67108864"),
        ({"shapes": [shape("bus", [[0, 0], [1, 1], [2, 0]])]}, r"shape 0 is named 'bus', expected a class \(road, car"),
        ({"shapes": [shape("car", [[0, 0], [1, 1]])]}, "a polygon of 2 points named 'car'"),
        ({"shapes": [shape("car", [[0, 0], [1, 1]], "line")]}, "a line of 2 points named 'car', not one of polygon"),
        ({"shapes": [shape("car", [[0, 0], [1, float("nan")], [2, 2]])]}, "a point far outside of the image"),
        ({"shapes": [{"label": "car"}]}, "without 'points'"),
    ],
)
def test_bad_polygons(content: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content) if isinstance(content, str) else polygons(path, **content)
    with pytest.raises(DataError, match=words) as caught:
        open_label(path, table())
    assert str(path) in str(caught.value)


def folder(root: Path, label: Any, *, classes: ClassTable | None = None, suffix: str = ".png") -> Path:
    """Two splits of two images each; `label(name)` gives or writes the labels."""
    for split in ("train", "val"):
        for name in "ab":
            save(root / "images" / split / f"{name}.jpg", noise(split + name))
            path = root / "labels" / split / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            made = label(split + name)
            polygons(path, *made, imageWidth=20, imageHeight=12) if suffix == ".json" else save(path, made)
    if classes is not None:
        write_classes(root / "classes.csv", classes)
    return root


SQUARE = [[2.0, 2.0], [9.0, 2.0], [9.0, 9.0]]

# What the labels hold, their suffix, and the rows of the draft.
DRAFTS: list[tuple[str, Any, str, list[tuple[int, str]]]] = [
    ("gaps", lambda name: pick(name, (3, 17, 200)), ".png", [(3, "class_3"), (17, "class_17"), (200, "class_200")]),
    ("void", lambda name: pick(name, (0, 1, 255)), ".png", [(0, "class_0"), (1, "class_1"), (255, "void")]),
    ("mask", lambda name: pick(name, (0, 255)), ".png", [(0, "class_0"), (255, "class_255")]),
    ("deep", lambda name: pick(name, (0, 1)).astype(np.uint16) * 999, ".tif", [(0, "class_0"), (999, "class_999")]),
    ("colours", lambda name: pick(name, COLOURS), ".png", [(0, "colour_0"), (1, "colour_1"), (2, "colour_2")]),
    ("polygons", lambda _: (shape("wall", SQUARE), shape("void", SQUARE), shape("a roof", SQUARE)), ".json",
     [(0, "wall"), (1, "a roof")]),
]  # fmt: skip


@pytest.mark.parametrize("label, suffix, rows", [row[1:] for row in DRAFTS], ids=[row[0] for row in DRAFTS])
def test_a_draft_of_the_class_table(
    label: Any, suffix: str, rows: list[tuple[int, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, path = folder(tmp_path / "data", label, suffix=suffix), tmp_path / "classes.csv"
    before = fingerprint(root)
    assert main(["check-data", str(root)]) == 2
    assert "--write-classes FILE drafts one" in capsys.readouterr().err
    assert main(["check-data", str(root), "--write-classes", str(path)]) == 0
    assert rows[0][1] in capsys.readouterr().out
    lines = [line.split(",")[:2] for line in path.read_text().splitlines()[1:]]
    assert [(int(value), name) for value, name in lines] == rows
    assert main(["check-data", str(root), "--write-classes", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err
    options = ["--classes", str(path), *(["--palette", str(path)] if rows[0][1].startswith("colour") else [])]
    assert main(["check-data", str(root), *options, "--quiet"]) == 0, capsys.readouterr()
    assert fingerprint(root) == before


@pytest.mark.parametrize(
    "colours, kept", [(((10, 20, 30), (200, 0, 0)), True), (((9, 9, 9), (8, 8, 8)), False), (((9, 1, 1),) * 2, False)]
)
def test_a_draft_takes_the_colours_of_the_files(colours: Any, kept: bool, tmp_path: Path) -> None:
    root = folder(tmp_path / "data", lambda name: pick(name, (0, 1)))
    for path in root.glob("labels/*/*.png"):
        label = Image.open(path).convert("L")
        label.putpalette([part for colour in colours for part in colour])
        label.save(path)
    path = root / "classes.csv"
    assert main(["check-data", str(root), "--write-classes", str(path)]) == 0, "the one file that may be added"
    assert (read_classes(path).colours == colours) == kept
    assert main(["check-data", str(root), "--quiet"]) == 0


@pytest.mark.parametrize("names, told", [(("wall",), True), (("wall", "Background"), False)])
def test_a_draft_says_what_uncovered_pixels_are(
    names: tuple[str, ...], told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder(tmp_path / "data", lambda _: [shape(name, SQUARE) for name in names], suffix=".json")
    assert main(["check-data", str(root), "--write-classes", str(tmp_path / "classes.csv")]) == 0
    assert ("Pixels that no shape covers are void" in capsys.readouterr().out) == told


def test_no_draft(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path / "data", lambda name: pick(name, (0, 1)))
    (root / "classes.csv").write_text("mine")
    for name in ("classes.csv", "other.csv"):
        assert main(["check-data", str(root), "--overwrite", "--write-classes", str(root / name)]) == 2
        assert "never written to" in capsys.readouterr().err
    polygons(root / "labels" / "val" / "a.json", shape("car", SQUARE))
    with pytest.raises(DataError, match=r"labels of one sort.*in pixels and in polygons"):
        draft_classes(root)
    with pytest.raises(DataError, match=r"found no labels in .*/labels; its folders: data"):
        draft_classes(tmp_path)
    with pytest.raises(DataError, match="more than 255 classes so far"):
        draft_classes(folder(tmp_path / "photographs", lambda name: noise(name, (40, 40))))


TRAIN = ["train", "--data", "folder", "--size", "16", "32", "--batch-size", "2", "--epochs", "1", "--quiet"]


def trained(root: Path, out: Path, *options: str) -> int:
    return main([*TRAIN, "--network", "enet_minus", "--root", str(root), "--out", str(out), *options])


def test_masks_of_0_and_255_are_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the row for 255, "car" would have no pixel, and the score would be 1."""
    two = ClassTable(("rest", "car"), COLOURS[:2])
    root = folder(tmp_path / "data", lambda name: pick(name, (0, 255)), classes=two)
    question = "if these are masks of 0 and 255, write into classes.csv what 255 is: a row 255,car,... or 255,void"
    assert main(["check-data", str(root), "--quiet"]) == 1
    assert question in capsys.readouterr().out
    assert trained(root, tmp_path / "run") == 1
    assert question in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    write_classes(root / "classes.csv", ClassTable(("rest", "car"), COLOURS[:2], values=(0, 255)))
    assert read_classes(root / "classes.csv").values == (0, 255)
    assert main(["check-data", str(root), "--quiet"]) == 0
    assert trained(root, tmp_path / "run") == 0
    assert "no pixel" not in capsys.readouterr().out
    image = root / "images" / "val" / "a.jpg"
    assert main(["predict", str(tmp_path / "run"), str(image), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert set(np.unique(np.asarray(Image.open(tmp_path / "out" / "a.png")))) <= {0, 255}


def test_a_score_without_a_class_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder(tmp_path / "data", lambda name: pick(name, (0, 2) if "val" in name else (0, 1, 2)), classes=table())
    said = "have no pixel of car"
    assert main(["check-data", str(root), "--quiet"]) == 0
    assert f"class without a pixel: 1\n  labels/val: the labels of val {said}" in capsys.readouterr().out
    for more in ([], ["--no-check-files", "--overwrite"]):
        assert trained(root, tmp_path / "run", *more) == 0
        assert f"the labels of val {said}: the scores tell nothing of it" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "run" / "best.pt"), "--quiet"]) == 0
    assert (
        f"the labels {said}: the scores tell nothing of it; if it is predicted somewhere, an IoU"
        in capsys.readouterr().out
    )


def test_polygons_beside_the_images(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / "images" / "train" / f"{name}.jpg", noise(name))
        polygons(tmp_path / "images" / "train" / f"{name}.json", shape("car", SQUARE), imageWidth=20, imageHeight=12)
    (tmp_path / "images" / "train" / "notes.txt").touch()
    report = check(tmp_path, ClassTable(("background", "car"), COLOURS[:2]))
    assert (report.ok, report.pairs) == (True, {"train": 2})
    assert [(warning.kind, warning.file.name) for warning in report.warnings] == [("ignored", "notes.txt")]
    assert "ignored: 1 (1 .txt)" in report.text()
    assert report.pixels["train"][1] > 0


def test_other_values_of_the_same_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The class table of the data set defines its label values, even if the network was trained with others."""
    ours = folder(tmp_path / "ours", lambda name: pick(name, (0, 1, 2)), classes=table())
    theirs = folder(tmp_path / "theirs", lambda name: pick(name, (0, 1, 2)) + 1, classes=table(ONES, (0,)))
    assert trained(ours, tmp_path / "run") == 0
    scores = []
    for root in (ours, theirs):
        out = tmp_path / f"{root.name}.json"
        best = str(tmp_path / "run" / "best.pt")
        assert main(["evaluate", best, "--root", str(root), "--json", str(out), "--quiet"]) == 0, capsys.readouterr()
        scores.append(json.loads(out.read_text())["counts"])
    assert scores[0] == scores[1]


def test_declared_void_is_no_mask(tmp_path: Path) -> None:
    root = folder(tmp_path / "data", lambda name: pick(name, (0, 255)), classes=table(void=(255,)))
    report = check(root, read_classes(root / "classes.csv"))
    assert report.ok
    assert {warning.kind for warning in report.warnings} == {"class without a pixel"}
