"""Pictures are complete, show the given data, and do not change matplotlib's global state."""

import os
import subprocess
import sys
from pathlib import Path

import demo_pictures
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from boxconv.data.class_table import ClassTable
from boxconv.reports.coloured_labels import VOID, VOID_STRIPE, WRONG, errors_picture
from boxconv.reports.prediction_picture import prediction_panel
from boxconv.reports.training_pictures import class_bars, training_curves

ROOT = Path(__file__).parents[1]


TABLE = ClassTable(("sky", "road", "tree"), ((70, 130, 180), (128, 64, 128), (107, 142, 35)))


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        picture.load()
        return picture.size


def legend_texts(figure: Figure) -> list[str]:
    legends = figure.legends + [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def rows(*sizes: tuple[int, int]):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    truths = [rng.integers(0, 2, size) for size in sizes]
    return images, truths, [truth.copy() for truth in truths]


class TestPredictionPanel:
    def test_names_of_the_classes_that_occur_stand_in_the_legend(self, tmp_path, saved):
        images, truths, predictions = rows((6, 12), (9, 12))
        prediction_panel(images, truths, predictions, TABLE, tmp_path / "panel.png", titles=["one", "two"])
        assert legend_texts(saved[0]) == ["sky", "road", "wrong", "void, not scored"]
        texts = [text.get_text() for text in saved[0].texts]
        assert {"one", "two", "Image", "Truth", "Prediction", "Errors", "100.0% of the pixels right"} <= set(texts)
        assert len(saved[0].axes) == 8
        width, height = size(tmp_path / "panel.png")
        assert 1500 < width < 2500
        assert 500 < height < 1500

    def test_label_colours_are_the_tables(self, tmp_path, saved):
        truth = np.array([[0, 1, 2], [2, 1, 255]])
        prediction_panel([np.zeros((2, 3, 3), np.uint8)], [truth], [truth], TABLE, tmp_path / "panel.png")
        shown = saved[0].axes[1].images[0].get_array()
        assert [tuple(pixel) for pixel in shown[0]] == list(TABLE.colours)
        assert tuple(shown[1, 2]) in (VOID, VOID_STRIPE)

    def test_without_truths_there_is_nothing_to_score(self, tmp_path, saved):
        images, _, predictions = rows((6, 12), (9, 12))
        prediction_panel(images, None, predictions, TABLE, tmp_path / "panel.png")
        assert {text.get_text() for text in saved[0].texts} == {"Image", "Prediction"}
        assert legend_texts(saved[0]) == ["sky", "road", "void, not scored"]
        assert len(saved[0].axes) == 4

    def test_many_long_names_and_unlabelled_images(self, tmp_path, saved):
        count = 40
        names = tuple(f"a rather long class name {k}" for k in range(count))
        table = ClassTable(names, tuple((k, 0, 0) for k in range(count)))
        truth = np.full((5, 8), 255)
        prediction = np.arange(count).reshape(5, 8)
        prediction_panel([np.zeros((5, 8, 3), np.uint8)], [truth], [prediction], table, tmp_path / "p.png")
        assert "nothing to score" in [text.get_text() for text in saved[0].texts]
        box = saved[0].legends[0].get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= saved[0].bbox.x1

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda i, t, p: (i, t, p[:1]), "as many"),
            (lambda i, t, p: ([], [], []), "at least one"),
            (lambda i, t, p: ([i[0], i[1] / 255.0], t, p), r"images\[1\]"),
            (lambda i, t, p: (i, [t[0].T, t[1]], p), r"truths\[0\]"),
            (lambda i, t, p: (i, t, [p[0], p[1].astype(float)]), r"predictions\[1\]"),
        ],
    )
    def test_bad_rows_are_named(self, tmp_path, change, message):
        images, truths, predictions = change(*rows((4, 6), (4, 6)))
        with pytest.raises(ValueError, match=message):
            prediction_panel(images, truths, predictions, TABLE, tmp_path / "panel.png")
        assert not list(tmp_path.iterdir())

    def test_bad_titles(self, tmp_path):
        with pytest.raises(ValueError, match="titles"):
            prediction_panel(*rows((4, 6)), TABLE, tmp_path / "panel.png", titles=["one", "two"])


