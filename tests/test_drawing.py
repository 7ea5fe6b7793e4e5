"""Pictures of boxes: boxes are drawn in the right places, with an opacity that shows their importance."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from box_convolution import BoxConv2d
from box_convolution.drawing import draw_boxes

BOXES = np.array([[-1, 1, -2, 2], [-3, 4, -5, 6], [0, 1, 0, 1], [-30, -20, 3, 9]], float)


def outlines(axes):
    """The boxes' outlines: (top, bottom, left, right) and opacity, largest first."""
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_linewidth() == 1.5]
    return [
        ((p.get_y(), p.get_y() + p.get_height(), p.get_x(), p.get_x() + p.get_width()), p.get_alpha()) for p in found
    ]


def test_boxes_lie_around_the_output_pixel_with_the_opacity_of_their_importance(tmp_path, saved):
    weight = [1.0, 4.0, 2.0, np.nan]
    draw_boxes(BOXES, tmp_path / "b.png", map_size=(11, 21), importance=weight, centre=(2, 3))
    drawn = dict(outlines(saved[0].axes[0]))
    for box, opacity in zip(BOXES, (0.25, 1, 0.5, 0), strict=True):
        place = tuple(box + np.array([2, 2, 3, 3]))
        assert drawn[place] == pytest.approx(0.08 + 0.92 * opacity)


def test_all_of_a_box_is_in_the_picture(tmp_path, saved):
    draw_boxes(BOXES, tmp_path / "b.png", map_size=(11, 21))
    axes = saved[0].axes[0]
    assert axes.get_ylim()[1] < 5 - 30
    assert axes.get_ylim()[0] > 10.5
    assert axes.get_xlim()[1] > 20.5


def test_the_most_important_or_else_the_largest(tmp_path, saved):
    draw_boxes(BOXES, tmp_path / "b.png", map_size=(11, 21), importance=[1, 0, 3, 2], most=2)
    draw_boxes(BOXES, tmp_path / "b.png", map_size=(11, 21), most=2)
    draw_boxes(BOXES, tmp_path / "b.png", map_size=(11, 21), most=None)
    tops = [{place[0] - 5 for place, _ in outlines(figure.axes[0])} for figure in saved]
    assert tops == [{0, -30}, {-3, -30}, {-1, -3, 0, -30}]
    notes = [" ".join(text.get_text() for text in figure.texts) for figure in saved]
    assert "2 of 4 boxes, the most important" in notes[0]
    assert "2 of 4 boxes, the largest" in notes[1]
    assert "all 4 boxes" in notes[2]


@pytest.mark.parametrize("shape", [(9, 14), (9, 14, 3), (3, 9, 14), (1, 9, 14), (5, 9, 14), (2, 5, 9, 14)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_of_any_kind_are_stretched_over_the_map(tmp_path, saved, shape, dtype):
    image = (np.arange(np.prod(shape)).reshape(shape) % 251).astype(dtype)
    draw_boxes(BOXES, tmp_path / "b.png", map_size=(11, 21), image=image)
    (shown,) = saved[0].axes[0].images
    assert shown.get_extent() == [-0.5, 20.5, 10.5, -0.5]
    assert shown.get_array().shape == (9, 14, 3)
    assert shown.get_array().min() >= 0.5
    assert shown.get_array().max() <= 1


def test_a_tensor_is_drawn_like_the_same_array(tmp_path, saved):
    layer, image = BoxConv2d(1, 4, 11, 21), torch.randint(60, 90, (9, 14, 3), dtype=torch.uint8)
    for kind in (image, image.numpy()):
        layer.draw(tmp_path / "b.png", image=kind)
    first, second = (figure.axes[0].images[0].get_array() for figure in saved)
    np.testing.assert_array_equal(first, second)


def test_svg_is_whole_and_the_same_every_time(tmp_path):
    for name in ("a.svg", "b.svg"):
        draw_boxes(BOXES, tmp_path / name, map_size=(11, 21), title="a < b & c")
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"boxes": BOXES[:, :3]}, r"boxes must have shape \(n, 4\), n > 0, got \(4, 3\)"),
        ({"boxes": BOXES[:0]}, r"got \(0, 4\)"),
        ({"boxes": BOXES * [[1], [np.nan], [1], [np.inf]]}, "boxes must be finite, got 2 of 4 with edges that are"),
        ({"importance": [1, 2]}, r"importance must hold 4 numbers of at least 0, got shape \(2,\)"),
        ({"importance": [1, 2, 3, -1]}, "importance must hold 4 numbers of at least 0, got -1"),
        ({"centre": (1,)}, r"centre must be \(row, column\), two finite numbers, got \(1,\)"),
        ({"centre": (float("nan"), 1)}, "centre must be .* got"),
        ({"most": 0}, "most must be at least 1, got 0"),
        ({"image": np.zeros((1, 2, 3, 4, 5))}, r"image must be \(h, w\).*got \(1, 2, 3, 4, 5\)"),
        ({"path": "boxes.pdf"}, r"path must end in \.png or \.svg, got boxes\.pdf"),
    ],
)
def test_bad_arguments(tmp_path, change, message):
    arguments = {"boxes": BOXES, "path": tmp_path / "b.png", "map_size": (11, 21)} | change
    with pytest.raises(ValueError, match=message):
        draw_boxes(**arguments)
    assert not list(tmp_path.iterdir())


def test_the_layer_draws_itself_from_tensors(tmp_path, saved):
    layer = BoxConv2d(2, 2, 11, 21)
    layer.draw(tmp_path / "b.png", image=torch.rand(3, 5, 6), importance=torch.tensor([0.0, 1, 2, 3]), most=1)
    ((place, opacity),) = outlines(saved[0].axes[0])
    top, bottom, left, right = layer.boxes[1, 1].tolist()
    assert place == pytest.approx((top + 5, bottom + 5, left + 10, right + 10))
    assert opacity == 1
