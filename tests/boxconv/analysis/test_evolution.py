"""The boxes during training, as a picture and as an animation."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from box_convolution.drawing import SOFT
from boxconv.analysis.evolution import MIDDLE, Evolution, animation, snapshots, spread
from boxconv.reports.line_colours import BLUE, ORANGE


def evolution(states=9, boxes=20):
    rng = np.random.default_rng(0)
    start = np.sort(rng.uniform(-20, 20, (boxes, 2, 2)), -1).reshape(boxes, 4) + np.array([-1, 1, -1, 1])
    shrink = np.linspace(1, 0.3, states)[:, None, None]
    return Evolution(list(range(0, 10 * states, 10)), start * shrink, (30, 40))


def test_a_row_per_epoch_and_a_column_per_box(tmp_path, saved):
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
def test_the_key_fits_into_the_picture(tmp_path, saved, columns):
    snapshots(evolution(), tmp_path / "e.png", title="t", columns=columns)
    (key,) = saved[0].legends
    assert key.get_window_extent().x1 < saved[0].bbox.x1
    assert key.get_window_extent().y1 < saved[0].axes[-1].get_window_extent().y0


def test_the_most_important_first():
    boxes = np.arange(24.0).reshape(2, 3, 4)
    sorted_ = Evolution.most_important([0, 5], boxes, [1.0, np.nan, 3.0], (9, 9))
    assert (sorted_.boxes == boxes[:, [2, 0, 1]]).all()


def test_animation_shows_every_state_and_stays_at_the_end(tmp_path):
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


def test_many_states_are_thinned_out_with_the_first_and_last_kept(tmp_path):
    animation(evolution(states=30), tmp_path / "e.gif", title="t", columns=2, rows=1, frames=6)
    with Image.open(tmp_path / "e.gif") as film:
        assert film.n_frames == 6


@pytest.mark.parametrize("count, wanted, expected", [(3, 6, [0, 1, 2]), (61, 6, [0, 1, 4, 11, 26, 60])])
def test_epochs_are_chosen_ever_farther_apart(count, wanted, expected):
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
def test_colours_say_how_symmetric_a_box_is(tmp_path, saved, box, colour):
    snapshots(Evolution([0, 1], np.array([[box]] * 2, float), (9, 9)), tmp_path / "e.png", title="t")
    assert to_hex(saved[0].axes[0].patches[0].get_facecolor()) == colour


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"boxes must be finite and \(t, n, 4\) for t = 2 epochs, got \(3, 1, 4\)"):
        Evolution([0, 1], np.zeros((3, 1, 4)), (5, 5))
    with pytest.raises(ValueError, match=r"path must end in \.gif"):
        animation(evolution(), tmp_path / "e.png", title="t")
