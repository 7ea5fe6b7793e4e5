"""Settings: how a trained network is applied to images. Importing this does not import torch."""

from dataclasses import dataclass
from typing import Any

from ..errors import UsageError

MULTIPLE = 8
"""Networks halve the resolution three times."""
SMALLEST = 16
"""Pixels of the least height and width."""


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How a network sees an image: whole at some size, or in tiles; once, or several times."""

    size: tuple[int, int] | None = None
    """Height and width that images are resized to for the network; by default those of its training, with --tile those
    of each image. To see a large image as a whole is better than --tile: tiles lose what is far away."""
    tile: int | None = None
    """Cut images into overlapping squares of so many pixels, a multiple of 8, and blend their scores: fine detail, but
    the network sees no farther than a tile (docs/deployment.md says what that costs)."""
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
        """Pixels that neighbouring tiles share, where there are tiles."""
        return (self.tile or 0) // 4 if self.overlap is None else self.overlap

    @property
    def described(self) -> str:
        """What is not said by sizes, to append to a line; nothing where the network sees an image once, whole."""
        tiles = "" if self.tile is None else f", in tiles of {self.tile} that share {self.shared}"
        return tiles + (", six views averaged" if self.tta else "")

    def check(self, fixed: tuple[int, int] | None = None) -> None:
        """Raise UsageError for a value out of range, or that a network for images of one size does not allow."""
        if self.size is not None and (len(self.size) != 2 or min(self.size) < SMALLEST):
            got = " ".join(map(str, self.size))
            raise UsageError(f"--size: expected height and width of at least {SMALLEST} pixels, got {got}")
        if self.tile is None and self.overlap is not None:
            raise UsageError(f"--overlap: got {self.overlap} without --tile, whose tiles it is about")
        if self.tile is not None and (self.tile < SMALLEST or self.tile % MULTIPLE):
            raise UsageError(f"--tile: expected a multiple of {MULTIPLE}, at least {SMALLEST}, got {self.tile}")
        if self.tile is not None and not 0 <= self.shared < self.tile:
            raise UsageError(f"--overlap: expected 0 to {self.tile - 1}, less than --tile, got {self.overlap}")
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
