"""Labels drawn as polygons, in the JSON files of LabelMe."""

import json
import math
import os
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from .class_table import VOID, ClassTable, DataError
from .image_files import PIXEL_LIMIT, check_regular, shown

BACKGROUND = frozenset({"background", "_background_"})
IGNORED = frozenset({"void", "__ignore__"})
MOST_BYTES = 2**26
SHAPES = ("polygon", "rectangle", "circle")


def read_polygons(path: str | Path, classes: ClassTable) -> Image.Image:
    """Draw the shapes of a LabelMe file as a label map, mode L: class indices, 255 for void. Later shapes are on top.

    The name of a shape is that of a class, or `void`, in upper or lower case; `__ignore__` is void too. Pixels outside
    all shapes belong to the class called background (or `_background_`) if there is one, else they are void. Raises
    DataError naming the file.
    """
    size, shapes = _content(path)
    labels = {name.lower(): label for label, name in enumerate(classes.names)} | dict.fromkeys(IGNORED, VOID)
    background = next((label for name, label in labels.items() if name in BACKGROUND), VOID)
    image = Image.new("L", size, background)
    draw = ImageDraw.Draw(image)
    for number, (name, kind, points) in enumerate(shapes):
        if name.strip().lower() not in labels:
            raise DataError(
                f"{shown(path)}: shape {number} is named {name!r}, expected a class ({', '.join(classes.names)}) or "
                "void",
                "shape name",
            )
        _fill(draw, kind, points, labels[name.strip().lower()])
    return image


def names_of(path: str | Path) -> list[str]:
    """Names of the shapes in a LabelMe file, each once. Raises DataError naming the file."""
    return list(dict.fromkeys(name.strip() for name, _, _ in _content(path)[1]))


Point = tuple[float, float]


def _content(path: str | Path) -> tuple[tuple[int, int], list[tuple[str, str, list[Point]]]]:
    """Width and height, and name, kind and points of every shape."""
    check_regular(path)
    try:
        if os.path.getsize(path) > MOST_BYTES:
            raise DataError(f"{shown(path)}: more than {MOST_BYTES} bytes of JSON", "image too large")
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        width, height = (content[name] for name in ("imageWidth", "imageHeight"))
        if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
            raise ValueError(f"an image of {width!r} x {height!r} pixels")
        if width * height > PIXEL_LIMIT:
            raise DataError(f"{shown(path)}: {width} x {height} pixels are more than {PIXEL_LIMIT}", "image too large")
        return (width, height), [_shape(shape) for shape in content["shapes"]]
    except DataError:
        raise
    except KeyError as error:
        raise _unusable(path, f"without {error}") from error
    except (TypeError, AttributeError, ValueError, RecursionError, OSError) as error:
        raise _unusable(path, f"where there is {error}") from error


def _shape(shape: Any) -> tuple[str, str, list[Point]]:
    name, kind = shape["label"], shape.get("shape_type") or "polygon"
    points = [(float(column), float(row)) for column, row in shape["points"]]
    if not isinstance(name, str):
        raise ValueError(f"a shape named {name!r}")
    if not all(abs(number) < 1e6 for point in points for number in point):
        raise ValueError(f"a point far outside of the image in {name!r}")
    least, most = {"polygon": (3, math.inf), "rectangle": (2, 2), "circle": (2, 2)}.get(kind, (math.inf, 0))
    if not least <= len(points) <= most:
        raise ValueError(f"a {kind} of {len(points)} points named {name!r}, not one of {', '.join(SHAPES)}")
    return name, kind, points


def _fill(draw: ImageDraw.ImageDraw, kind: str, points: list[Point], label: int) -> None:
    """Fill a shape like LabelMe itself: the border belongs to the shape."""
    if kind == "polygon":
        draw.polygon(points, fill=label, outline=label)
        return
    (left, top), (right, bottom) = points
    if kind == "circle":
        radius = math.hypot(right - left, bottom - top)
        left, top, right, bottom = left - radius, top - radius, left + radius, top + radius
    box = [min(left, right), min(top, bottom), max(left, right), max(top, bottom)]
    (draw.ellipse if kind == "circle" else draw.rectangle)(box, fill=label, outline=label)


def _unusable(path: str | Path, what: str) -> DataError:
    return DataError(
        f"{shown(path)}: expected polygons of LabelMe (imageWidth, imageHeight, shapes), found a file {what}",
        "polygons",
    )
