"""Networks as tables that read like the paper's, and the stages built from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from ..argument_checks import as_float
from .box_block import BoxBottleneck


@dataclass(frozen=True)
class Table:
    """The blocks of each stage that keep the resolution, and settings that all box blocks share.

    A block is a letter and a number: ``X4`` is a box block with 4 boxes per channel. The other letters are explained at
    the tables of each family.
    """

    s1: str  # 1/4 resolution, 64 channels
    s2: str  # 1/8, 128 channels
    s3: str  # 1/4, 64 channels, decoder
    s4: str  # 1/2, 16 channels, decoder
    reparametrization_factor: float
    box_bias: bool = True
    frozen: bool = False


@dataclass(frozen=True)
class BoxBlocks:
    """Settings that all box blocks of one network share."""

    table: Table
    inner_relu: bool
    reparametrization_factor: float | None
    symmetric: bool
    initial_boxes: str

    def block(self, channels: int, boxes: int, extent: tuple[int, int], dropout: float) -> BoxBottleneck:
        """Make a block N -> N/boxes -> N channels for maps of at most ``extent`` (h, w)."""
        factor = self.reparametrization_factor
        block = BoxBottleneck(
            channels,
            boxes_per_channel=boxes,
            max_input_h=extent[0],
            max_input_w=extent[1],
            dropout=dropout,
            inner_relu=self.inner_relu,
            bias=self.table.box_bias,
            reparametrization_factor=self.table.reparametrization_factor if factor is None else factor,
            symmetric=self.symmetric,
            initial_boxes=self.initial_boxes,
        )
        if self.table.frozen:
            block.box.freeze()
        return block


def stage(codes: str, make: Callable[[str, int | None], nn.Module]) -> nn.Sequential:
    """Make the blocks of a stage, in order: ``make`` gets the letter, and the number or None."""
    return nn.Sequential(*(make(code[0], int(code[1:]) if code[1:] else None) for code in codes.split()))


def check_probabilities(name: str, values: Sequence[float], places: str) -> list[float]:
    """Check that there is one dropout probability for each of ``places`` (comma-separated). Raises ValueError."""
    count = len(places.split(","))
    try:
        found = [as_float(name, value) for value in values]
    except TypeError:
        found = []
    if len(found) != count or not all(0 <= p < 1 for p in found):
        raise ValueError(f"{name} must be {count} probabilities in [0, 1): {places}; got {values!r}")
    return found
