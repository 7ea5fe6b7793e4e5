"""Pictures of boxes: drawn where they are, as opaque as they are important; and their way through training."""

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")

from matplotlib.colors import to_hex  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

from box_convolution import BoxConv2d  # noqa: E402
from box_convolution.analysis import plots  # noqa: E402
from box_convolution.analysis.box_picture import draw_boxes  # noqa: E402
from box_convolution.analysis.canvas import BLUE, ORANGE, SOFT  # noqa: E402
from box_convolution.analysis.evolution import MIDDLE, Evolution, animation, snapshots, spread  # noqa: E402

BOXES = np.array([[-1, 1, -2, 2], [-3, 4, -5, 6], [0, 1, 0, 1], [-30, -20, 3, 9]], float)


@pytest.fixture
def saved(monkeypatch):
    """The figures that were saved, for looking into them."""
    figures = []
    save = Figure.savefig

    def record(self, *args, **kwargs):
        figures.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", record)
    return figures


def outlines(axes):
    """The boxes' outlines: (top, bottom, left, right) and opacity, largest first."""
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_linewidth() == 1.5]
    return [
        ((p.get_y(), p.get_y() + p.get_height(), p.get_x(), p.get_x() + p.get_width()), p.get_alpha()) for p in found
    ]


class TestDrawing:
    def test_boxes_lie_around_the_output_pixel_with_the_opacity_of_their_importance(self, tmp_path, saved):
        weight = [1.0, 4.0, 2.0, np.nan]
        draw_boxes(BOXES, tmp_path / "b.png", map_size=(11, 21), importance=weight, centre=(2, 3))
        drawn = dict(outlines(saved[0].axes[0]))
        for box, opacity in zip(BOXES, (0.25, 1, 0.5, 0), strict=True):
            place = tuple(box + np.array([2, 2, 3, 3]))
            assert drawn[place] == pytest.approx(0.08 + 0.92 * opacity)

    def test_all_of_a_box_is_in_the_picture(self, tmp_path, saved):
        draw_boxes(BOXES, tmp_path / "b.png", map_size=(11, 21))
        axes = saved[0].axes[0]
        assert axes.get_ylim()[1] < 5 - 30
        assert axes.get_ylim()[0] > 10.5
        assert axes.get_xlim()[1] > 20.5

    def test_the_most_important_or_else_the_largest(self, tmp_path, saved):
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
    def test_images_of_any_kind_are_stretched_over_the_map(self, tmp_path, saved, shape, dtype):
        image = (np.arange(np.prod(shape)).reshape(shape) % 251).astype(dtype)
        draw_boxes(BOXES, tmp_path / "b.png", map_size=(11, 21), image=image)
        (shown,) = saved[0].axes[0].images
        assert shown.get_extent() == [-0.5, 20.5, 10.5, -0.5]
        assert shown.get_array().shape == (9, 14, 3)
        assert shown.get_array().min() >= 0.5
        assert shown.get_array().max() <= 1

    def test_svg_is_whole_and_the_same_every_time(self, tmp_path):
        for name in ("a.svg", "b.svg"):
            draw_boxes(BOXES, tmp_path / name, map_size=(11, 21), title="a < b & c")
        assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"boxes": BOXES[:, :3]}, r"boxes must be finite and have shape \(n, 4\), n > 0, got \(4, 3\)"),
            ({"boxes": BOXES[:0]}, r"got \(0, 4\)"),
            ({"boxes": BOXES * np.nan}, "boxes must be finite"),
            ({"importance": [1, 2]}, r"importance must hold 4 numbers of at least 0, got shape \(2,\)"),
            ({"importance": [1, 2, 3, -1]}, "importance must hold 4 numbers of at least 0"),
            ({"most": 0}, "most must be at least 1, got 0"),
            ({"image": np.zeros((1, 2, 3, 4, 5))}, r"image must be \(h, w\).*got \(1, 2, 3, 4, 5\)"),
            ({"path": "boxes.pdf"}, r"path must end in \.png or \.svg, found boxes\.pdf"),
        ],
    )
    def test_bad_arguments(self, tmp_path, change, message):
        arguments = {"boxes": BOXES, "path": tmp_path / "b.png", "map_size": (11, 21)} | change
        with pytest.raises(ValueError, match=message):
            draw_boxes(**arguments)
        assert not list(tmp_path.iterdir())

    def test_the_layer_draws_itself_from_tensors(self, tmp_path, saved):
        layer = BoxConv2d(2, 2, 11, 21)
        layer.draw(tmp_path / "b.png", image=torch.rand(3, 5, 6), importance=torch.tensor([0.0, 1, 2, 3]), most=1)
        ((place, opacity),) = outlines(saved[0].axes[0])
        top, bottom, left, right = layer.boxes[1, 1].tolist()
        assert place == pytest.approx((top + 5, bottom + 5, left + 10, right + 10))
        assert opacity == 1


def evolution(states=9, boxes=20):
    rng = np.random.default_rng(0)
    start = np.sort(rng.uniform(-20, 20, (boxes, 2, 2)), -1).reshape(boxes, 4) + np.array([-1, 1, -1, 1])
    shrink = np.linspace(1, 0.3, states)[:, None, None]
    return Evolution(list(range(0, 10 * states, 10)), start * shrink, (30, 40))