def test_errors_picture_marks_wrong_and_void():
    truth = np.array([[0, 1, 3, 2]])
    prediction = np.array([[0, 2, 1, 3]])
    picture, right = errors_picture(np.zeros((1, 4, 3), np.uint8), truth, prediction, void=3)
    assert tuple(picture[0, 1]) == tuple(picture[0, 3]) == WRONG
    assert tuple(picture[0, 0]) == (178, 178, 178)
    assert tuple(picture[0, 2]) in (VOID, VOID_STRIPE)
    assert right == pytest.approx(1 / 3)


class TestBoxesOverMap:
    before = np.array([[-2.5, 1.5, -3.0, 2.0], [-1.0, 1.0, -1.0, 1.0], [0.5, 3.0, -2.0, 4.5]])
    after = before + np.array([[0, 0, 0, 0.5], [-9, 0, 0, 0], [0, 2, 0, 0]])

    def rectangles(self, figure: Figure, panel: int) -> list[Rectangle]:
        return [patch for patch in figure.axes[panel].patches if isinstance(patch, Rectangle)][1:]  # first: the map

    def test_boxes_lie_around_the_output_pixel(self, tmp_path, saved):
        demo_pictures.boxes_over_map(
            np.eye(7, 9), self.before[:1], self.after[:1], tmp_path / "b.png", title="t", centre=(2, 5)
        )
        [box] = self.rectangles(saved[0], 0)
        top, left = box.get_y(), box.get_x()
        assert (top, top + box.get_height(), left, left + box.get_width()) == (-0.5, 3.5, 2.0, 7.0)

    def test_colours_match_and_limits_hold_every_box(self, tmp_path, saved):
        demo_pictures.boxes_over_map(np.zeros((7, 9)), self.before, self.after, tmp_path / "b.png", title="t")
        old, new = (self.rectangles(saved[0], panel) for panel in (0, 1))
        assert {box.get_edgecolor() for box in old} == {box.get_edgecolor() for box in new}
        assert len({box.get_edgecolor() for box in old}) == 3
        for axes in saved[0].axes:
            bottom, top = axes.get_ylim()
            assert top < 3 - 10 < 3 + 5 < bottom
            assert axes.get_aspect() == 1
        assert legend_texts(saved[0])[0] == "box 1: 9.0 px"
        width, height = size(tmp_path / "b.png")
        assert 800 < width < 2000
        assert 300 < height < 1200

    def test_of_many_boxes_the_farthest_movers_stand_out(self, tmp_path, saved):
        before = np.tile([[-1.0, 1.0, -1.0, 1.0]], (80, 1))
        after = before.copy()
        after[[3, 50], 1] += (2, 5)
        demo_pictures.boxes_over_map(np.zeros((8, 8)), before, after, tmp_path / "b.png", title="t")
        texts = legend_texts(saved[0])
        assert texts[:2] == ["box 50: 5.0 px", "box 3: 2.0 px"]
        assert "72 others" in texts
        demo_pictures.boxes_over_map(np.zeros((8, 8)), before, after, tmp_path / "b.png", title="t", highlight=[7])
        assert legend_texts(saved[1])[:2] == ["box 7: 0.0 px", "79 others"]

    def test_flat_map_has_room_for_its_legend(self, tmp_path, saved):
        boxes = np.tile([[-0.5, 0.5, -1.0, 1.0]], (12, 1))
        demo_pictures.boxes_over_map(np.zeros((1, 64)), boxes, boxes, tmp_path / "b.png", title="t")
        assert saved[0].legends[0].get_window_extent().y0 >= 0

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"feature_map": np.zeros((1, 7, 9))}, "feature_map"),
            ({"feature_map": np.full((7, 9), np.nan)}, "feature_map"),
            ({"feature_map": np.zeros((0, 9))}, "feature_map"),
            ({"before": np.zeros((3, 3))}, "before"),
            ({"after": np.zeros((2, 4))}, "after"),
            ({"highlight": [3]}, "highlight"),
            ({"path": "boxes.jpg"}, "path must end in .png"),
        ],
    )
    def test_bad_arguments_are_named(self, tmp_path, change, message):
        good = {"feature_map": np.zeros((7, 9)), "before": self.before, "after": self.after, "path": tmp_path / "b.png"}
        with pytest.raises(ValueError, match=message):
            demo_pictures.boxes_over_map(**(good | change), title="t")


