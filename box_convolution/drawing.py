"""Draw boxes over an image or a feature map; important boxes are more opaque."""

import colorsys
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .argument_checks import as_int

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, FAINT = "#1f2430", "#6b7280", "#d5d9e0"
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "hatch.linewidth": 1.2,
    "legend.frameon": False,
    "svg.hashsalt": "box_convolution",
}
SHOWN = 32


def draw_boxes(
    boxes: npt.ArrayLike,
    path: str | Path,
    *,
    map_size: tuple[int, int],
    image: npt.ArrayLike | None = None,
    importance: npt.ArrayLike | None = None,
    most: int | None = SHOWN,
    centre: tuple[float, float] | None = None,
    title: str = "",
) -> None:
    """Draw boxes at one output pixel, marked by a cross, into a PNG or SVG file.

    Args:
        boxes: (n, 4), edges (top, bottom, left, right) in pixels of the map, relative to the output pixel's centre.
        map_size: (h, w) of the map that the boxes lie over; its border is drawn.
        image: background: (h', w'), (h', w', 3), or PyTorch's (C, h', w') or (B, C, h', w'), of any size, stretched
            over the map. uint8 arrays are shown as they are; other numbers are scaled so that their 1st percentile is
            black and their 99th is white. Of a batch, the first image is shown; of features (C other than 1 or 3), the
            mean over channels.
        importance: (n,), at least 0; the opacity of a box is its share of the largest. NaN counts as 0. If left out,
            all boxes are equally opaque.
        most: draw only so many, the most important ones (without ``importance`` the largest); None draws all.
        centre: (row, column) of the output pixel, in pixels of the map; the middle if left out.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.
    """
    edges, opacity = _ranked(boxes, importance)
    chosen = slice(None if most is None else as_int("most", most, least=1))
    h, w = map_size
    row, column = ((h - 1) / 2, (w - 1) / 2) if centre is None else _pixel(centre)
    shown = edges[chosen] + [row, row, column, column]

    from matplotlib.patches import Rectangle

    top, bottom = min(-0.5, shown[:, 0].min()), max(h - 0.5, shown[:, 1].max())
    left, right = min(-0.5, shown[:, 2].min()), max(w - 0.5, shown[:, 3].max())
    margin = 0.02 * max(bottom - top, right - left)
    top, bottom, left, right = top - margin, bottom + margin, left - margin, right + margin
    panel = 7.0 * min(1.0, (right - left) / (bottom - top))  # inches
    height = panel * (bottom - top) / (right - left)
    head = 0.52 if title else 0.27
    with canvas(path, panel, height + head) as figure:
        if title:
            figure.text(0.1 / panel, 1 - 0.08 / (height + head), title, weight="bold", va="top", fontsize=10)
        figure.text(0.1 / panel, (height + 0.07) / (height + head), _note(len(edges), len(shown), importance is None))
        axes = figure.add_axes((0, 0, 1, height / (height + head)))
        axes.add_patch(Rectangle((-0.5, -0.5), w, h, facecolor="#f3f4f6", zorder=-1))
        if image is not None:
            axes.imshow(_pale(image), extent=(-0.5, w - 0.5, h - 0.5, -0.5), aspect="auto", interpolation="nearest")
        axes.add_patch(Rectangle((-0.5, -0.5), w, h, fill=False, edgecolor=SOFT, linewidth=0.9))
        _add_boxes(axes, shown, opacity[chosen])
        mark(axes, row, column)
        axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color=FAINT)


