"""ENet and its box versions, each written once as a table of blocks.

The blocks are those of the authors' Torch7 networks. 1x1 convolutions have no bias; 3x3 and transposed convolutions
have one (without effect before BatchNorm, but counted in Table 3 of the paper). BatchNorm has eps 1e-3. The decoder has
ReLU and no dropout.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, fx, nn
from torch.nn.functional import max_pool2d, pad

from ..argument_checks import as_int
from .padding import PaddedNetwork, extents
from .prelu import PReLU
from .resampling import ConvBesidePool, deconv3x3
from .residual_sum import residual_sum
from .stages import BoxBlocks, Table, check_probabilities, stage
from .temporary import as_temporary

EPS = 1e-3  # of BatchNorm, except in the box blocks


# D: bottleneck; D4: dilated by 4; A5: asymmetric, 1x5 and 5x1; X4: box block with 4 boxes per channel.
_BOXENET = Table(
    s1="D X4 D X4",
    s2="D X4 A5 X4 D X4 A5 X4 D X4 A5 X4 D X4 A5 X4",
    s3="D X4",
    s4="X2",
    reparametrization_factor=0.86,
)
TABLES = {
    "enet": replace(_BOXENET, s1="D D D D", s2="D D2 A5 D4 D D8 A5 D16 D D2 A5 D4 D D8 A5 D16", s3="D D", s4="D"),
    "boxenet": _BOXENET,
    "boxenet_frozen": replace(_BOXENET, frozen=True),
    "enet_minus": replace(_BOXENET, s1="D D", s2="D A5 D A5 D A5 D A5", s3="D", s4=""),
    "boxonlyenet": Table(
        s1="X4 X4 X4 X4",
        s2="X4 X4 X4 X4 X4 X4 X4 X4 X4 X4 X4 X4 X4 X4 X4 X4",
        s3="X4 X4",
        s4="X4",
        reparametrization_factor=0.51,
        box_bias=False,
    ),
}
DILATIONS = (2, 4, 8, 16)
"""The dilations in ENet's table, which the option ``dilations`` replaces."""


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPS)


def _act(channels: int, relu: bool = False) -> nn.Module:
    return nn.ReLU() if relu else PReLU(channels)


def _branch(first: nn.Module, middle: Sequence[nn.Module], narrow: int, channels: int, relu: bool) -> list[nn.Module]:
    """Make ``first``, ``middle`` and a 1x1 convolution from ``narrow`` to ``channels`` channels, normalised each."""
    return [
        first,
        _norm(narrow),
        _act(narrow, relu),
        *middle,
        _norm(narrow),
        _act(narrow, relu),
        nn.Conv2d(narrow, channels, 1, bias=False),
        _norm(channels),
    ]


class Bottleneck(nn.Module):
    """n -> n/4 -> n channels with a residual connection; a 3x3 (dilated) or 1x5 + 5x1 convolution in the middle."""

    def __init__(
        self, channels: int, *, dilation: int = 1, asymmetric: int = 0, dropout: float = 0.0, relu: bool = False
    ):
        super().__init__()
        narrow = channels // 4
        if asymmetric:
            reach = asymmetric // 2
            middle: list[nn.Module] = [
                nn.Conv2d(narrow, narrow, (1, asymmetric), padding=(0, reach), bias=False),
                nn.Conv2d(narrow, narrow, (asymmetric, 1), padding=(reach, 0)),
            ]
        else:
            middle = [nn.Conv2d(narrow, narrow, 3, padding=dilation, dilation=dilation)]
        first = nn.Conv2d(channels, narrow, 1, bias=False)
        self.branch = nn.Sequential(*_branch(first, middle, narrow, channels, relu), nn.Dropout2d(dropout))
        self.act = _act(channels, relu)

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.act(residual_sum(self.branch(input), input))
        return output


class Downsample(nn.Module):
    """(B, n, H, W) -> (B, m, H/2, W/2) and the indices of the pooled maxima, (B, n, H/2, W/2)."""

    def __init__(self, channels_in: int, channels_out: int, *, dropout: float):
        super().__init__()
        narrow = channels_out // 4
        self.new_channels = channels_out - channels_in
        first = nn.Conv2d(channels_in, narrow, 2, stride=2, bias=False)
        middle = [nn.Conv2d(narrow, narrow, 3, padding=1)]
        self.branch = nn.Sequential(*_branch(first, middle, narrow, channels_out, relu=False), nn.Dropout2d(dropout))
        self.act = _act(channels_out)

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:
        skip, indices = max_pool2d(input, 2, return_indices=True)
        padded = pad(skip, (0, 0, 0, 0, 0, self.new_channels))
        return self.act(residual_sum(self.branch(input), padded)), indices


@fx.wrap
def unpool(values: Tensor, indices: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W): each value at the pixel of its plane that its index names, zeros elsewhere.

    The same as `max_unpool2d`, but `torch.jit.trace` can record it for any image size, and it is deterministic if no
    two indices are equal (they never are after pooling without overlap).
    """
    b, c, h, w = values.shape
    if values.device.type == "cpu":  # where the network works in channels_last
        pixels = values.new_zeros((b, 4 * h * w, c)).transpose(1, 2)
    else:
        pixels = values.new_zeros((b, c, 4 * h * w))
    return pixels.scatter_(2, indices.flatten(2), values.flatten(2)).view(b, c, 2 * h, 2 * w)


class Upsample(nn.Module):
    """(B, n, H, W) -> (B, m, 2H, 2W); the skip connection puts values back where ``indices`` took them from."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        narrow = channels_out // 4
        first = nn.Conv2d(channels_in, narrow, 1, bias=False)
        self.branch = nn.Sequential(*_branch(first, [deconv3x3(narrow, narrow)], narrow, channels_out, relu=True))
        self.skip = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, bias=False), _norm(channels_out))

    def forward(self, input: Tensor, indices: Tensor) -> Tensor:
        return residual_sum(self.branch(input), unpool(self.skip(input), indices)).relu_()


