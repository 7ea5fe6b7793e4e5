"""Road scenes drawn by program: an endless data set that needs no download, made so that seeing far is what pays.

Of the eleven classes most can be told by a close look, but three groups **look exactly alike** from close by (same
colours, light and noise) and differ only in where they are:

- `road`, `oncoming`, `pavement`: one grey asphalt. *Pavement* lies between a kerb (a light line, the same on both
  sides) and the houses or lawns; the carriageway lies between the two kerbs and is halved by a sparsely dashed line.
  The half on the side of the traffic signs is *road*, the other one *oncoming*: signs stand only on the side on which
  one drives, left or right with equal chances.
- `car`, `parked`: the same vehicles. A *car* stands between the kerbs, a *parked* one beyond a kerb.
- `sky`, `building`: towers of mirror glass show the sky behind them. Upright lines divide the sky above the horizon;
  what is between two of them is *building* if a roof line closes it at the top, else *sky*. (Other buildings have walls
  and windows.)

How far off the evidence is, median and 90th percentile over the pixels concerned: the nearest sign 0.25 and 0.46 of the
image's width (road or oncoming); the nearest dash, house or lawn 0.07 and 0.15 of the width (carriageway or pavement);
the roof 0.15 and 0.30 of the height (mirror glass or sky). The camera stands anywhere on the carriageway, so the place
in the image tells little. The lines, and the bonnet of the car with the camera, are void: they are on neither side.

A scene is planned first (`plan_scene`: metres and fractions of the image, no pixel) and drawn then (`render`), at any
size. Both use integer random numbers and + - * / only, which are exact everywhere: the same arguments give the same
bytes on every machine.
"""

import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, SupportsIndex, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from box_convolution.segmentation.classes import VOID, ClassTable
from box_convolution.segmentation.datasets import seeded

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
"""Colours and categories are those of Cityscapes where it has the class."""

LOOK_ALIKE = (("road", "oncoming"), ("road", "pavement"), ("car", "parked"), ("sky", "building"))
"""Pairs of classes that look the same from close by; of `building`, the mirror-glass towers."""

RGB = tuple[int, int, int]
Part = tuple[str, float, float, float, float, str]
"""Shape ("box" or "ellipse"); left, right, low, high in metres from the middle of the foot; the name of its colour."""
Image8 = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Choice = TypeVar("Choice")

EYE = 2.2
"""Height of the camera above the road, in metres: whatever is this tall reaches up to the horizon."""

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
"""With an arm to the right (for the left pavement) and to the left."""
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
        """A colour somewhat like this one."""
        change = self.whole(-14, 14)
        red, green, blue = (min(max(part + change + self.whole(-6, 6), 0), 255) for part in colour)
        return red, green, blue


@dataclass(frozen=True)
class Thing:
    """Something upright on the ground, `parts` scaled by `size`."""

    label: str
    parts: tuple[Part, ...]
    across: float
    near: float
    size: float = 1.0
    paint: dict[str, RGB] = field(default_factory=dict)


@dataclass(frozen=True)
class Front:
    """A house front or a hedge along the outer edge of the left (side -1) or right (1) pavement."""

    label: str
    side: int
    start: float
    end: float
    tall: float
    paint: RGB


@dataclass(frozen=True)
class Tower:
    """kind: "glass", "wall", or "gap": no tower, only the line at its left edge."""

    kind: str
    left: float
    right: float
    top: float
    paint: RGB


