"""The boxes of one layer during training (Figure 2 of the paper): a grid of snapshots, and an animation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from box_convolution.boxes import MIN_SIZE
from box_convolution.drawing import FAINT, INK, SOFT, STYLE, canvas

from ..data.class_table import as_hex
from ..files import write_atomic
from ..reports.line_colours import BLUE, ORANGE
from .box_statistics import AT_LIMIT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIDDLE = "#c8c2bc"
NARROWEST = 6.0  # inches: the width that the key needs
SECONDS = 8.0  # of an animation, without the pause at its end


@dataclass(frozen=True)
class Evolution:
    """The n boxes of a layer at t epochs, the most important box first.

    Attributes:
        epochs: (t,) ascending. boxes: (t, n, 4) edges (top, bottom, left, right) in pixels of the map.
        map_size: (h, w) of the map that the layer reads.
    """

    epochs: Sequence[int]
    boxes: npt.NDArray[np.float64]
    map_size: tuple[int, int]

    def __post_init__(self) -> None:
        shape = (len(self.epochs), self.boxes.shape[1] if self.boxes.ndim == 3 else -1, 4)
        if self.boxes.shape != shape or not self.boxes.size or not np.isfinite(self.boxes).all():
            raise ValueError(
                f"boxes must be finite and (t, n, 4) for t = {len(self.epochs)} epochs, got {self.boxes.shape}"
            )

    @classmethod
    def most_important(
        cls, epochs: Sequence[int], boxes: npt.ArrayLike, importance: npt.ArrayLike, map_size: tuple[int, int]
    ) -> "Evolution":
        """``boxes`` (t, n, 4) in the layer's order, sorted by ``importance`` (n,) at the end of training."""
        order = np.argsort(-np.nan_to_num(np.asarray(importance, np.float64)), kind="stable")
        return cls(list(epochs), np.asarray(boxes, np.float64)[:, order], map_size)

    def reach(self, count: int) -> tuple[float, float]:
        """Half the height and half the width of a tile in which the first ``count`` boxes fit at all epochs."""
        edges = np.abs(self.boxes[:, :count])
        return float(edges[..., :2].max()) * 1.06, float(edges[..., 2:].max()) * 1.06


def snapshots(evolution: Evolution, path: str | Path, *, title: str, rows: int = 6, columns: int = 14) -> None:
    """Draw a grid: a row for each of ``rows`` epochs, from the first to the last, a column for each important box.

    As in the paper's figure, the gaps between epochs grow, because boxes move most at the start.
    """
    columns = min(columns, evolution.boxes.shape[1])
    chosen = spread(len(evolution.epochs), rows)
    high, wide = evolution.reach(columns)
    tile_w, margin, head, foot = 0.72, 0.72, 0.62, 0.36
    tile_h = max(0.35, min(1.1, tile_w * high / wide))
    width, height = max(NARROWEST, margin + columns * tile_w + 0.1), head + len(chosen) * tile_h + foot
    with canvas(path, width, height) as figure:
        _title_and_key(
            figure, title, f"the {columns} most important boxes of {evolution.boxes.shape[1]}, from left to right"
        )
        for i, t in enumerate(chosen):
            low = foot + (len(chosen) - 1 - i) * tile_h
            label = f"epoch\n{evolution.epochs[t]}"
            figure.text((margin - 0.1) / width, (low + tile_h / 2) / height, label, ha="right", va="center", color=SOFT)
            for j in range(columns):
                _tile(figure, (margin + j * tile_w, low, tile_w, tile_h), evolution.boxes[t, j], high, wide)


def animation(
    evolution: Evolution,
    path: str | Path,
    *,
    title: str,
    columns: int = 7,
    rows: int = 5,
    frames: int = 48,
) -> None:
    """Draw a GIF of the most important boxes, one tile each, at up to ``frames`` recorded epochs.

    It lasts at most `SECONDS`, and the last frame two seconds more. Raises ValueError unless ``path`` ends in .gif.
    """
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"path must end in .gif, found {path}")
    from PIL import Image

    chosen = np.unique(np.linspace(0, len(evolution.epochs) - 1, frames).round().astype(int))
    pictures = [Image.fromarray(pixels) for pixels in _frames(evolution, chosen, title, columns, rows)]
    # One palette for all frames, so that constant colours do not flicker.
    palette = pictures[-1].quantize(64, dither=Image.Dither.NONE)
    indexed = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    step = int(1000 * SECONDS / len(indexed))
    durations = [min(500, step)] * (len(indexed) - 1) + [2000]
    more: dict[str, Any] = {"append_images": indexed[1:], "duration": durations, "loop": 0, "optimize": True}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda file: indexed[0].save(file, format="GIF", save_all=True, **more))