class ENet(PaddedNetwork):
    """The ENet family.

    Args:
        table: blocks of the stages.
        num_classes: channels of the logits.
        input_size: (h, w), largest expected image, in pixels: sets the limits of the boxes.
        in_channels: of the image; the authors' 3 are red, green and blue.
        dropout: of plain blocks and downsampling blocks, (first stage, rest of the encoder); the decoder has none. The
            authors' PyTorch code has (0.01, 0.01) in BoxOnlyENet.
        box_dropout: of box blocks, stage by stage. The default is the paper's text, for all networks: 0.25 at 1/8
            resolution and 0.15 elsewhere. The authors' code: (0.15, 0.25, 0.1, 0.1) in BoxENet; in BoxOnlyENet
            (0.01, 0.1, 0.1, 0.1) in Torch7 and (0.15, 0.4, 0.15, 0.05) in PyTorch.
        inner_relu: ReLU before the boxes; the authors have one in this family.
        reparametrization_factor: see `BoxConv2d`; by default the authors' 0.86, for BoxOnlyENet 0.51.
        symmetric, initial_boxes: see `BoxConv2d`; beyond the paper.
        dilations: four numbers instead of 2, 4, 8 and 16, for a network with dilated blocks (ENet); beyond the paper.
            With larger ones the network sees farther without boxes.

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
        dropout: tuple[float, float] = (0.01, 0.1),
        box_dropout: tuple[float, float, float, float] = (0.15, 0.25, 0.15, 0.15),
        inner_relu: bool = True,
        reparametrization_factor: float | None = None,
        symmetric: bool = False,
        initial_boxes: str = "uniform",
        dilations: tuple[int, int, int, int] = DILATIONS,
    ) -> None:
        super().__init__(in_channels)
        dilation_of = _dilation_of(dilations, table)
        check_probabilities("dropout", dropout, "first stage, later encoder")
        check_probabilities("box_dropout", box_dropout, "stage 1, stage 2, stage 3, stage 4")
        boxes = BoxBlocks(table, inner_relu, reparametrization_factor, symmetric, initial_boxes)
        at = extents(input_size)

        def blocks(codes: str, channels: int, divisor: int, box_p: float, p: float | None = None) -> nn.Sequential:
            """Make a stage: of the encoder, with dropout ``p`` in its plain blocks; without ``p``, of the decoder."""

            def block(kind: str, number: int | None) -> nn.Module:
                if kind == "X":
                    return boxes.block(channels, number or 1, at[divisor], box_p)
                shape = {"dilation": dilation_of.get(number, 1)} if kind == "D" else {"asymmetric": number or 1}
                return Bottleneck(channels, dropout=p or 0.0, relu=p is None, **shape)

            return stage(codes, block)

        self.initial = ConvBesidePool(self.in_channels, 16, PReLU(16), eps=EPS)
        self.down1 = Downsample(16, 64, dropout=dropout[0])
        self.stage1 = blocks(table.s1, 64, 4, box_dropout[0], dropout[0])
        self.down2 = Downsample(64, 128, dropout=dropout[1])
        self.stage2 = blocks(table.s2, 128, 8, box_dropout[1], dropout[1])
        self.up1 = Upsample(128, 64)
        self.stage3 = blocks(table.s3, 64, 4, box_dropout[2])
        self.up2 = Upsample(64, 16)
        self.stage4 = blocks(table.s4, 16, 2, box_dropout[3])
        self.head = nn.ConvTranspose2d(16, num_classes, 2, stride=2)

    def logits(self, image: Tensor) -> Tensor:
        half = self.initial(image)
        quarter, indices1 = self.down1(half)
        eighth, indices2 = self.down2(self.stage1(as_temporary(quarter, self.deployed)))
        quarter = self.up1(self.stage2(as_temporary(eighth, self.deployed)), indices2)
        quarter = self.stage3(as_temporary(quarter, self.deployed))
        half = self.up2(quarter, indices1)
        half = self.stage4(as_temporary(half, self.deployed))
        logits: Tensor = self.head(half)
        return logits


def _dilation_of(dilations: Sequence[int], table: Table) -> dict[int | None, int]:
    """Map each of `DILATIONS` to the dilation to use. Raises TypeError or ValueError."""
    if len(tuple(dilations)) != len(DILATIONS):
        raise ValueError(f"dilations must be {len(DILATIONS)} numbers for {DILATIONS}, got {dilations!r}")
    found = [as_int("dilations", dilation, least=1) for dilation in dilations]
    if found != list(DILATIONS) and f"D{DILATIONS[0]}" not in table.s2.split():
        raise ValueError(f"dilations must be left out: this network has no dilated blocks; got {dilations!r}")
    return dict(zip(DILATIONS, found, strict=True))
