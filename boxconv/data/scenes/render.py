"""From a planned road scene to its image and label map, at any size."""

import itertools
import math

import numpy as np
import numpy.typing as npt

from ..class_table import VOID
from .look import LEAVES, PAINT, RGB
from .plan import EYE, SCENE_CLASSES, Dice, Front, Scene, Thing

Image8 = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class Canvas:
    """A grid (height, width) of paint numbers. A paint has a colour, a label, a roughness and a role.

    Paints have even numbers. The odd number after each is the same paint in the shade, so shadows need no second grid.
    At first the whole grid has the first paint. A role does not change the picture: it tells apart paints that look the
    same (`where`).
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.grid = np.zeros((height, width), np.int16)
        self._paints: dict[tuple[RGB, int, float, str], int] = {}

    def paint(self, colour: RGB, label: str, role: str = "") -> np.int16:
        """The number of a paint, which is new if there was none; `label` is a class name or "void"."""
        value = VOID if label == "void" else SCENE_CLASSES.names.index(label)
        rough = 2.0 if label == "vegetation" else 1.0
        return np.int16(self._paints.setdefault((colour, value, rough, role), 2 * len(self._paints)))

    def box(self, top: float, bottom: float, left: float, right: float, paint: np.int16) -> None:
        """Fill a box of at least one pixel per side; edges are fractions of the image."""
        self.grid[_span(top, bottom, self.height), _span(left, right, self.width)] = paint

    def ellipse(self, top: float, bottom: float, left: float, right: float, paint: np.int16 | None) -> None:
        """Fill the ellipse inscribed in a box; if `paint` is None, cast a shadow of this shape."""
        rows, columns = _span(top, bottom, self.height), _span(left, right, self.width)
        down = (_centres(rows, self.height) - (top + bottom) / 2) / ((bottom - top) / 2)
        over = (_centres(columns, self.width) - (left + right) / 2) / ((right - left) / 2)
        inside = (down * down)[:, None] + over * over <= 1
        if paint is None:
            self.grid[rows, columns] |= inside
        else:
            self.grid[rows, columns][inside] = paint

    def repaint(self, top: float, bottom: float, left: float, right: float, old: np.int16, new: np.int16) -> None:
        """Replace one paint by another within a box."""
        region = self.grid[_span(top, bottom, self.height), _span(left, right, self.width)]
        region[region == old] = new

    def where(self, *roles: str) -> Mask:
        """Mask (height, width) of the pixels whose paint has one of these roles."""
        return np.array([role in roles for *_, role in self._paints]).take(self.grid >> 1)

    def labels(self) -> Image8:
        return np.array([value for _, value, _, _ in self._paints], np.uint8).take(self.grid >> 1)

    def colours(self) -> Plane:
        """(4, height, width) float32: red, green, blue, roughness."""
        table = np.array([(*colour, rough) for colour, _, rough, _ in self._paints], np.float32).repeat(2, 0).T
        table[:3, 1::2] *= np.float32(0.6)
        return table.take(self.grid, 1)


def _span(low: float, high: float, count: int) -> slice:
    """The pixels, of `count`, whose centres lie between two fractions of the image; at least one, unless outside."""
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


def paint_scene(scene: Scene, height: int, width: int) -> Canvas:
    """Paint everything, without light and noise.

    Roles: "sky", and in it "gap" (what two upright lines enclose) and "open top" (where a roof would close a gap);
    "glass" (towers that mirror the sky) and "roof" (the line above them); "dash", "kerb", "lawn" and "front".
    """
    canvas = Canvas(height, width)
    canvas.paint(scene.sky, "sky", "sky")
    _draw_towers(canvas, scene)
    _draw_ground(canvas, scene)
    for front in scene.fronts:
        _draw_front(canvas, scene, front)
    for thing in scene.things:
        _draw_thing(canvas, scene, thing)
    if scene.bonnet:
        canvas.ellipse(1 - scene.bonnet, 1 + 3 * scene.bonnet, -0.1, 1.1, canvas.paint((40, 42, 48), "void"))
    return canvas


def render(scene: Scene, height: int, width: int) -> tuple[Image8, Image8]:
    """Image (height, width, 3) and label map (height, width) of a scene, both uint8."""
    canvas = paint_scene(scene, height, width)
    colours = canvas.colours()
    image, rough = colours[:3], colours[3]
    dice = Dice(scene.seed, 1)
    # Glass mirrors the sky: it gets the light of the sky in the same row, so that the two look exactly alike.
    above = canvas.where("sky", "gap", "open top", "glass")[_span(0, scene.horizon, height)]
    glow = _centres(slice(0, len(above)), height)[:, None] / np.float32(scene.horizon)
    glow = (glow + _blobs(dice, (height, width), 9, 7)[: len(above)]) * above
    image[:, : len(above)] += glow * np.array((scene.glow, scene.glow / 2, scene.glow / 8), np.float32)[:, None, None]
    image *= _blobs(dice, (height, width), 4, 6) * np.float32(0.12) + np.float32(scene.light)
    grain = np.frombuffer(dice.generator.bytes(5 * height * width), np.uint8).reshape(5, height, width)
    # 104 is the standard deviation of the difference of two random bytes.
    grain = grain.astype(np.float32) * np.float32(scene.noise / 104)
    image += (grain[0] - grain[1]) * rough
    image += grain[2:] - np.float32(127.5 * scene.noise / 104)
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 2, 0)), canvas.labels()


def _draw_towers(canvas: Canvas, scene: Scene) -> None:
    """The background: towers, the lines that divide the sky, and bushes at the horizon."""
    line, roof = (canvas.paint((70, 75, 85), "void", role) for role in ("", "roof"))
    sky, gap, opening = (canvas.paint(scene.sky, "sky", role) for role in ("sky", "gap", "open top"))
    pane = canvas.paint(PAINT["glass"], "building")
    thick = 0.006
    before = 1.0
    for tower in scene.towers:
        left, right, top = tower.left, tower.right, tower.top
        if tower.kind == "gap":
            canvas.repaint(top, scene.horizon, left, right, sky, gap)
            canvas.repaint(top - 2 * thick, top, left, right, sky, opening)
        else:
            canvas.box(top, scene.horizon, left, right, canvas.paint(tower.paint, "building", tower.kind))
            canvas.box(top - 2 * thick, top, left, right, roof)
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
    kerb, dash = canvas.paint((185, 185, 180), "void", "kerb"), canvas.paint((225, 225, 220), "void", "dash")
    lawn = canvas.paint((88, 120, 60), "vegetation", "lawn")

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

    wall, pane, dark = (
        canvas.paint(paint, front.label, "front") for paint in (front.paint, PAINT["glass"], (45, 50, 60))
    )
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