def _frames(
    evolution: Evolution, chosen: npt.NDArray[np.int_], title: str, columns: int, rows: int
) -> Iterator[npt.NDArray[np.uint8]]:
    """The pixels (h, w, 3) of a figure of tiles at each of the ``chosen`` epochs."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = min(columns * rows, evolution.boxes.shape[1])
    rows = -(-count // columns)
    high, wide = evolution.reach(count)
    tile_w, head, foot = 0.95, 0.62, 0.36
    tile_h = max(0.45, min(1.4, tile_w * high / wide))
    width, height = max(NARROWEST, columns * tile_w + 0.1), head + rows * tile_h + foot
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
        sheet = FigureCanvasAgg(figure)
        _title_and_key(figure, title, f"the {count} most important boxes of {evolution.boxes.shape[1]}, row by row")
        clock = figure.text(1 - 0.1 / width, 1 - 0.1 / height, "", ha="right", va="top", weight="bold", fontsize=10.5)
        patches = []
        for k in range(count):
            place = (0.07 + (k % columns) * tile_w, foot + (rows - 1 - k // columns) * tile_h, tile_w, tile_h)
            patches.append(_tile(figure, place, evolution.boxes[chosen[0], k], high, wide))
        for t in chosen:
            clock.set_text(f"epoch {evolution.epochs[t]}")
            for k, patch in enumerate(patches):
                _place(patch, evolution.boxes[t, k])
            sheet.draw()
            yield np.asarray(sheet.buffer_rgba())[..., :3].copy()


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` indices from 0 to ``count`` - 1, with gaps that grow geometrically."""
    if count <= wanted:
        return list(range(count))
    chosen = np.unique(np.geomspace(1, count, wanted).round().astype(int) - 1)
    rest = [i for i in range(count) if i not in chosen]
    return sorted([*chosen.tolist(), *rest[: wanted - len(chosen)]])


def _tile(
    figure: "Figure", place: tuple[float, float, float, float], box: npt.NDArray[np.float64], high: float, wide: float
) -> Any:
    """Draw one box on a cross of axes at ``place`` (left, low, width, height), in inches; returns its patch."""
    from matplotlib.patches import Rectangle

    (width, height), (left, low, tile_w, tile_h) = figure.get_size_inches(), place
    axes = figure.add_axes((left / width, low / height, 0.94 * tile_w / width, 0.92 * tile_h / height))
    axes.set(xlim=(-wide, wide), ylim=(high, -high), xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=FAINT, linewidth=0.6)
    axes.axhline(0, color=FAINT, linewidth=0.6, zorder=0)
    axes.axvline(0, color=SOFT, linewidth=0.7, zorder=3)
    patch = Rectangle((0, 0), 1, 1, alpha=0.85)
    _place(patch, box)
    axes.add_patch(patch)
    axes.plot(0, 0, ".", color=INK, markersize=2.5, zorder=4)
    return patch


def _place(patch: Any, box: npt.NDArray[np.float64]) -> None:
    top, bottom, left, right = box
    minimal = min(bottom - top, right - left) <= MIN_SIZE + AT_LIMIT
    colour = SOFT if minimal else _blend(max(0.0, min(-left, right) / max(-left, right)))
    patch.set(xy=(left, top), width=right - left, height=bottom - top, facecolor=colour, edgecolor=colour)


def _blend(score: float) -> str:
    """The colour of a symmetry score: from orange (0) over light grey to blue (1)."""
    one, other, share = (ORANGE, MIDDLE, 2 * score) if score < 0.5 else (MIDDLE, BLUE, 2 * score - 1)
    parts = zip(*(bytes.fromhex(colour[1:]) for colour in (one, other)), strict=True)
    return as_hex(round(a + (b - a) * share) for a, b in parts)


def _title_and_key(figure: "Figure", title: str, note: str) -> None:
    """Write the title and a note along the upper edge, and draw the key of the colours along the lower one."""
    from matplotlib.patches import Patch

    width, height = figure.get_size_inches()
    figure.text(0.1 / width, 1 - 0.1 / height, title, weight="bold", va="top", fontsize=10.5)
    figure.text(0.1 / width, 1 - 0.33 / height, note, va="top", color=SOFT)
    key = {
        _blend(1.0): "symmetric left to right",
        _blend(0.5): "one side twice the other",
        _blend(0.0): "one side only",
        SOFT: "a pixel high or wide",
    }
    figure.legend(
        handles=[Patch(color=colour, alpha=0.85, label=label) for colour, label in key.items()],
        loc="lower left",
        bbox_to_anchor=(0.02 / width, 0.0),
        ncols=len(key),
        fontsize=8,
        handlelength=1.1,
        columnspacing=1.4,
    )
