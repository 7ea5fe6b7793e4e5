"""The paper's figures of a network's boxes: the numbers that are drawn."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from boxconv.analysis import plots


def test_one_mark_per_box_with_an_importance(tmp_path, saved):
    areas = {"one": [1.0, 10, 100], "two": [4.0, 5], "none": [1.0]}
    importance = {"one": [0.1, np.nan, 0.3], "two": [0.2, 0.1], "none": [np.nan]}
    plots.area_against_importance(areas, importance, tmp_path / "p.png", title="t", marked=["two"])
    axes = saved[0].axes[0]
    points = [collection.get_offsets().tolist() for collection in axes.collections]
    assert points == [[[0.1, 1], [0.3, 100]], [[0.2, 4], [0.1, 5]]]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.lines[0].get_ydata()[0] == 9
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["one", "two *", "* no 1×1 behind it"]
    with pytest.raises(ValueError, match="no box with an area and an importance"):
        plots.area_against_importance({"a": [1.0]}, {"a": [np.nan]}, tmp_path / "q.png", title="t")


def test_curves_by_level_and_network(tmp_path, saved):
    one, two = np.linspace(0.1, 1, 50), np.linspace(0.5, 1, 50)
    plots.energy_curves({"output": {"a": one, "b": two}, "early": {"b": two}}, tmp_path / "p.png", title="t")
    left, right = saved[0].axes
    assert [line.get_label() for line in left.lines][:2] == ["a", "b"]
    assert left.lines[0].get_ydata().tolist() == one.tolist()
    assert left.lines[1].get_color() == right.lines[0].get_color(), "a network keeps its colour"
    with pytest.raises(ValueError, match="levels must hold at least one network each"):
        plots.energy_curves({"output": {}}, tmp_path / "q.png", title="t")


def test_histograms_are_in_percent(tmp_path, saved):
    now = {"left and right": [0.05, 0.05, 0.95, 0.95], "top and bottom": [0.5]}
    plots.symmetry_histogram(now, {"left and right": [0.5], "top and bottom": [0.5]}, tmp_path / "p.png", title="t")
    heights = [patch.get_height() for patch in saved[0].axes[0].patches if isinstance(patch, Rectangle)]
    assert heights == [50, 0, 0, 0, 0, 0, 0, 0, 0, 50]
