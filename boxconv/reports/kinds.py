"""The kinds of results of `boxconv predict`, and the endings of their files."""

from typing import Literal

Kind = Literal["maps", "colours", "overlay", "probabilities", "polygons"]

ENDINGS: dict[Kind, str] = {
    "maps": ".png",
    "colours": "_colour.png",
    "overlay": "_overlay.png",
    "probabilities": "_probabilities.npy",
    "polygons": ".geojson",
}
"""Appended to the name of the image."""

OF_VIDEOS: dict[Kind, str] = {"colours": "_colour.mp4", "overlay": "_overlay.mp4"}
"""Appended to the name of the video; the only kinds for videos."""
