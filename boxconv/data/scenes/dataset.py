"""Road scenes drawn by a program: an endless data set without a download, made to reward a large receptive field.

Most of the eleven classes can be recognised from their own pixels. But three groups of classes **look exactly alike**
(the same colours, light and noise) and differ only in where they are:

- `road`, `oncoming`, `pavement`: one grey asphalt. *Pavement* lies between a kerb (a light line, the same on both
  sides) and the houses or lawns; the carriageway lies between the two kerbs and is halved by a sparsely dashed line.
  The half on the side of the traffic signs is *road*, the other one *oncoming*: signs stand only on the side on which
  one drives, left or right with equal chances.
- `car`, `parked`: the same vehicles. A *car* stands between the kerbs, a *parked* one beyond a kerb.
- `sky`, `building`: towers of mirror glass show the sky behind them. Upright lines divide the sky above the horizon;
  what is between two of them is *building* if a roof line closes it at the top, else *sky*. (Other buildings have walls
  and windows.)

Distance from a pixel to the evidence, median and 90th percentile over all such pixels: to the nearest sign 0.25 and
0.46 of the image's width (road or oncoming); to the nearest dash, house or lawn 0.07 and 0.15 of the width (carriageway
or pavement); to the roof 0.15 and 0.30 of the height (mirror glass or sky). The camera may be anywhere on the
carriageway, so the position in the image says little. The lines, and the bonnet of the camera's own car, are void.

A scene is first planned in metres and fractions of the image (`plan`), then drawn at any size (`render`). Both use only
integer random numbers and + - * /, which give the same result on every machine, so the same arguments give the same
bytes everywhere.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal, SupportsIndex

import torch
from PIL import Image

from ..datasets import seeded
from .plan import SCENE_CLASSES, plan_scene
from .render import Image8, render

__all__ = ["SCENE_CLASSES", "RoadScenes", "draw_scene"]


def draw_scene(seed: int, height: int, width: int) -> tuple[Image8, Image8]:
    """Image (height, width, 3) and label map (height, width) of a road scene, both uint8.

    Labels are 0..10 (`SCENE_CLASSES`) and 255 for void. The same seed gives the same scene at any size.
    ValueError unless seed >= 0, height >= 16 and width >= 16.
    """
    scene = plan_scene(_integer("seed", seed, 0))
    return render(scene, _integer("height", height, 16), _integer("width", width, 16))


def _integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """`value` as an int. Raises ValueError, naming it, unless it is an integer from `low` to `high`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if number < low or (high is not None and number > high):
        limits = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be an integer {limits}, got {value!r}")
    return number


SEED_RANGE = 1 << 32
"""Training scenes of a data set have the scene seeds from seed * SEED_RANGE on."""
VALIDATION = 1 << 62
"""The scene seed of the first validation scene; those of training scenes are smaller."""

Transform = Callable[[Image.Image, Image.Image], Any]


class RoadScenes(torch.utils.data.Dataset[Any]):
    """`length` road scenes per epoch, each drawn when it is accessed.

    With split "train" no scene occurs twice: `scenes[epoch, index]` is scene epoch * length + index, and another `seed`
    gives other scenes. With split "val" the scenes are the same in every epoch and for every seed, and none of them is
    a training scene. `scenes[index]` is `scenes[0, index]`.

    size: (height, width).
    transform: gets a PIL image of mode RGB and its label map of mode L; its result is the item. Without it, the item is
        this pair. It may draw from the generators of torch, `random` and numpy: an item always gets the same random
        numbers, and the states of the generators are restored afterwards (`seeded`).

    Raises ValueError for arguments out of range, IndexError for an index out of range.
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
        """The seed with which `draw_scene` draws an item."""
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
