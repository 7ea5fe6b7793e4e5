"""Labels in colours: the palette file, and the class of every pixel."""

from pathlib import Path

import data_trees
import numpy as np
import pytest
from data_trees import THREE, save

from boxconv.data.class_table import DataError, write_classes
from boxconv.data.label_encoding import read_palette
from boxconv.data.label_files import open_label

PALETTE = "name,red,green,blue\nroad,128,64,128\ncar,0,0,142\nCar,0,0,70\ntree,0,99,0\nvoid,0,0,0\n"


@pytest.fixture
def palette(tmp_path: Path) -> Path:
    path = tmp_path / "palette.csv"
    path.write_text(PALETTE)
    return path


def test_unknown_colours_are_named_the_most_frequent_first(palette: Path, tmp_path: Path) -> None:
    colours = np.zeros((4, 6, 3), np.uint8)
    colours[1, 2] = (1, 2, 3)
    colours[2:, 3:] = (0, 0, 143)
    path = save(tmp_path / "label.png", colours)
    with pytest.raises(DataError) as caught:
        open_label(path, THREE, read_palette(palette, THREE))
    assert str(caught.value) == (
        f"{path}: expected the 5 colours of palette.csv, found (red, green, blue) "
        "(0, 0, 143) (first at row 2, column 3; 6 pixels), (1, 2, 3) (first at row 1, column 2; 1 pixel)"
    )


def test_a_class_file_is_a_palette(tmp_path: Path) -> None:
    write_classes(tmp_path / "classes.csv", THREE)
    encoding = read_palette(tmp_path / "classes.csv", THREE)
    assert dict(encoding.colours) == {(128, 64, 128): 0, (0, 0, 142): 1, (0, 99, 0): 2, (0, 0, 0): 255}


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "the first line must hold red, green, blue and name, found nothing"),
        ("red,green,name\n", "found red,green,name"),
        (
            "red,green,blue,name\n1,2,3,raod\n",
            r"line 2: expected the name of a class \(road, car, tree\) or void.*'raod'",
        ),
        ("red,green,blue,name\n1,2,256,road\n", "line 2: red, green and blue must be 0 to 255, found 1, 2, 256"),
        ("red,green,blue,name\n1,2,x,road\n", "0 to 255"),
        ("red,green,blue,name\n1,2,-3,road\n", "0 to 255"),
        ("red,green,blue,name\n1,2\n", "line 2"),
        ("red,green,blue,name\n1,2,3,road\n1,2,3,car\n", r"line 3: colour \(1, 2, 3\) stands for two classes"),
        ("red,green,blue,name\n1,2,3,void\n", "no colour stands for a class"),
    ],
)
def test_bad_palettes_are_named(text: str, words: str, palette: Path) -> None:
    palette.write_text(text)
    with pytest.raises(DataError, match=rf"palette\.csv.*{words}"):
        read_palette(palette, THREE)


def test_a_missing_palette(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: cannot read the palette"):
        read_palette(tmp_path / "none.csv", THREE)


def test_sunrgbd_labels_in_a_plain_folder_are_recognised(tmp_path: Path) -> None:
    from boxconv.data.layouts.sunrgbd import SUNRGBD

    path = save(tmp_path / "label.png", data_trees.pick("a", range(38)))
    with pytest.raises(DataError, match=r"found 37 .*SUN RGB-D.*--data sunrgbd"):
        open_label(path, SUNRGBD)
