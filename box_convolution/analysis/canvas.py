"""The sheet that pictures are drawn on: one style, no pyplot, and a file that is either whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, SOFT, FAINT = "#1f2430", "#6b7280", "#d5d9e0"
BLUE, ORANGE = "#2b6cb0", "#d2571c"
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


@contextmanager
def canvas(path: str | Path, width: float, height: float) -> Iterator["Figure"]:
    """A blank figure of `width` x `height` inches; a PNG or SVG at `path` once the block has ended without an error.

    Missing folders are made. ValueError if `path` ends in neither .png nor .svg.
    """
    path = Path(path)
    kind = path.suffix.lower()[1:]
    if kind not in ("png", "svg"):
        raise ValueError(f"path must end in .png or .svg, found {path}")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
        FigureCanvasAgg(figure)
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            # Without a date, the same numbers make the same file.
            figure.savefig(part, format=kind, metadata={"Date": None} if kind == "svg" else None)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
