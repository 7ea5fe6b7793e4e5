"""Evidence in drawn scenes: it is where the picture shows it, and distances to it are exact."""

import numpy as np
import pytest

from boxconv.data.scenes.dataset import draw_scene
from boxconv.data.scenes.evidence import PAVEMENT, QUESTIONS, ROAD, TOWER, ask, distance_to
from boxconv.data.scenes.plan import SCENE_CLASSES

NAMES = SCENE_CLASSES.names


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (13, 29), (40, 17)])
def test_distances_are_those_of_brute_force(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    for share in (0.01, 0.2, 1.0):
        things = generator.random(shape) < share
        things.flat[generator.integers(things.size)] = True
        places, pixels = np.argwhere(things), np.argwhere(np.ones(shape, bool))
        expected = np.sqrt(((pixels[:, None] - places) ** 2).sum(-1)).min(1).reshape(shape)
        assert distance_to(things) == pytest.approx(expected, rel=1e-6)


def test_no_evidence_is_infinitely_far() -> None:
    assert np.isinf(distance_to(np.zeros((4, 5), bool))).all()


def test_every_pixel_asked_about_is_of_the_side_it_is_on() -> None:
    for seed in range(20):
        _, label = draw_scene(seed, 96, 192)
        asked = ask(seed, 96, 192)
        for question in QUESTIONS:
            for side, classes in enumerate(question.sides):
                found = np.unique(label[asked[question.name].side == side])
                assert set(found) <= {NAMES.index(name) for name in classes}
        ground = np.isin(label, [NAMES.index(name) for name in ("road", "oncoming")])
        assert ((asked[ROAD.name].side >= 0) == ground).all(), "all of the carriageway"
        assert ((asked[PAVEMENT.name].side == 0) == ground).all()
        assert (asked[ROAD.name].distance[label == NAMES.index("sign")] == 0).all()


def test_mirror_glass_ends_at_its_roof_and_the_sky_does_not() -> None:
    """Above the top pixel in a column, glass has a line (void), and a gap has more sky. Rarely, a thing hides it."""
    closed: dict[int, list[bool]] = {0: [], 1: []}
    for seed in range(30):
        _, label = draw_scene(seed, 96, 192)
        side = ask(seed, 96, 192)[TOWER.name].side
        for which in (0, 1):
            for column in np.flatnonzero((side == which).any(0)):
                top = int(np.flatnonzero(side[:, column] == which)[0])
                closed[which].append(bool(label[top - 1, column] == 255))
    assert np.mean(closed[1]) > 0.9
    assert np.mean(closed[0]) < 0.1


def test_how_far_the_evidence_is_as_the_scenes_say() -> None:
    """Medians in the docstring of `scenes.dataset`: 0.25 of the width, 0.07 of the width and 0.15 of the height."""
    distances = {question.name: [] for question in QUESTIONS}
    for seed in range(40):
        for name, asked in ask(seed, 96, 192).items():
            distances[name].append(asked.distance[asked.side >= 0])
    sign, ground, roof = (np.concatenate(found) for found in distances.values())
    assert np.median(sign) / 192 == pytest.approx(0.25, abs=0.04)
    assert np.median(ground) / 192 == pytest.approx(0.07, abs=0.02)
    assert np.median(roof) / 96 == pytest.approx(0.15, abs=0.04)
