"""Polygons of label maps: drawing them must give the map again."""

import itertools
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from boxconv.data.class_table import ClassTable
from boxconv.reports import png
from boxconv.reports.regions import regions, write_geojson

MAPS = array_shapes(min_dims=2, max_dims=2, max_side=9).flatmap(
    lambda shape: st.integers(1, 3).flatmap(lambda most: arrays(np.uint8, shape, elements=st.integers(0, most)))
)
RING = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 1, 1], [1, 1, 1, 0]], np.uint8)  # holes and diagonal neighbours


def filled(rings, shape):
    """Mask of the pixels inside by the even-odd rule, computed from the vertical sides only."""
    crossings = np.zeros((shape[0], shape[1] + 1), np.uint8)
    for ring in rings:
        for (column, top), (other, bottom) in itertools.pairwise(ring):
            if column == other:
                crossings[min(top, bottom) : max(top, bottom), column] ^= 1
    return np.bitwise_xor.accumulate(crossings, axis=1)[:, :-1].astype(bool)


def rasterised(found, shape):
    """The label map of polygons; fails if they overlap or leave a gap."""
    labels = np.full(shape, 255, np.uint8)
    for region in found:
        inside = filled(region.rings, shape)
        assert inside.sum() == region.area
        assert (labels[inside] == 255).all()
        labels[inside] = region.label
    return labels


def signed_area(ring):
    return sum(x * below - right * y for (x, y), (right, below) in itertools.pairwise(ring)) / 2


def connected(mask):
    """Whether all pixels are connected through their sides."""
    reached = np.zeros_like(mask)
    reached[tuple(np.argwhere(mask)[0])] = True
    while True:
        padded = np.pad(reached, 1)
        grown = mask & (reached | padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2])
        if (grown == reached).all():
            return bool((reached == mask).all())
        reached = grown


@given(MAPS)
def test_polygons_are_the_map(labels):
    found = list(regions(labels))
    assert (rasterised(found, labels.shape) == labels).all()


@given(MAPS)
def test_one_polygon_is_one_region(labels):
    """Its pixels are connected, no neighbouring pixel has its label, and no ring touches itself."""
    for region in regions(labels):
        inside = filled(region.rings, labels.shape)
        assert connected(inside)
        padded = np.pad(inside, 1)
        beside = (padded[2:, 1:-1] | padded[:-2, 1:-1] | padded[1:-1, 2:] | padded[1:-1, :-2]) & ~inside
        assert (labels[beside] != region.label).all()
        assert [signed_area(ring) > 0 for ring in region.rings] == [True] + [False] * (len(region.rings) - 1)
        for ring in region.rings:
            assert ring[0] == ring[-1]
            assert len(set(ring)) == len(ring) - 1


def test_large_maps_are_read_in_parts(monkeypatch):
    labels = np.random.default_rng(0).integers(0, 3, (20, 30)).astype(np.uint8)
    whole = list(regions(labels))
    monkeypatch.setattr(png, "_BAND_PIXELS", 100)
    assert list(regions(labels)) == whole


def test_a_region_with_holes_that_touch():
    (outer, hole, corner) = regions(RING)
    assert [(region.label, region.area, len(region.rings)) for region in (outer, hole, corner)] == [
        (1, 12, 2), (0, 3, 1), (0, 1, 1),
    ]  # fmt: skip
    assert outer.rings[0] == [(0, 0), (4, 0), (4, 3), (3, 3), (3, 4), (0, 4), (0, 0)]
    assert set(outer.rings[1]) == set(hole.rings[0]) == {(1, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3)}


def test_small_regions_are_left_out():
    labels = np.random.default_rng(0).integers(0, 3, (20, 30)).astype(np.uint8)
    every = list(regions(labels))
    for least in (1, 2, 5, 601):
        assert list(regions(labels, least)) == [region for region in every if region.area >= least]
    assert len(every) > len(list(regions(labels, 2))) > 0


def test_labels_of_a_file_on_the_disk(tmp_path):
    mapped = np.memmap(tmp_path / "map", np.uint8, "w+", shape=RING.shape)
    mapped[:] = RING
    assert list(regions(mapped)) == list(regions(RING))


@pytest.mark.parametrize("name", ["plain.jpg", os.fsdecode(b'\xff"\n<b>.jpg')])
def test_geojson(tmp_path, name):
    classes = ClassTable(('the "sky"', "Straße"), ((1, 2, 3), (4, 5, 6)), values=(7, 300))
    path = tmp_path / "map.geojson"
    write_geojson(path, RING, classes, image=tmp_path / name, min_area=2)
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    assert content["type"] == "FeatureCollection"
    assert (content["image"]["width"], content["image"]["height"]) == (4, 4)
    assert content["image"]["file"].isprintable()
    outer, hole = content["features"]
    assert outer["properties"] == {"class": "Straße", "label": 300, "area": 12}
    assert hole["properties"] == {"class": 'the "sky"', "label": 7, "area": 3}
    assert outer["geometry"]["type"] == "Polygon"
    assert len(outer["geometry"]["coordinates"]) == 2
    assert text.count("\n") == 4  # a feature a line
