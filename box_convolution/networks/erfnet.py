"""ERFNet and its box versions, each written once as a table of blocks.

The blocks are those of the authors' Torch7 networks. Every convolution has a bias (without effect before BatchNorm, but
counted in Table 3 of the paper), and the head is a 3x3 transposed convolution, where the original ERFNet has 2x2.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from ..argument_checks import as_int
from .padding import PaddedNetwork, extents
from .resampling import ConvBesidePool, deconv3x3
from .residual_sum import residual_sum
from .stages import BoxBlocks, Table, check_probabilities, stage

# N4: non-bottleneck-1D block, its second pair of convolutions dilated by 4; N: dilated as remaining_dilations says;
# X4: box block with 4 boxes per channel.
_BOXERFNET = Table(s1="N1 X4", s2="N X4 N X4 N X4 N X4", s3="N1", s4="N1", reparametrization_factor=1.5625)
TABLES = {
    "erfnet": replace(_BOXERFNET, s1="N1 N1 N1 N1 N1", s2="N2 N4 N8 N16 N2 N4 N8 N16", s3="N1 N1", s4="N1 N1"),
    "boxerfnet": _BOXERFNET,
    "boxerfnet_frozen": replace(_BOXERFNET, frozen=True),
    "erfnet_minus": replace(_BOXERFNET, s1="N1", s2="N N N N"),
}


class NonBottleneck1d(nn.Module):
    """Two pairs of 3x1 and 1x3 convolutions, the second pair dilated, with a residual connection."""

    def __init__(self, channels: int, *, dilation: int = 1, dropout: float = 0.0):
        super().__init__()

        def pair(reach: int) -> list[nn.Module]:
            return [
                nn.Conv2d(channels, channels, (3, 1), padding=(reach, 0), dilation=(reach, 1)),
                nn.ReLU(),
                nn.Conv2d(channels, channels, (1, 3), padding=(0, reach), dilation=(1, reach)),
                nn.BatchNorm2d(channels),
            ]

        self.branch = nn.Sequential(*pair(1), nn.ReLU(), *pair(dilation), nn.Dropout2d(dropout))

    def forward(self, input: Tensor) -> Tensor:
        return residual_sum(self.branch(input), input).relu_()


class Upsampler(nn.Sequential):
    """(B, n, H, W) -> (B, m, 2H, 2W): transposed convolution, BatchNorm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__(deconv3x3(channels_in, channels_out), nn.BatchNorm2d(channels_out), nn.ReLU())


class ERFNet(PaddedNetwork):
    """The ERFNet family.

    Args:
        table: blocks of the stages.
        num_classes: channels of the logits.
        input_size: (h, w), largest expected image, in pixels: sets the limits of the boxes.
        in_channels: of the image; the authors' 3 are red, green and blue.
        dropout: at (1/4 resolution, 1/8 resolution) in the encoder, of the downsampler and of all blocks; the decoder
            has none. The paper and the authors' code agree on this.
        box_dropout: of box blocks at (1/4, 1/8); by default the values of ``dropout``: each box block has the dropout
            of the block that it replaces.
        remaining_dilations: of the four plain blocks that the box networks and ERFNet- keep at 1/8 resolution. The
            paper says that they are not dilated; the authors' code has (2, 4, 2, 4). ERFNet itself has no such blocks.
        inner_relu: ReLU before the boxes; the authors have none in this family.
        reparametrization_factor: see `BoxConv2d`; by default the authors' 1.5625.
        symmetric, initial_boxes: see `BoxConv2d`; beyond the paper.

    Raises:
        TypeError, ValueError: naming the argument, what came and what was expected.
    """

    def __init__(
        self,
        table: Table,
        num_classes: int,
        input_size: tuple[int, int],
        *,
        in_channels: int = 3,
        dropout: tuple[float, float] = (0.03, 0.3),
        box_dropout: tuple[float, float] | None = None,
        remaining_dilations: Sequence[int] = (1, 1, 1, 1),
        inner_relu: bool = False,
        reparametrization_factor: float | None = None,
        symmetric: bool = False,
        initial_boxes: str = "uniform",
    ) -> None:
        super().__init__(in_channels)
        box_dropout = dropout if box_dropout is None else box_dropout
        check_probabilities("dropout", dropout, "at 1/4 resolution, at 1/8")
        check_probabilities("box_dropout", box_dropout, "at 1/4 resolution, at 1/8")
        dilations = iter(_check_dilations(remaining_dilations))
        boxes = BoxBlocks(table, inner_relu, reparametrization_factor, symmetric, initial_boxes)
        at = extents(input_size)

        def blocks(codes: str, channels: int, divisor: int, p: float = 0.0, box_p: float = 0.0) -> nn.Sequential:
            def block(kind: str, number: int | None) -> nn.Module:
                if kind == "X":
                    return boxes.block(channels, number or 1, at[divisor], box_p)
                return NonBottleneck1d(channels, dilation=number or next(dilations), dropout=p)

            return stage(codes, block)

        self.initial = self._down(self.in_channels, 16, 0.0)
        self.down1 = self._down(16, 64, dropout[0])
        self.stage1 = blocks(table.s1, 64, 4, dropout[0], box_dropout[0])
        self.down2 = self._down(64, 128, dropout[1])
        self.stage2 = blocks(table.s2, 128, 8, dropout[1], box_dropout[1])
        self.up1 = Upsampler(128, 64)
        self.stage3 = blocks(table.s3, 64, 4)
        self.up2 = Upsampler(64, 16)
        self.stage4 = blocks(table.s4, 16, 2)
        self.head = deconv3x3(16, num_classes)

    @staticmethod
    def _down(channels_in: int, channels_out: int, dropout: float) -> ConvBesidePool:
        return ConvBesidePool(channels_in, channels_out, nn.ReLU(), eps=1e-5, dropout=dropout)

    def logits(self, image: Tensor) -> Tensor:
        eighth = self.down2(self.stage1(self.down1(self.initial(image))))
        half = self.stage4(self.up2(self.stage3(self.up1(self.stage2(eighth)))))
        logits: Tensor = self.head(half)
        return logits


def _check_dilations(values: Sequence[int]) -> list[int]:
    """Return ``values`` as four ints of at least 1. Raises TypeError or ValueError."""
    try:
        count = len(values)
    except TypeError:
        count = 0
    if count != 4:
        raise ValueError(f"remaining_dilations must be 4 positive ints, see ERFNet, got {values!r}")
    return [as_int(f"remaining_dilations[{i}]", value, least=1) for i, value in enumerate(values)]
