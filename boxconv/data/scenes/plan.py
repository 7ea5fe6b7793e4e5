"""The plan of a drawn road scene: its classes, which things it shows, and where they are, without pixels.

`dataset` describes the rules that tell look-alike classes apart.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from ..class_table import ClassTable
from .look import BODIES, LAMPS, LEAVES, PERSON, POST, RGB, SIGNS, TREE, VEHICLE, WALLS, Part

SCENE_CLASSES = ClassTable(
    names=(
        "road", "oncoming", "pavement", "building", "sky", "vegetation",
        "car", "parked", "pedestrian", "pole", "sign",
    ),
    colours=(
        (128, 64, 128), (81, 0, 81), (244, 35, 232), (70, 70, 70), (70, 130, 180), (107, 142, 35),
        (0, 0, 142), (0, 110, 150), (220, 20, 60), (153, 153, 153), (220, 220, 0),
    ),
    categories=(
        "flat", "flat", "flat", "construction", "sky", "nature",
        "vehicle", "vehicle", "human", "object", "object",
    ),
)  # fmt: skip
"""Colours and categories are those of Cityscapes for the classes that it has."""

Choice = TypeVar("Choice")

EYE = 2.2
"""Height of the camera above the road in metres; things of this height reach up to the horizon."""


class Dice:
    """Random numbers that are the same on every machine. Each `stream` of a seed is independent of the others."""

    def __init__(self, seed: int, *stream: int) -> None:
        self.generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=stream)))

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.generator.random())

    def whole(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both included."""
        return int(self.generator.integers(low, high + 1))

    def pick(self, choices: Sequence[Choice]) -> Choice:
        return choices[self.whole(0, len(choices) - 1)]

    def near(self, colour: RGB) -> RGB:
        """A random colour similar to ``colour``."""
        change = self.whole(-14, 14)
        red, green, blue = (min(max(part + change + self.whole(-6, 6), 0), 255) for part in colour)
        return red, green, blue


@dataclass(frozen=True)
class Thing:
    """Something that stands on the ground: `parts` scaled by `size`, at `across` and `near` (see `Scene`)."""

    label: str
    parts: tuple[Part, ...]
    across: float
    near: float
    size: float = 1.0
    paint: dict[str, RGB] = field(default_factory=dict)


@dataclass(frozen=True)
class Front:
    """A house front or a hedge along the outer edge of the left (side -1) or right (1) pavement.

    start, end: depths (see `Scene`). tall: height in metres.
    """

    label: str
    side: int
    start: float
    end: float
    tall: float
    paint: RGB


@dataclass(frozen=True)
class Tower:
    """kind: "glass", "wall", or "gap" (no tower, only the line at its left edge). Places are fractions of the image."""

    kind: str
    left: float
    right: float
    top: float
    paint: RGB


@dataclass(frozen=True)
class Scene:
    """Everything that a picture shows, independent of its size.

    Lengths are in metres. Places in the image (horizon, vanish, bonnet, Tower, bushes) are fractions of its height or
    width. `across` and `camera` are distances to the right of the dashed line. `near` is the scale of things on the
    ground: 0 at the horizon, 1 where the ground meets the lower edge of the image. Depth (start, end) is 1 / near.

    own: the side on which one drives, -1 (left) or 1 (right). dashes: period and phase in depth.
    shadows: bands (start, end, slant) on the ground. bushes: (middle, half width, height) along the horizon.
    """

    seed: int
    horizon: float
    vanish: float
    camera: float
    lane: float
    pavements: tuple[float, float]
    own: int
    dashes: tuple[float, float]
    asphalt: RGB
    sky: RGB
    glow: int
    light: float
    noise: float
    bonnet: float
    shadows: tuple[tuple[float, float, float], ...] = ()
    towers: tuple[Tower, ...] = ()
    bushes: tuple[tuple[float, float, float], ...] = ()
    fronts: tuple[Front, ...] = ()
    things: tuple[Thing, ...] = ()

    @property
    def metre(self) -> float:
        """Width of one metre at near = 1, as a fraction of the image's width, for images twice as wide as high."""
        return (1 - self.horizon) / EYE / 2

    def kerb_to(self, side: int, part: float) -> float:
        """`across` of a place on the pavement of a side: part 0 is at the kerb, 1 at the outer edge."""
        return side * (self.lane + part * self.pavements[side > 0])

    def nearest(self, across: float) -> float:
        """The largest `near` at which a thing at `across` is still inside the image."""
        offset = (across - self.camera) * self.metre
        room = (0.96 - self.vanish) if offset > 0 else (self.vanish - 0.04)
        return room / max(abs(offset), 1e-3)


