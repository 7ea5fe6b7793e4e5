"""Box statistics of boxes for which they can be computed by hand."""

import pytest
import torch

from boxconv.analysis import box_statistics as statistics
from boxconv.analysis.importance import LayerImportance


def layer(boxes, importance=None, name="a", map_size=(20, 30)):
    boxes = torch.tensor(boxes, dtype=torch.float64)
    weight = torch.ones(len(boxes)) if importance is None else torch.tensor(importance)
    return LayerImportance(name, boxes, weight.double(), map_size, map_size, ("before",), ("behind", (1, 1)))


BOXES = [
    [-0.5, 0.5, -0.5, 0.5],  # a pixel
    [-1.0, 1.0, 2.0, 3.02],  # a pixel wide, up to rounding
    [-4.0, 4.0, -5.0, 5.0],  # 80, symmetric in both directions
    [0.0, 10.0, -9.0, 10.0],  # 190, symmetric horizontally
    [-20.0, -10.0, 5.0, 15.0],  # 100, at the upper limit, to one side
]


def test_area_and_symmetry():
    boxes = torch.tensor(BOXES, dtype=torch.float64)
    torch.testing.assert_close(statistics.area(boxes), torch.tensor([1, 2.04, 80, 190, 100], dtype=torch.float64))
    low, high = boxes[:, 2], boxes[:, 3]
    torch.testing.assert_close(statistics.symmetry(low, high), torch.tensor([1, 0, 1, 0.9, 0], dtype=torch.float64))
    torch.testing.assert_close(statistics.symmetry(low, high), statistics.symmetry(-high, -low))


def test_numbers_of_a_layer():
    numbers = statistics.layer_statistics(layer(BOXES, [1.0, 1.0, 2.0, 3.0, 3.0]))
    expected = {
        "boxes": 5,
        "median_area": 80,
        "largest_area": 190,
        "largest_area_over_map": 190 / 600,
        "larger_than_3x3": 0.6,
        "larger_than_tenth_of_map": 0.6,
        "single_pixels": 0.2,
        "minimal_height": 0.2,
        "minimal_width": 0.4,
        "edge_at_limit": 0.2,
        "importance_in_larger_than_3x3": 0.8,
        "symmetry_boxes": 3,
        "horizontally_symmetric": 2 / 3,
        "vertically_symmetric": 1 / 3,
        "horizontally_symmetric_by_importance": 5 / 8,
    }
    assert {name: numbers[name] for name in expected} == pytest.approx(expected)
    assert "mean_edge_drift" not in numbers


def test_drift_is_measured_from_the_start():
    start = torch.tensor(BOXES, dtype=torch.float64)
    moved = start.clone()
    moved[2] += torch.tensor([0, 0, 3, 3])
    numbers = statistics.layer_statistics(layer(moved.tolist()), start)
    assert numbers["mean_edge_drift"] == pytest.approx(6 / 20)
    assert numbers["largest_edge_drift"] == 3
    assert numbers["initial_median_area"] == 80


def test_numbers_of_a_network():
    first, second = layer(BOXES, [1.0, 2.0, 3.0, 5.0, 4.0]), layer(BOXES[2:], [3.0, 1.0, 2.0], name="b")
    initial = {"a": first.boxes, "b": second.boxes + 1}
    numbers = statistics.network_statistics([first, second], initial)
    assert (numbers["boxes"], numbers["layers"]) == (8, 2)
    assert numbers["single_pixels"] == pytest.approx(1 / 8)
    assert numbers["minimal_in_one_direction"] == pytest.approx(2 / 8)
    assert numbers["area_importance_rank_correlation"] == pytest.approx(0), "one layer 1, the other -1"
    assert numbers["mean_edge_drift"] == pytest.approx(12 / 32)
    assert numbers["initial_symmetry_boxes"] == 6


def test_rank_correlation():
    one = torch.tensor([1.0, 2, 3, 4, 5])
    assert statistics.rank_correlation(one, one**3) == pytest.approx(1)
    assert statistics.rank_correlation(one, -one) == pytest.approx(-1)
    ties = torch.tensor([1.0, 1, 2, 2, 2])  # ranks 1.5 1.5 4 4 4
    assert statistics.rank_correlation(one, ties) == pytest.approx(0.8660254)
    assert statistics.rank_correlation(one, torch.ones(5)) is None
    unknown = torch.tensor([1.0, 2, float("nan"), float("nan"), 5])
    assert statistics.rank_correlation(one, unknown) == pytest.approx(1)
    assert statistics.rank_correlation(one[:2], one[:2]) is None


def test_importance_of_the_largest_tenth():
    sizes = torch.arange(1.0, 21)
    boxes = torch.stack((-sizes, sizes, -sizes, sizes), -1).tolist()
    name = "importance_percentile_of_largest_tenth"
    growing, falling = (layer(boxes, weight.tolist()) for weight in (sizes, -sizes))
    assert statistics.layer_statistics(growing)[name] == pytest.approx(18.5 / 19)
    assert statistics.layer_statistics(falling)[name] == pytest.approx(0.5 / 19)
    assert statistics.network_statistics([growing, falling])[name] == pytest.approx(0.5)
    assert statistics.layer_statistics(layer(BOXES))[name] is None, "a tenth of 5 boxes is no box"


def test_what_is_not_known_is_none_not_a_number():
    small = layer(BOXES[:2], [float("nan")] * 2)
    numbers = statistics.layer_statistics(small)
    for name in ("horizontal_symmetry_median", "horizontally_symmetric", "importance_in_larger_than_3x3"):
        assert numbers[name] is None
    assert numbers["horizontally_symmetric_by_importance"] is None
    assert statistics.network_statistics([small])["area_importance_rank_correlation"] is None


def test_one_row_per_box():
    first, second = layer(BOXES), layer(BOXES[2:], name="b")
    rows = statistics.box_table([first, second], {"a": first.boxes - 2, "b": second.boxes})
    assert [(row["layer"], row["box"]) for row in rows] == [("a", i) for i in range(5)] + [("b", i) for i in range(3)]
    assert rows[3]["area"] == pytest.approx(190)
    assert rows[3]["horizontal_symmetry"] == pytest.approx(0.9)
    assert {row["drift"] for row in rows[:5]} == {2.0}
    assert "drift" not in statistics.box_table([first])[0]