class TestTrainingCurves:
    def test_missing_values_are_left_out(self, tmp_path, saved):
        records = [
            {"epoch": 1, "train_loss": 2.0, "learning_rate": 1e-3},
            {"epoch": 2, "train_loss": float("nan"), "val_class_iou": 0.25, "val_pixel_accuracy": None},
            {"epoch": 3, "train_loss": 1.0, "val_class_iou": 0.5, "other": "x"},
        ]
        training_curves(records, tmp_path / "deep" / "curves.png")
        assert [axes.get_ylabel() for axes in saved[0].axes] == ["training loss", "validation, %", "learning rate"]
        assert saved[0].axes[0].lines[0].get_xydata().tolist() == [[1, 2], [3, 1]]
        assert legend_texts(saved[0]) == ["class IoU, best 50.0 at epoch 3"]
        width, height = size(tmp_path / "deep" / "curves.png")
        assert 800 < width < 1500
        assert 600 < height < 1500

    def test_only_panels_with_values(self, tmp_path, saved):
        training_curves([{"train_loss": 1.0}], tmp_path / "curves.png")
        assert len(saved[0].axes) == 1

    @pytest.mark.parametrize("records", [[], [{"epoch": 1}], [{"epoch": 1, "train_loss": None}]])
    def test_nothing_to_draw(self, tmp_path, records):
        with pytest.raises(ValueError, match="records hold none of train_loss"):
            training_curves(records, tmp_path / "curves.png")


class TestClassBars:
    def test_best_first_and_absent_last(self, tmp_path, saved):
        class_bars({"sky": 0.2, "road": None, "tree": 0.8}, TABLE, tmp_path / "bars.png")
        [axes] = saved[0].axes
        assert [label.get_text() for label in axes.get_yticklabels()] == ["tree", "sky", "road"]
        assert [bar.get_width() for bar in axes.patches] == pytest.approx([80, 20])
        assert "mean 50.0" in [text.get_text() for text in axes.texts]
        assert size(tmp_path / "bars.png")[0] == 1050

    def test_all_absent(self, tmp_path):
        class_bars({"sky": None, "road": float("nan")}, TABLE, tmp_path / "bars.png")
        assert (tmp_path / "bars.png").is_file()

    @pytest.mark.parametrize("iou", [{}, {"sea": 0.5}])
    def test_unknown_class(self, tmp_path, iou):
        with pytest.raises(ValueError, match="iou must name classes"):
            class_bars(iou, TABLE, tmp_path / "bars.png")


def test_a_failed_picture_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")

    def fail(self: Figure, target, **kwargs) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        training_curves([{"train_loss": 1.0}], path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("curves.png", b"old")]


def test_matplotlib_is_imported_late_and_pyplot_never(tmp_path):
    program = f"""
import sys
from boxconv.reports import html, prediction_picture
from boxconv.reports.training_pictures import training_curves
assert "matplotlib" not in sys.modules
training_curves([{{"train_loss": 1.0}}], {str(tmp_path / "curves.png")!r})
import matplotlib
assert "matplotlib.pyplot" not in sys.modules
assert matplotlib.rcParams["font.size"] == matplotlib.rcParamsDefault["font.size"]
"""
    paths = os.pathsep.join([*map(str, (ROOT, ROOT / "examples")), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONPATH": paths})