def plan_scene(seed: int) -> Scene:
    """Draw all random choices of a scene."""
    dice = Dice(seed)
    lane, grey = dice.between(3.2, 4.4), dice.whole(95, 125)
    street = Scene(
        seed=seed,
        horizon=dice.between(0.4, 0.52),
        vanish=dice.between(0.34, 0.66),
        camera=dice.between(-0.75, 0.75) * lane,
        lane=lane,
        pavements=(dice.between(2.6, 4.8), dice.between(2.6, 4.8)),
        own=dice.pick((-1, 1)),
        dashes=(dice.between(0.7, 1.2), dice.between(0.0, 1.0)),
        asphalt=(grey, grey, grey + 3),
        sky=(dice.whole(95, 160), dice.whole(150, 185), dice.whole(195, 225)),
        glow=dice.whole(15, 80),
        light=dice.between(0.75, 1.15),
        noise=dice.between(2.0, 6.0),
        bonnet=dice.between(0.03, 0.08) * dice.pick((0, 0, 1)),
    )
    shadows = []
    for _ in range(dice.whole(0, 2)):
        start = dice.between(1.0, 5.0)
        shadows.append((start, start * dice.between(1.1, 1.5), dice.between(-0.12, 0.12)))
    return replace(
        street,
        shadows=tuple(shadows),
        towers=tuple(_plan_towers(dice, street)),
        bushes=tuple((dice.between(0, 1), dice.between(0.03, 0.09), dice.between(0.015, 0.06)) for _ in range(9)),
        fronts=tuple(_plan_fronts(dice)),
        things=tuple(_plan_things(dice, street)),
    )


def _plan_towers(dice: Dice, street: Scene) -> Iterator[Tower]:
    """Adjacent towers and gaps from left to right; a line begins the first and ends the last."""
    left, end = street.vanish - dice.between(0.15, 0.3), street.vanish + dice.between(0.15, 0.3)
    while left < end:
        right = left + dice.between(0.07, 0.15)
        kind, wall = dice.pick(("glass", "glass", "gap", "gap", "wall")), dice.near(dice.pick(WALLS))
        yield Tower(kind, left, right, dice.between(0.03, 0.2), wall if kind == "wall" else street.sky)
        left = right
    yield Tower("gap", left, left, dice.between(0.03, 0.2), street.sky)


def _plan_fronts(dice: Dice) -> Iterator[Front]:
    for side in (-1, 1):
        depth, end = dice.between(0.3, 0.6), dice.between(7.0, 14.0)
        while depth < end:
            start, depth = depth, depth + dice.between(1.0, 3.5)
            if dice.whole(0, 9) < 6:
                yield Front("building", side, start, depth, dice.between(3.6, 7.0), dice.near(dice.pick(WALLS)))
            else:
                yield Front("vegetation", side, start, depth, dice.between(1.0, 2.4), dice.near(LEAVES))


def _plan_things(dice: Dice, street: Scene) -> list[Thing]:
    """Things in the order of painting: trees, then the rest, then signs, which nothing may hide; each far to near."""

    def put(label: str, parts: tuple[Part, ...], across: float, near: float, size: float = 1.0, **paint: RGB) -> Thing:
        return Thing(label, parts, across, min(near, 0.95 * street.nearest(across)), size, paint)

    def pavement(low: float, high: float) -> float:
        return street.kerb_to(dice.pick((-1, 1)), dice.between(low, high))

    trees, crowd, signs = [], [], []
    for _ in range(dice.whole(1, 4)):
        across, near, size = pavement(0.75, 0.95), dice.between(0.12, 0.5), dice.between(0.7, 1.0)
        red, green, blue = leaves = dice.near(LEAVES)
        shades = {"sunlit": (red + 28, green + 30, blue + 8), "dark": (red * 2 // 3, green * 2 // 3, blue * 2 // 3)}
        trees.append(put("vegetation", TREE, across, near, size, leaves=leaves, **shades))
    for _ in range(dice.whole(4, 7)):
        across = dice.between(-street.lane, street.lane) if dice.whole(0, 3) == 0 else pavement(0.1, 0.9)
        near, size = dice.between(0.2, 0.6), dice.between(0.85, 1.1)
        coat = dice.whole(30, 220), dice.whole(30, 220), dice.whole(30, 220)
        crowd.append(put("pedestrian", PERSON, across, near, size, coat=coat, trousers=dice.near((60, 60, 65))))
    half = 0.95  # half a vehicle's width and a little air
    for label in ("car",) * dice.whole(1, 3) + ("parked",) * dice.whole(1, 3):
        side = dice.pick((-1, 1))
        inner, outer = (0, street.lane) if label == "car" else (street.lane, abs(street.kerb_to(side, 1)))
        across = side * dice.between(inner + half + 0.2, outer - half - 0.05)
        crowd.append(put(label, VEHICLE, across, dice.between(0.18, 0.48), body=dice.near(dice.pick(BODIES))))
    for _ in range(dice.whole(2, 4)):
        across = pavement(0.1, 0.2)
        crowd.append(put("pole", LAMPS[across > 0], across, dice.between(0.12, 0.5)))
    for low, high in ((0.7, 0.95),) + ((0.3, 0.7),) * dice.whole(1, 2):
        across = street.kerb_to(street.own, dice.between(0.12, 0.3))
        near = min(0.7, street.nearest(across)) * dice.between(low, high)
        signs += [put("pole", POST, across, near), put("sign", dice.pick(SIGNS), across, near)]
    return [thing for group in (trees, crowd, signs) for thing in sorted(group, key=lambda thing: thing.near)]
