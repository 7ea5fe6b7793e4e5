"""Settings for applying a trained network to images. Importing this does not import torch."""

from dataclasses import dataclass
from typing import Any

from ..data.config import expect
from ..errors import UsageError

MULTIPLE = 8
"""Sizes that need no padding are multiples of this: networks halve the resolution three times."""
SMALLEST = 16
"""Least height and width in pixels."""


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How a network is applied to an image: as a whole at some size or in tiles; once or to several views."""

    size: tuple[int, int] | None = None
    """Height and width that images are resized to for the network; by default those of its training, with --tile those
    of each image. A large image is better resized than cut into tiles, which hide what is far away."""
    tile: int | None = None
    """Cut images into overlapping squares with sides of this many pixels, a multiple of 8, and blend their scores. This
    keeps fine detail, but the network sees no farther than a tile (docs/deployment.md says what that costs)."""
    overlap: int | None = None
    """Pixels that neighbouring tiles share; by default a quarter of --tile."""
    tta: bool = False
    """Average the probabilities of six views: 3/4, 1 and 5/4 of the size, each also mirrored; takes six times as
    long."""

    @property
    def averages(self) -> bool:
        """Whether scores are averages of probabilities, not the logits of one view of the whole image."""
        return self.tta or self.tile is not None

    @property
    def shared(self) -> int:
        """Pixels that neighbouring tiles share; without a meaning if there are no tiles."""
        return (self.tile or 0) // 4 if self.overlap is None else self.overlap

    @property
    def described(self) -> str:
        """The options besides the size, as text to append to a message; "" for a single view of the whole image."""
        tiles = "" if self.tile is None else f", in tiles of {self.tile} that share {self.shared}"
        return tiles + (", six views averaged" if self.tta else "")

    def check(self, fixed: tuple[int, int] | None = None) -> None:
        """Raise UsageError for a value out of range. ``fixed``: the only size that the network supports, if any."""
        if self.size is not None:
            right = len(self.size) == 2 and min(self.size) >= SMALLEST
            expect("size", right, f"height and width of at least {SMALLEST} pixels", " ".join(map(str, self.size)))
        if self.tile is None and self.overlap is not None:
            raise UsageError(f"--overlap: got {self.overlap} without --tile, whose tiles it is about")
        if self.tile is not None:
            right = self.tile >= SMALLEST and self.tile % MULTIPLE == 0
            expect("tile", right, f"a multiple of {MULTIPLE}, at least {SMALLEST}", self.tile)
            right = 0 <= self.shared < self.tile
            expect("overlap", right, f"0 to {self.tile - 1}, less than --tile", self.overlap)
        if fixed is not None:
            self._check_fixed(fixed)

    def _check_fixed(self, fixed: tuple[int, int]) -> None:
        asked: dict[str, Any] = {
            "--tile": None if self.tile is None else (self.tile, self.tile),
            "--size": self.size if self.tile is None else None,
            "--tta": "views of several sizes" if self.tta else None,
        }
        for option, got in asked.items():
            if got is not None and got != fixed:
                shown = got if isinstance(got, str) else f"{got[0]} x {got[1]}"
                raise UsageError(
                    f"{option}: the network's file takes images of {fixed[0]} x {fixed[1]} pixels only, got {shown}; "
                    "boxconv export writes files for any size"
                )
