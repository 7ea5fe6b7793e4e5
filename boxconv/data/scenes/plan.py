"""The plan of a drawn road scene: its classes, the shapes and colours of things, and where they are, without pixels.

`dataset` describes the rules that tell look-alike classes apart.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from ..class_table import ClassTable

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

LOOK_ALIKE = (("road", "oncoming"), ("road", "pavement"), ("car", "parked"), ("sky", "building"))
"""Pairs of classes that look the same from close by; for `building` this holds for mirror-glass towers."""

RGB = tuple[int, int, int]
Part = tuple[str, float, float, float, float, str]
"""Shape ("box" or "ellipse"); left, right, low, high in metres from the middle of the foot; name of the colour."""
Choice = TypeVar("Choice")

EYE = 2.2
"""Height of the camera above the road in metres; things of this height reach up to the horizon."""

WALLS: tuple[RGB, ...] = ((150, 90, 70), (190, 170, 140), (165, 165, 160), (200, 185, 165), (140, 115, 100))
BODIES: tuple[RGB, ...] = (
    (190, 190, 190), (120, 125, 130), (50, 55, 60), (150, 45, 40), (50, 75, 130), (165, 150, 110),
)  # fmt: skip
LEAVES: RGB = (62, 98, 45)
PAINT: dict[str, RGB] = {
    "tyre": (25, 25, 28), "glass": (60, 75, 90), "lamp": (235, 225, 190), "plate": (215, 215, 205),
    "skin": (205, 150, 120), "bark": (85, 65, 50), "iron": (75, 78, 80), "white": (235, 235, 235),
    "red": (200, 30, 35), "blue": (25, 70, 190), "yellow": (240, 200, 30),
}  # fmt: skip

# Painted in this order: later parts cover earlier ones.
VEHICLE: tuple[Part, ...] = (
    ("ellipse", -1.1, 1.1, -0.2, 0.25, "shadow"),
    ("box", -0.85, -0.55, 0.0, 0.4, "tyre"), ("box", 0.55, 0.85, 0.0, 0.4, "tyre"),
    ("ellipse", -0.78, 0.78, 0.2, 1.55, "body"), ("ellipse", -0.66, 0.66, 0.3, 1.42, "glass"),
    ("box", -0.9, 0.9, 0.25, 0.85, "body"), ("box", -0.9, 0.9, 0.25, 0.33, "tyre"),
    ("box", -0.85, -0.58, 0.58, 0.74, "lamp"), ("box", 0.58, 0.85, 0.58, 0.74, "lamp"),
    ("box", -0.28, 0.28, 0.38, 0.52, "plate"),
)  # fmt: skip
PERSON: tuple[Part, ...] = (
    ("ellipse", -0.4, 0.4, -0.1, 0.1, "shadow"),
    ("box", -0.2, -0.03, 0.0, 0.85, "trousers"), ("box", 0.03, 0.2, 0.0, 0.85, "trousers"),
    ("ellipse", -0.29, 0.29, 0.7, 1.55, "coat"), ("ellipse", -0.13, 0.13, 1.44, 1.78, "skin"),
)  # fmt: skip
TREE: tuple[Part, ...] = (
    ("ellipse", -1.6, 1.6, -0.25, 0.25, "shadow"), ("box", -0.13, 0.13, 0.0, 2.6, "bark"),
    ("ellipse", -1.3, 1.3, 2.1, 4.2, "leaves"), ("ellipse", -1.0, 0.9, 3.0, 5.2, "leaves"),
    ("ellipse", -1.0, 0.3, 2.9, 4.1, "sunlit"), ("ellipse", -0.7, 0.4, 3.9, 5.0, "sunlit"),
    ("ellipse", -0.4, 1.05, 2.3, 3.1, "dark"),
)  # fmt: skip
POST: tuple[Part, ...] = (("box", -0.06, 0.06, 0.0, 2.3, "iron"),)
LAMPS: tuple[tuple[Part, ...], ...] = tuple(
    (("box", -0.07, 0.07, 0.0, 5.2, "iron"), ("box", *arm, 5.1, 5.25, "iron"), ("box", *head, 5.0, 5.15, "lamp"))
    for arm, head in (((0.0, 1.1), (0.8, 1.3)), ((-1.1, 0.0), (-1.3, -0.8)))
)
"""Two street lamps: with an arm to the right (for the left pavement), and with an arm to the left."""
SIGNS: tuple[tuple[Part, ...], ...] = (
    (("ellipse", -0.5, 0.5, 2.1, 3.1, "red"), ("ellipse", -0.3, 0.3, 2.3, 2.9, "white")),
    (("ellipse", -0.5, 0.5, 2.1, 3.1, "blue"), ("box", -0.1, 0.1, 2.3, 2.9, "white")),
    (("box", -0.45, 0.45, 2.1, 3.0, "blue"), ("box", -0.3, 0.3, 2.45, 2.65, "white")),
    (("box", -0.45, 0.45, 2.1, 3.0, "yellow"), ("ellipse", -0.2, 0.2, 2.35, 2.75, "tyre")),
)


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
