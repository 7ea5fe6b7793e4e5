"""Class tables: what they accept, and storing them in CSV files and dictionaries."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from boxconv.data.class_table import ClassTable, DataError, distinct_colours, read_classes, write_classes
from boxconv.data.layouts.camvid import CAMVID

TWO = ClassTable(("road", "car"), ((128, 64, 128), (0, 0, 142)), ("flat", "vehicle"), frozenset({7}))


def test_categories_default_to_names() -> None:
    assert ClassTable(("a", "b"), ((0, 0, 0), (1, 1, 1))).categories == ("a", "b")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"names": (), "colours": (), "categories": ()}, "1 to 255 classes"),
        ({"names": ("road",), "values": ()}, "1 names, 2 colours"),
        ({"names": ("road", "road")}, "'road' occurs more than once"),
        ({"names": ("road", "Void")}, "void"),
        ({"names": ("road", " car")}, "blanks"),
        ({"colours": ((0, 0, 0), (0, 0, 0))}, "occurs more than once"),
        ({"colours": ((0, 0, 0), (0, 0, 256))}, "0 to 255"),
        ({"void": frozenset({1})}, "void label 1 is that of class 'car' as well"),
        ({"void": frozenset({65536})}, "label 65536 must be an integer from 0 to 65535"),
        ({"values": (1,)}, "2 names, 2 colours, 2 categories, 1 labels"),
        ({"values": (4, 4)}, "label 4 occurs more than once"),
        ({"values": (4, -1)}, "label -1 must be"),
        ({"values": (4, 7)}, "void label 7"),
    ],
)
def test_refused(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(TWO, **change)


GAPS = ClassTable(("road", "car"), ((1, 2, 3), (4, 5, 6)), void=frozenset({0, 255}), values=(700, 3))


@pytest.mark.parametrize("table", [CAMVID, TWO, GAPS, ClassTable(("a, b", 'say "c"'), ((0, 0, 0), (1, 1, 1)))])
def test_round_trips(table: ClassTable, tmp_path: Path) -> None:
    write_classes(tmp_path / "classes.csv", table)
    assert read_classes(tmp_path / "classes.csv") == table
    assert ClassTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_reads_files_of_spreadsheets(tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    rows = ("Label, name, red, green, blue", "0, road, 1, 2, 3", "255, VOID, 0, 0, 0", "9, void, 0, 0, 0")
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    assert read_classes(path) == ClassTable(("road",), ((1, 2, 3),), void=frozenset({9, 255}))


@pytest.mark.parametrize(
    "text, categories",
    [
        ("name,category,id,label\nroad,flat,x,700\ncar,vehicle,y,3\nvoid,,,0\n", ("flat", "vehicle")),
        ("blue,green,red,name,label\n3,2,1,road,700\n6,5,4,car,3\n,,,void,0\n", ()),
        ("label,name\n700,road\n3,car\n0,void\n", ()),
    ],
)
def test_columns_are_found_by_their_names(text: str, categories: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text(text)
    table = read_classes(path)
    colours = GAPS.colours if "red" in text else distinct_colours(2)
    assert table == replace(GAPS, colours=colours, categories=categories, void=frozenset({0}))


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "the first line must name the columns label, name and"),
        ("id,name\n", "the first line must name .* found 'id,name'"),
        ("label,name,red,green\n", "the first line must name"),
        ("label,name,name\n", "the first line must name .* each once"),
        ("label,name,red,green,blue\n", "1 to 255 classes, found 0"),
        ("label,name,red,green,blue\n0,road,1,2\n", "line 2: expected 5 values"),
        ("label,name,red,green,blue\n0,road,1,2,3,4\n", "line 2: expected 5 values"),
        ("label,name,red,green,blue\nx,road,1,2,3\n", "label must be an integer from 0 to 65535, found 'x'"),
        ("label,name,red,green,blue\n0,road,1,2,x\n", "line 2: blue must be an integer from 0 to 255, found 'x'"),
        ("label,name,red,green,blue\n0,road,1,2,3\n0,car,4,5,6\n", "label 0 occurs more than once"),
        ("label,name,red,green,blue\n0,road,1,2,3\n0,void,4,5,6\n", "void label 0"),
        ("label,name,red,green,blue\n0,road,1,2,300\n", "line 2: blue must be an integer from 0 to 255, found '300'"),
        ("label,name\n0,road\n70000,car\n", "line 3: label must be an integer from 0 to 65535, found '70000'"),
    ],
)
def test_bad_files_are_named(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "classes.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        read_classes(path)
    assert str(path) in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    for path in (tmp_path / "none.csv", tmp_path, tmp_path / "image.png"):
        with pytest.raises(DataError, match="cannot read the class table"):
            read_classes(path)


@pytest.mark.parametrize("state", [{}, {**TWO.to_dict(), "colours": [[1, 2], [3, 4]]}, {**TWO.to_dict(), "void": None}])
def test_from_dict_refuses(state: dict) -> None:
    with pytest.raises(ValueError):
        ClassTable.from_dict(state)


def test_values_of_files() -> None:
    written = GAPS.in_files(np.array([[0, 1, 0]], np.uint8))
    assert (written.dtype, written.tolist()) == (np.uint16, [[700, 3, 700]])
    assert TWO.in_files(np.array([[0, 1]], np.uint8)).dtype == np.uint8
    assert ClassTable.from_dict({name: part for name, part in TWO.to_dict().items() if name != "values"}) == TWO


def test_colourise() -> None:
    picture = TWO.colourise(np.array([[0, 1, 255], [1, 7, 0]], np.uint8))
    assert picture.dtype == np.uint8
    assert picture.tolist() == [
        [[128, 64, 128], [0, 0, 142], [0, 0, 0]],
        [[0, 0, 142], [0, 0, 0], [128, 64, 128]],
    ]