@dataclass(frozen=True)
class Scene:
    """Everything a picture shows, whatever its size.

    Lengths are in metres; places in the image (horizon, vanish, bonnet, Tower, bushes) are fractions of its height or
    width. `across` and `camera` count from the dashed line to the right. `near` is the scale of what stands on the
    ground: 0 at the horizon, 1 where the ground meets the lower edge of the image; depth (start, end) is 1 / near.

    own: the side, -1 or 1, on which one drives. dashes: period and phase in depth.
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
        """A metre across at near = 1 as a fraction of the width, when the image is twice as wide as high."""
        return (1 - self.horizon) / EYE / 2

    def kerb_to(self, side: int, part: float) -> float:
        """`across` of a place on a pavement: part 0 is at the kerb, 1 at its outer edge."""
        return side * (self.lane + part * self.pavements[side > 0])

    def nearest(self, across: float) -> float:
        """How near a thing may stand and still be inside the image."""
        offset = (across - self.camera) * self.metre
        room = (0.96 - self.vanish) if offset > 0 else (self.vanish - 0.04)
        return room / max(abs(offset), 1e-3)


def plan_scene(seed: int) -> Scene:
    """Decides what there is to see."""
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
    """Neighbours from left to right, beginning and ending with a line."""
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
    """In the order of painting: trees, then the rest from far to near, then the signs, which nothing may hide."""

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


class Canvas:
    """A grid (height, width) of paint numbers. A paint has a colour, a label and a roughness, and an even number.

    The odd number after it is the same paint in the shade, so that shadows need no second grid. All is the first paint
    until something is painted over it.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.grid = np.zeros((height, width), np.int16)
        self._paints: dict[tuple[RGB, int, float], int] = {}

    def paint(self, colour: RGB, label: str) -> np.int16:
        """The number of a paint; `label` is a class name or "void"."""
        value = VOID if label == "void" else SCENE_CLASSES.names.index(label)
        rough = 2.0 if label == "vegetation" else 1.0
        return np.int16(self._paints.setdefault((colour, value, rough), 2 * len(self._paints)))

    def box(self, top: float, bottom: float, left: float, right: float, paint: np.int16) -> None:
        """Fills a box of at least one pixel a side; edges are fractions of the image."""
        self.grid[_span(top, bottom, self.height), _span(left, right, self.width)] = paint

    def ellipse(self, top: float, bottom: float, left: float, right: float, paint: np.int16 | None) -> None:
        """Fills the ellipse inscribed in a box, or casts a shadow of this shape if `paint` is None."""
        rows, columns = _span(top, bottom, self.height), _span(left, right, self.width)
        down = (_centres(rows, self.height) - (top + bottom) / 2) / ((bottom - top) / 2)
        over = (_centres(columns, self.width) - (left + right) / 2) / ((right - left) / 2)
        inside = (down * down)[:, None] + over * over <= 1
        if paint is None:
            self.grid[rows, columns] |= inside
        else:
            self.grid[rows, columns][inside] = paint

    def labels(self) -> Image8:
        return np.array([value for _, value, _ in self._paints], np.uint8).take(self.grid >> 1)

    def colours(self) -> Plane:
        """(4, height, width): red, green, blue, roughness."""
        table = np.array([(*colour, rough) for colour, _, rough in self._paints], np.float32).repeat(2, 0).T
        table[:3, 1::2] *= np.float32(0.6)
        return table.take(self.grid, 1)


def _span(low: float, high: float, count: int) -> slice:
    """The pixels (of `count`) whose centres lie between two fractions of the image; at least one, unless outside."""
    first = math.floor(low * count + 0.5)
    last = max(first + 1, math.floor(high * count + 0.5))
    return slice(min(max(first, 0), count), min(max(last, 0), count))


def _centres(pixels: slice, count: int) -> Plane:
    """Pixel centres as fractions of the image."""
    return (np.arange(pixels.start, pixels.stop, dtype=np.float32) + np.float32(0.5)) / np.float32(count)


def _blobs(dice: Dice, shape: tuple[int, int], rows: int, columns: int) -> Plane:
    """Soft random blobs between -1 and 1 of the given shape, interpolated between `rows` x `columns` knots."""
    values = dice.generator.integers(-128, 128, (rows, columns)).astype(np.float32) / np.float32(128)
    for axis, (knots, count) in enumerate(zip((rows, columns), shape, strict=True)):
        at = _centres(slice(0, count), count) * np.float32(knots - 1)
        low = at.astype(np.intp)
        part = (at - low.astype(np.float32)).reshape((-1, 1) if axis == 0 else (1, -1))
        values = values.take(low, axis) * (1 - part) + values.take(low + 1, axis) * part
    return values


def render(scene: Scene, height: int, width: int) -> tuple[Image8, Image8]:
    """Image (height, width, 3) and label map (height, width)."""
    canvas = Canvas(height, width)
    sky, glass = canvas.paint(scene.sky, "sky"), canvas.paint(scene.sky, "building")
    _draw_towers(canvas, scene)
    _draw_ground(canvas, scene)
    for front in scene.fronts:
        _draw_front(canvas, scene, front)
    for thing in scene.things:
        _draw_thing(canvas, scene, thing)
    if scene.bonnet:
        canvas.ellipse(1 - scene.bonnet, 1 + 3 * scene.bonnet, -0.1, 1.1, canvas.paint((40, 42, 48), "void"))

    colours = canvas.colours()
    image, rough = colours[:3], colours[3]
    dice = Dice(scene.seed, 1)
    # What mirrors the sky gets what the sky has in the same row, so that the two differ in nothing.
    above = canvas.grid[_span(0, scene.horizon, height)]
    glow = _centres(slice(0, len(above)), height)[:, None] / np.float32(scene.horizon)
    glow = (glow + _blobs(dice, (height, width), 9, 7)[: len(above)]) * ((above == sky) | (above == glass))
    image[:, : len(above)] += glow * np.array((scene.glow, scene.glow / 2, scene.glow / 8), np.float32)[:, None, None]
    image *= _blobs(dice, (height, width), 4, 6) * np.float32(0.12) + np.float32(scene.light)
    grain = np.frombuffer(dice.generator.bytes(5 * height * width), np.uint8).reshape(5, height, width)
    grain = grain.astype(np.float32) * np.float32(scene.noise / 104)  # 104: the deviation of a difference of two bytes
    image += (grain[0] - grain[1]) * rough
    image += grain[2:] - np.float32(127.5 * scene.noise / 104)
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0)), canvas.labels()


