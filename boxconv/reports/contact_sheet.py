"""An overview of all results as one HTML file, with a small picture of each image and its classes."""

import base64
import io
import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..data.bands import Picture, as_rgb
from ..data.class_table import ClassTable, as_hex
from ..data.image_files import shown
from ..errors import plural
from ..files import write_atomic
from .areas import pixels_of_classes
from .coloured_labels import overlay
from .html import beginning

SIDE = 240
"""Longer side of a small picture in pixels."""
NAMED = 4
"""Number of classes that are listed below a picture, the largest ones."""
MORE_STYLE = """
main { max-width: none; }
ul.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 0 0 1.5rem; padding: 0; list-style: none; }
.legend i { display: inline-block; width: .9em; height: .9em; margin-right: .4em; border: 1px solid #9aa1ac; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.2rem; }
.sheet figure { margin: 0; }
.sheet img { width: 100%; }
figcaption b { color: #1f2430; overflow-wrap: anywhere; }
figcaption a { margin-right: .6rem; color: #2b6cb0; }
"""


class _Entry(NamedTuple):
    size: str
    pixels: npt.NDArray[np.int64]
    picture: bytes
    outputs: Mapping[str, Path]


class ContactSheet:
    """Collects small pictures of images, about 15 kB each; any thread may add some."""

    def __init__(self, classes: ClassTable) -> None:
        self.classes = classes
        self._entries: dict[Path, _Entry] = {}

    def add(self, image: Path, outputs: Mapping[str, Path], picture: Any, labels: npt.NDArray[np.uint8]) -> None:
        """Add an image with its class indices (h, w); ``outputs``: files to link to, by the text of the link."""
        height, width = labels.shape
        scale = min(1.0, SIDE / max(height, width))
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        self._entries[image] = _Entry(
            f"{width} x {height}",
            pixels_of_classes(labels, len(self.classes)),
            _jpeg(picture.resize(small, Image.Resampling.BILINEAR), self.classes.colourise(_sampled(labels, small))),
            outputs,
        )

    def write(self, path: Path) -> None:
        """Write the page. It contains the small pictures, and has relative links to the files."""
        total = sum((entry.pixels for entry in self._entries.values()), np.zeros(len(self.classes), np.int64))
        title = plural(len(self._entries), "image")
        head = (
            f"{beginning(title, more_style=MORE_STYLE)}\n"
            f"<p>Left the image, right its classes. Shares of all pixels:</p>\n{self._legend(total)}\n"
            '<div class="sheet">\n'
        )

        def write(file: BinaryIO) -> None:
            file.write(head.encode())
            for image, entry in sorted(self._entries.items()):
                file.write(self._figure(image, entry, path.parent).encode())
            file.write(b"</div>\n</main></body>\n</html>\n")

        write_atomic(path, write)

    def _legend(self, pixels: npt.NDArray[np.int64]) -> str:
        shares = pixels / max(1, pixels.sum())
        items = (
            f'<li><i style="background: {as_hex(colour)}"></i>{escape(name)} {share:.1%}</li>'
            for name, colour, share in zip(self.classes.names, self.classes.colours, shares, strict=True)
        )
        return f'<ul class="legend">\n{"".join(items)}\n</ul>'

    def _figure(self, image: Path, entry: _Entry, folder: Path) -> str:
        name = escape(shown(image))
        shares = entry.pixels / entry.pixels.sum()
        largest = [k for k in np.argsort(-shares, kind="stable")[:NAMED].tolist() if shares[k] > 0]
        classes = ", ".join(f"{escape(self.classes.names[k])} {shares[k]:.0%}" for k in largest)
        links = "".join(f'<a href="{_link(output, folder)}">{kind}</a>' for kind, output in entry.outputs.items())
        source = f"data:image/jpeg;base64,{base64.b64encode(entry.picture).decode('ascii')}"
        picture = f'<img loading="lazy" src="{source}" alt="{name}">'
        if found := [entry.outputs[kind] for kind in ("overlay", "colours", "maps") if kind in entry.outputs]:
            picture = f'<a href="{_link(found[0], folder)}">{picture}</a>'
        return (
            f"<figure>{picture}\n<figcaption><b>{name}</b> {entry.size}<br>{classes}<br>{links}</figcaption></figure>\n"
        )


def _sampled(labels: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A label map reduced to ``size`` (width, height): the label at the centre of each new pixel."""
    rows, columns = (
        ((np.arange(small) + 0.5) * large / small).astype(np.int64)
        for small, large in zip(size[::-1], labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]


def _jpeg(picture: Picture, colours: npt.NDArray[np.uint8]) -> bytes:
    """JPEG file of an image and its classes side by side."""
    pixels = np.asarray(as_rgb(picture))
    gap = np.full((len(pixels), 4, 3), 255, np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.concatenate((pixels, gap, overlay(pixels, colours)), 1)).save(file, "JPEG", quality=80)
    return file.getvalue()


def _link(file: Path, folder: Path) -> str:
    """A relative URL, also for names with blanks, colons, quotes or bytes that are not text."""
    return "./" + quote(os.fsencode(os.path.relpath(file, folder).replace(os.sep, "/")))
