"""Distance, in a drawn scene, from every pixel to the nearest object that tells it from its look-alike class."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .plan import SCENE_CLASSES, plan_scene
from .render import Mask, Plane, paint_scene


@dataclass(frozen=True)
class Question:
    """The question which of two look-alikes a pixel shows.

    sides: the classes of either look-alike. evidence: in words, what tells them apart.
    """

    name: str
    sides: tuple[tuple[str, ...], tuple[str, ...]]
    evidence: str


ROAD = Question("road or oncoming lane", (("road",), ("oncoming",)), "traffic sign")
PAVEMENT = Question("carriageway or pavement", (("road", "oncoming"), ("pavement",)), "dash, house or lawn")
TOWER = Question("sky or mirror glass", (("sky",), ("building",)), "roof line")
QUESTIONS = (ROAD, PAVEMENT, TOWER)


@dataclass(frozen=True)
class Asked:
    """A question in one scene.

    side: (height, width) int8, the right answer: 0 or 1 for the question's sides, -1 at pixels of other classes.
    distance: (height, width) float32, pixels to the nearest visible evidence; infinite if the scene shows none.
    """

    side: npt.NDArray[np.int8]
    distance: Plane


def ask(seed: int, height: int, width: int) -> Mapping[str, Asked]:
    """The `QUESTIONS`, by name, in the scene `draw_scene(seed, height, width)`.

    *Sky or mirror glass* is asked only between two upright lines. The evidence for glass is the roof line between them;
    for sky it is the gap at the height that was planned for a roof. A kerb is no evidence: its two sides look alike.
    """
    canvas = paint_scene(plan_scene(seed), height, width)
    label = canvas.labels()

    def of(*names: str) -> Mask:
        return np.isin(label, [SCENE_CLASSES.names.index(name) for name in names])

    sides = {question.name: tuple(of(*names) for names in question.sides) for question in (ROAD, PAVEMENT)}
    sides[TOWER.name] = canvas.where("gap"), canvas.where("glass")
    evidence = {
        ROAD.name: of("sign"),
        PAVEMENT.name: canvas.where("dash", "lawn", "front"),
        TOWER.name: canvas.where("roof", "open top"),
    }
    asked = {}
    for question in QUESTIONS:
        first, second = sides[question.name]
        side = np.where(first, 0, np.where(second, 1, -1)).astype(np.int8)
        asked[question.name] = Asked(side, distance_to(evidence[question.name]))
    return asked


def distance_to(things: Mask) -> Plane:
    """Exact distance, in pixels, from every pixel to the nearest pixel of ``things``; infinite if there is none."""
    if not things.any():
        return np.full(things.shape, np.inf, np.float32)
    height, width = things.shape
    far = height + width  # more than any distance in the image
    rows = np.arange(height)[:, None]
    above = np.maximum.accumulate(np.where(things, rows, -far))
    below = np.minimum.accumulate(np.where(things, rows, height + far)[::-1])[::-1]
    within_column = np.minimum(rows - above, below - rows) ** 2
    nearest = within_column.copy()
    for aside in range(1, width):
        if aside**2 >= nearest.max():
            break
        np.minimum(nearest[:, aside:], within_column[:, :-aside] + aside**2, out=nearest[:, aside:])
        np.minimum(nearest[:, :-aside], within_column[:, aside:] + aside**2, out=nearest[:, :-aside])
    return np.sqrt(nearest, dtype=np.float32)