def _draw_towers(canvas: Canvas, scene: Scene) -> None:
    """The distance: towers, the lines that divide the sky, and trees where the ground meets it."""
    line, pane = canvas.paint((70, 75, 85), "void"), canvas.paint(PAINT["glass"], "building")
    thick = 0.006
    before = 1.0
    for tower in scene.towers:
        left, right, top = tower.left, tower.right, tower.top
        if tower.kind != "gap":
            canvas.box(top, scene.horizon, left, right, canvas.paint(tower.paint, "building"))
            canvas.box(top - 2 * thick, top, left, right, line)
        if tower.kind == "wall":
            window = (right - left) / 4
            for floor, place in itertools.product(range(6), (0.15, 0.6)):
                lintel, jamb = top + 0.04 + 0.06 * floor, left + place * (right - left)
                canvas.box(lintel, lintel + 0.03, jamb, jamb + window, pane)
        canvas.box(min(top, before), scene.horizon, left, left + thick, line)
        before = top
    for middle, half, tall in scene.bushes:
        edges = scene.horizon - tall, scene.horizon + tall, middle - half, middle + half
        canvas.ellipse(*edges, canvas.paint(LEAVES, "vegetation"))


def _draw_ground(canvas: Canvas, scene: Scene) -> None:
    """Carriageway, pavements and lawns in perspective, with kerbs, the dashed line and shadows."""
    road, oncoming, pavement = (canvas.paint(scene.asphalt, name) for name in ("road", "oncoming", "pavement"))
    kerb, dash = canvas.paint((185, 185, 180), "void"), canvas.paint((225, 225, 220), "void")
    lawn = canvas.paint((88, 120, 60), "vegetation")

    rows = _span(scene.horizon, 1, canvas.height)
    near = (_centres(rows, canvas.height) - scene.horizon) / (1 - scene.horizon)
    near = np.maximum(near, np.float32(1e-3))[:, None]
    depth = 1 / near
    metre = near * scene.metre
    pixel = 1 / (metre * canvas.width)  # in metres; no line is thinner
    across = (_centres(slice(0, canvas.width), canvas.width) - scene.vanish) / metre + scene.camera
    aside = np.abs(across)
    period, phase = scene.dashes

    ground = np.where(across * scene.own > 0, road, oncoming)
    np.copyto(ground, dash, where=(aside <= np.maximum(0.08, pixel / 2)) & ((depth + phase) / period % 1 < 0.45))
    np.copyto(ground, pavement, where=aside >= scene.lane)
    np.copyto(ground, kerb, where=(aside >= scene.lane) & (aside < scene.lane + np.maximum(0.2, pixel)))
    np.copyto(ground, lawn, where=(across < scene.kerb_to(-1, 1)) | (across > scene.kerb_to(1, 1)))
    for start, end, slant in scene.shadows:
        along = depth + across * slant
        ground |= (along > start) & (along < end)
    canvas.grid[rows] = ground


def _draw_front(canvas: Canvas, scene: Scene, front: Front) -> None:
    slope = (scene.kerb_to(front.side, 1) - scene.camera) * scene.metre
    left, right = sorted(scene.vanish + slope / depth for depth in (front.start, front.end))
    stretch = (1 - scene.horizon) / front.start / EYE  # a metre upright where the front is nearest
    rows = _span(scene.horizon - (front.tall - EYE) * stretch, scene.horizon + EYE * stretch, canvas.height)
    columns = _span(left, right, canvas.width)
    # Without the limit, a pixel that is wider than the whole front could lie beyond the vanishing point.
    depth = 1 / np.maximum((_centres(columns, canvas.width) - scene.vanish) / slope, np.float32(1 / front.end))
    up = EYE - (_centres(rows, canvas.height) - scene.horizon)[:, None] * (EYE / (1 - scene.horizon)) * depth

    wall, pane, dark = (canvas.paint(paint, front.label) for paint in (front.paint, PAINT["glass"], (45, 50, 60)))
    paints = np.full(up.shape, wall)
    if front.label == "building":
        bay, floor = depth * 1.6 % 1, up % 2.6
        np.copyto(paints, pane, where=(up > 3) & (floor > 0.9) & (floor < 2.2) & (bay > 0.25) & (bay < 0.75))
        np.copyto(paints, dark, where=(up > 0.5) & (up < 2.4) & (bay > 0.12) | (up > front.tall - 0.25))
    np.copyto(canvas.grid[rows, columns], paints, where=(up >= 0) & (up <= front.tall))