class TestEvolution:
    def test_a_row_per_epoch_and_a_column_per_box(self, tmp_path, saved):
        snapshots(evolution(), tmp_path / "e.png", title="t", rows=4, columns=5)
        assert len(saved[0].axes) == 20
        texts = [text.get_text() for text in saved[0].texts]
        assert [text for text in texts if text.startswith("epoch")] == [f"epoch\n{e}" for e in (0, 10, 30, 80)]
        assert "the 5 most important boxes of 20, from left to right" in texts
        top, bottom, left, right = evolution().boxes[-1, 4]
        (patch,) = saved[0].axes[-1].patches
        assert (patch.get_y(), patch.get_x()) == pytest.approx((top, left))
        assert (patch.get_height(), patch.get_width()) == pytest.approx((bottom - top, right - left))

    @pytest.mark.parametrize("columns", [1, 14])
    def test_the_key_fits_into_the_picture(self, tmp_path, saved, columns):
        snapshots(evolution(), tmp_path / "e.png", title="t", columns=columns)
        (key,) = saved[0].legends
        assert key.get_window_extent().x1 < saved[0].bbox.x1
        assert key.get_window_extent().y1 < saved[0].axes[-1].get_window_extent().y0

    def test_the_most_important_first(self):
        boxes = np.arange(24.0).reshape(2, 3, 4)
        sorted_ = Evolution.most_important([0, 5], boxes, [1.0, np.nan, 3.0], (9, 9))
        assert (sorted_.boxes == boxes[:, [2, 0, 1]]).all()

    def test_animation_shows_every_state_and_stays_at_the_end(self, tmp_path):
        animation(evolution(states=5), tmp_path / "e.gif", title="t", columns=4, rows=2)
        with Image.open(tmp_path / "e.gif") as film:
            assert film.n_frames == 5
            frames = []
            for k in range(5):
                film.seek(k)
                frames.append(np.asarray(film.convert("RGB")))
                durations = film.info["duration"]
        assert durations == 2000
        assert all((one != other).any() for one, other in pairwise(frames))

    def test_many_states_are_thinned_out_with_the_first_and_last_kept(self, tmp_path):
        animation(evolution(states=30), tmp_path / "e.gif", title="t", columns=2, rows=1, frames=6)
        with Image.open(tmp_path / "e.gif") as film:
            assert film.n_frames == 6

    @pytest.mark.parametrize("count, wanted, expected", [(3, 6, [0, 1, 2]), (61, 6, [0, 1, 4, 11, 26, 60])])
    def test_epochs_are_chosen_ever_farther_apart(self, count, wanted, expected):
        assert spread(count, wanted) == expected
        for n in range(1, 40):
            chosen = spread(n, 6)
            assert chosen[0] == 0
            assert chosen[-1] == n - 1
            assert len(chosen) == min(n, 6)

    @pytest.mark.parametrize(
        "box, colour",
        [
            ([-3, 3, -4, 4], BLUE),
            ([-3, 3, 4, 8], ORANGE),
            ([-3, 3, -4, 0], ORANGE),
            ([-3, 3, -2, 4], MIDDLE),
            ([-3, 3, -0.5, 0.5], SOFT),
            ([2, 3.04, -4, 4], SOFT),
        ],
    )
    def test_colours_say_how_symmetric_a_box_is(self, tmp_path, saved, box, colour):
        snapshots(Evolution([0, 1], np.array([[box]] * 2, float), (9, 9)), tmp_path / "e.png", title="t")
        assert to_hex(saved[0].axes[0].patches[0].get_facecolor()) == colour

    def test_bad_arguments(self, tmp_path):
        with pytest.raises(ValueError, match=r"boxes must be finite and \(t, n, 4\) for t = 2 epochs, got \(3, 1, 4\)"):
            Evolution([0, 1], np.zeros((3, 1, 4)), (5, 5))
        with pytest.raises(ValueError, match=r"path must end in \.gif"):
            animation(evolution(), tmp_path / "e.png", title="t")


class TestPlots:
    def test_one_mark_per_box_with_an_importance(self, tmp_path, saved):
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

    def test_curves_by_level_and_network(self, tmp_path, saved):
        one, two = np.linspace(0.1, 1, 50), np.linspace(0.5, 1, 50)
        plots.energy_curves({"output": {"a": one, "b": two}, "early": {"b": two}}, tmp_path / "p.png", title="t")
        left, right = saved[0].axes
        assert [line.get_label() for line in left.lines][:2] == ["a", "b"]
        assert left.lines[0].get_ydata().tolist() == one.tolist()
        assert left.lines[1].get_color() == right.lines[0].get_color(), "a network keeps its colour"
        with pytest.raises(ValueError, match="levels must hold at least one network each"):
            plots.energy_curves({"output": {}}, tmp_path / "q.png", title="t")

    def test_histograms_are_in_percent(self, tmp_path, saved):
        now = {"left and right": [0.05, 0.05, 0.95, 0.95], "top and bottom": [0.5]}
        plots.symmetry_histogram(now, {"left and right": [0.5], "top and bottom": [0.5]}, tmp_path / "p.png", title="t")
        heights = [patch.get_height() for patch in saved[0].axes[0].patches if isinstance(patch, Rectangle)]
        assert heights == [50, 0, 0, 0, 0, 0, 0, 0, 0, 50]

    @pytest.mark.parametrize("value, text", [(None, "–"), (float("nan"), "–"), (1234, "1,234"), (1234.567, "1,234.57")])
    def test_numbers_for_tables(self, value, text):
        assert plots.rounded(value) == text