def _ranked(
    boxes: npt.ArrayLike, importance: npt.ArrayLike | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Edges and opacities of the boxes, the most important ones first; without ``importance`` the largest."""
    edges = np.asarray(boxes, np.float64)
    if edges.ndim != 2 or edges.shape[1] != 4 or not len(edges):
        raise ValueError(f"boxes must have shape (n, 4), n > 0, got {edges.shape}")
    if infinite := int((~np.isfinite(edges)).any(1).sum()):
        raise ValueError(f"boxes must be finite, got {infinite} of {len(edges)} with edges that are infinite or NaN")
    weight = np.ones(len(edges)) if importance is None else np.nan_to_num(np.asarray(importance, np.float64))
    if weight.shape != (len(edges),) or (weight < 0).any():
        got = f"shape {weight.shape}" if weight.shape != (len(edges),) else f"{weight.min():.6g}"
        raise ValueError(f"importance must hold {len(edges)} numbers of at least 0, got {got}")
    areas = (edges[:, 1] - edges[:, 0]) * (edges[:, 3] - edges[:, 2])
    ranking = np.argsort(-areas if importance is None else -weight, kind="stable")
    return edges[ranking], weight[ranking] / max(weight[ranking].max(), 1e-300)


def _pixel(centre: Any) -> tuple[float, float]:
    try:
        row, column = (float(number) for number in centre)
    except (TypeError, ValueError):
        row = column = math.nan
    if not math.isfinite(row) or not math.isfinite(column):
        raise ValueError(f"centre must be (row, column), two finite numbers, got {centre!r}")
    return row, column


def mark(axes: "Axes", row: float, column: float) -> None:
    """Draw a cross at the output pixel."""
    axes.plot(column, row, marker="+", markersize=13, markeredgewidth=4, color="white", zorder=8)
    axes.plot(column, row, marker="+", markersize=12, markeredgewidth=1.8, color=INK, zorder=9)


def _add_boxes(axes: "Axes", boxes: npt.NDArray[np.float64], opacity: npt.NDArray[np.float64]) -> None:
    """Draw ``boxes`` (n, 4) in pixels of the map, each with its opacity; small ones lie on top."""
    from matplotlib.patches import Rectangle

    top, bottom, left, right = boxes.T
    for k in np.argsort(-(bottom - top) * (right - left), kind="stable"):
        colour = colorsys.hls_to_rgb(k * 0.618034 % 1, 0.42, 0.85)
        place = ((left[k], top[k]), right[k] - left[k], bottom[k] - top[k])
        axes.add_patch(Rectangle(*place, facecolor=colour, alpha=0.10 * opacity[k], linewidth=0))
        axes.add_patch(Rectangle(*place, fill=False, edgecolor=colour, alpha=0.08 + 0.92 * opacity[k], linewidth=1.5))


def _note(total: int, shown: int, equal: bool) -> str:
    count = f"all {total} boxes" if shown == total else f"{shown} of {total} boxes, the "
    if shown < total:
        count += "largest" if equal else "most important"
    return f"{count}, around the output pixel +" + ("" if equal else "; opacity: importance")


def _pale(image: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return ``image`` as (h, w, 3) in 0..1, so pale that the boxes are the most saturated things in the picture."""
    picture = np.asarray(image)
    if picture.ndim == 4 and len(picture):
        picture = picture[0]
    if picture.ndim == 3 and picture.shape[2] not in (1, 3):
        picture = (picture if picture.shape[0] in (1, 3) else picture.mean(0, keepdims=True)).transpose(1, 2, 0)
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.ndim != 3 or not picture.size:
        got = np.asarray(image).shape
        raise ValueError(f"image must be (h, w), (h, w, 3), (C, h, w) or (B, C, h, w), got {got}")
    if picture.dtype == np.uint8:
        unit = picture / 255.0
    else:
        low, high = np.nanpercentile(picture.astype(np.float64), (1, 99))
        unit = np.nan_to_num(np.clip((picture - low) / max(high - low, 1e-12), 0, 1))
    grey = unit.mean(2, keepdims=True)
    return np.broadcast_to(0.58 + 0.42 * (0.5 * grey + 0.5 * unit), (*grey.shape[:2], 3))


@contextmanager
def canvas(path: str | Path, width: float, height: float, pad: tuple[float, float] | None = None) -> Iterator["Figure"]:
    """Yield a blank figure of ``width`` x ``height`` inches; write it to ``path`` if the block ends without an error.

    pad: inches around all axes, horizontally and vertically, with which matplotlib arranges them. Missing folders are
    made. Raises ValueError if ``path`` ends in neither .png nor .svg.
    """
    path = Path(path)
    kind = path.suffix.lower()[1:]
    if kind not in ("png", "svg"):
        raise ValueError(f"path must end in .png or .svg, got {path}")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
        FigureCanvasAgg(figure)
        if pad is not None:
            figure.set_layout_engine("constrained", w_pad=pad[0], h_pad=pad[1])
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            # Without a date in it, the file of equal numbers is equal, too.
            figure.savefig(part, format=kind, metadata={"Date": None} if kind == "svg" else None)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