def _draw_thing(canvas: Canvas, scene: Scene, thing: Thing) -> None:
    foot = scene.horizon + thing.near * (1 - scene.horizon)
    middle = scene.vanish + (thing.across - scene.camera) * thing.near * scene.metre
    wide = thing.size * thing.near * scene.metre
    for shape, left, right, low, high, colour in thing.parts:
        edges = foot - 2 * high * wide, foot - 2 * low * wide, middle + left * wide, middle + right * wide
        if colour == "shadow":
            canvas.ellipse(*edges, None)
        else:
            draw = canvas.box if shape == "box" else canvas.ellipse
            draw(*edges, canvas.paint(thing.paint.get(colour) or PAINT[colour], thing.label))


def draw_scene(seed: int, height: int, width: int) -> tuple[Image8, Image8]:
    """Image (height, width, 3) and label map (height, width) of a road scene, both uint8.

    Labels are 0..10 (`SCENE_CLASSES`) and 255 for void. The same seed gives the same scene at any size.
    ValueError unless seed >= 0, height >= 16 and width >= 16.
    """
    scene = plan_scene(_integer("seed", seed, 0))
    return render(scene, _integer("height", height, 16), _integer("width", width, 16))


def _integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """`value` as an int; ValueError, naming it, unless it is an integer from `low` to `high`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if number < low or (high is not None and number > high):
        limits = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be an integer {limits}, got {value!r}")
    return number


SEED_RANGE = 1 << 32
"""Training draws its scenes from seed * SEED_RANGE on."""
VALIDATION = 1 << 62
"""The seed of the first validation scene; training stays below."""

Transform = Callable[[Image.Image, Image.Image], Any]


class RoadScenes(torch.utils.data.Dataset[Any]):
    """`length` road scenes an epoch, each drawn when asked for.

    With split "train" no scene ever comes twice: `scenes[epoch, index]` is scene epoch * length + index, and another
    `seed` gives other scenes. With split "val" the scenes are the same in every epoch and for every seed, and none of
    them is a training scene. `scenes[index]` is `scenes[0, index]`.

    size: (height, width).
    transform: gets a PIL image of mode RGB and its label map of mode L; what it returns is the item. Without one, the
        item is that pair. It may draw from the generators of torch, `random` and numpy: an item always gets the same
        random numbers, and the generators' states outside do not change (`seeded`).

    ValueError for arguments out of range, IndexError for an index that no list of this length has.
    """

    classes = SCENE_CLASSES

    def __init__(
        self,
        length: int,
        size: tuple[int, int] = (96, 192),
        *,
        seed: int = 0,
        split: Literal["train", "val"] = "train",
        transform: Transform | None = None,
    ) -> None:
        self.length = _integer("length", length, 1, SEED_RANGE)
        if not isinstance(size, Sequence) or len(size) != 2:
            raise ValueError(f"size must be (height, width), got {size!r}")
        self.size = _integer("size[0] (height)", size[0], 16), _integer("size[1] (width)", size[1], 16)
        self.seed = _integer("seed", seed, 0, VALIDATION // SEED_RANGE - 1)
        if split not in ("train", "val"):
            raise ValueError(f"split must be 'train' or 'val', got {split!r}")
        self.split = split
        self.transform = transform

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        return f"scene-{range(self.length)[index]:06d}"

    def scene_seed(self, epoch: int, index: int) -> int:
        """The `draw_scene` seed of an item."""
        epoch = _integer("epoch", epoch, 0, SEED_RANGE // self.length - 1)
        index = range(self.length)[index]
        return VALIDATION + index if self.split == "val" else self.seed * SEED_RANGE + epoch * self.length + index

    def __getitem__(self, key: SupportsIndex | tuple[SupportsIndex, SupportsIndex]) -> Any:
        epoch, index = (operator.index(number) for number in (key if isinstance(key, tuple) else (0, key)))
        index = range(self.length)[index]
        image, label = map(Image.fromarray, draw_scene(self.scene_seed(epoch, index), *self.size))
        if self.transform is None:
            return image, label
        with seeded(self.seed, epoch, index):
            return self.transform(image, label)
