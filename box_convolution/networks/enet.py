"""ENet and its box versions, each written once as a table of blocks.

Blocks are those of the authors' Torch7 networks: 1x1 convolutions without bias, 3x3 and transposed convolutions with
one (redundant before BatchNorm, but counted in Table 3 of the paper), BatchNorm with eps 1e-3, decoder with ReLU and no
dropout.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, max_unpool2d, pad

from .box_block import BoxBottleneck
from .padding import PaddedNetwork, extents


@dataclass(frozen=True)
class Table:
    """Blocks that keep the resolution, stage by stage.

    ``D`` bottleneck, ``D4`` dilated by 4, ``A5`` asymmetric 5x1 + 1x5, ``X4`` box block with 4 boxes a channel.
    """

    s1: str  # 1/4 resolution, 64 channels
    s2: str  # 1/8, 128 channels
    s3: str  # 1/4, 64 channels, decoder
    s4: str  # 1/2, 16 channels, decoder
    box_bias: bool = True
    frozen: bool = False


_BOXENET = Table(s1="D X4 D X4", s2="D X4 A5 X4 D X4 A5 X4 D X4 A5 X4 D X4 A5 X4", s3="D X4", s4="X2")
TABLES = {
    "enet": Table(s1="D D D D", s2="D D2 A5 D4 D D8 A5 D16 D D2 A5 D4 D D8 A5 D16", s3="D D", s4="D"),
    "boxenet": _BOXENET,
    "boxenet_frozen": replace(_BOXENET, frozen=True),
    "enet_minus": Table(s1="D D", s2="D A5 D A5 D A5 D A5", s3="D", s4=""),
    "boxonlyenet": Table(s1="X4 X4 X4 X4", s2=" ".join(["X4"] * 16), s3="X4 X4", s4="X4", box_bias=False),
}


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _act(channels: int, relu: bool = False) -> nn.Module:
    return nn.ReLU(inplace=True) if relu else nn.PReLU(channels)


class Initial(nn.Module):
    """(B, 3, H, W) -> (B, 16, H/2, W/2): 13 filters beside the pooled image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 13, 3, stride=2, padding=1)
        self.norm, self.act = _norm(16), _act(16)

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.act(self.norm(torch.cat((self.conv(input), max_pool2d(input, 2)), 1)))
        return output


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
        self.branch = nn.Sequential(
            nn.Conv2d(channels, narrow, 1, bias=False),
            _norm(narrow),
            _act(narrow, relu),
            *middle,
            _norm(narrow),
            _act(narrow, relu),
            nn.Conv2d(narrow, channels, 1, bias=False),
            _norm(channels),
            nn.Dropout2d(dropout),
        )
        self.act = _act(channels, relu)

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.act(input + self.branch(input))
        return output


class Downsample(nn.Module):
    """(B, n, H, W) -> (B, m, H/2, W/2) and the indices of the pooled maxima, (B, n, H/2, W/2)."""

    def __init__(self, channels_in: int, channels_out: int, *, dropout: float):
        super().__init__()
        narrow = channels_out // 4
        self.new_channels = channels_out - channels_in
        self.branch = nn.Sequential(
            nn.Conv2d(channels_in, narrow, 2, stride=2, bias=False),
            _norm(narrow),
            _act(narrow),
            nn.Conv2d(narrow, narrow, 3, padding=1),
            _norm(narrow),
            _act(narrow),
            nn.Conv2d(narrow, channels_out, 1, bias=False),
            _norm(channels_out),
            nn.Dropout2d(dropout),
        )
        self.act = _act(channels_out)

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor]:
        skip, indices = max_pool2d(input, 2, return_indices=True)
        return self.act(self.branch(input) + pad(skip, (0, 0, 0, 0, 0, self.new_channels))), indices


class Upsample(nn.Module):
    """(B, n, H, W) -> (B, m, 2H, 2W); the skip connection puts values back where ``indices`` took them from."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        narrow = channels_out // 4
        self.branch = nn.Sequential(
            nn.Conv2d(channels_in, narrow, 1, bias=False),
            _norm(narrow),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(narrow, narrow, 3, stride=2, padding=1, output_padding=1),
            _norm(narrow),
            nn.ReLU(inplace=True),
            nn.Conv2d(narrow, channels_out, 1, bias=False),
            _norm(channels_out),
        )
        self.skip = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, bias=False), _norm(channels_out))

    def forward(self, input: Tensor, indices: Tensor) -> Tensor:
        return torch.relu(self.branch(input) + max_unpool2d(self.skip(input), indices, (2, 2)))


class ENet(PaddedNetwork):
    """The ENet family.

    Args:
        table: blocks of the stages.
        num_classes: channels of the logits.
        input_size: (h, w), largest expected image, in pixels: sets the limits of the boxes.
        dropout: of plain blocks, (first stage, later encoder); the decoder has none.
        box_dropout: of box blocks, (at 1/8 resolution, elsewhere), as in the paper. The authors' code has (.25, .15) in
            the encoder and .1 in the decoder.
        reparametrization_factor: see `BoxConv2d`; the authors' value for BoxENet by default.
    """

    def __init__(
        self,
        table: Table,
        num_classes: int,
        input_size: tuple[int, int],
        *,
        dropout: tuple[float, float] = (0.01, 0.1),
        box_dropout: tuple[float, float] = (0.25, 0.15),
        reparametrization_factor: float = 0.86,
    ) -> None:
        super().__init__()
        for name, pair in (("dropout", dropout), ("box_dropout", box_dropout)):
            if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(0 <= p < 1 for p in pair):
                raise ValueError(f"{name} must be two probabilities in [0, 1), see ENet, got {pair!r}")
        at = extents(input_size)

        def stage(blocks: str, channels: int, divisor: int, p: float, decoder: bool = False) -> nn.Sequential:
            def block(code: str) -> nn.Module:
                kind, number = code[0], int(code[1:] or 1)
                if kind == "X":
                    return BoxBottleneck(
                        channels,
                        boxes_per_channel=number,
                        max_input_h=at[divisor][0],
                        max_input_w=at[divisor][1],
                        dropout=box_dropout[0] if divisor == 8 else box_dropout[1],
                        bias=table.box_bias,
                        reparametrization_factor=reparametrization_factor,
                    )
                shape = {"dilation": number} if kind == "D" else {"asymmetric": number}
                return Bottleneck(channels, dropout=p, relu=decoder, **shape)

            return nn.Sequential(*map(block, blocks.split()))

        self.initial = Initial()
        self.down1 = Downsample(16, 64, dropout=dropout[0])
        self.stage1 = stage(table.s1, 64, 4, dropout[0])
        self.down2 = Downsample(64, 128, dropout=dropout[1])
        self.stage2 = stage(table.s2, 128, 8, dropout[1])
        self.up1 = Upsample(128, 64)
        self.stage3 = stage(table.s3, 64, 4, 0.0, decoder=True)
        self.up2 = Upsample(64, 16)
        self.stage4 = stage(table.s4, 16, 2, 0.0, decoder=True)
        self.head = nn.ConvTranspose2d(16, num_classes, 2, stride=2)
        if table.frozen:
            for module in self.modules():
                if isinstance(module, BoxBottleneck):
                    module.box.freeze()

    def logits(self, image: Tensor) -> Tensor:
        half = self.initial(image)
        quarter, indices1 = self.down1(half)
        eighth, indices2 = self.down2(self.stage1(quarter))
        quarter = self.stage3(self.up1(self.stage2(eighth), indices2))
        half = self.stage4(self.up2(quarter, indices1))
        logits: Tensor = self.head(half)
        return logits
