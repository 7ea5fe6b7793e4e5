"""The block around the box convolution (Figure 1 of the paper)."""

from torch import Tensor, nn

from ..argument_checks import as_bool, as_float, as_int
from ..layer import BoxConv2d
from .residual_sum import residual_sum


class BoxBottleneck(nn.Module):
    """1x1 convolution to ``channels / boxes_per_channel``, box convolution back to ``channels``, residual connection.

    conv1x1 -> BatchNorm -> [ReLU] -> BoxConv2d -> BatchNorm -> dropout of whole channels; + input; ReLU. This is
    Figure 1 of the paper.

    Examples:
        >>> block = BoxBottleneck(64, max_input_h=64, max_input_w=128)
        >>> block(torch.rand(1, 64, 64, 128)).shape
        torch.Size([1, 64, 64, 128])

    Args:
        channels: N, of input and output (B, N, H, W).
        boxes_per_channel: m; the block is N -> N/m -> N.
        max_input_h: largest expected height at this depth of the network, in pixels.
        max_input_w: the same for the width.
        dropout: probability of dropping a channel of the residual branch, in [0, 1).
        inner_relu: ReLU before the boxes (as in the ENet family; the ERFNet family has none).
        bias: of the 1x1 convolution. It has no effect before BatchNorm, but the authors' BoxENet has it.
        reparametrization_factor: see `BoxConv2d`.
        symmetric: see `BoxConv2d`.
        initial_boxes: see `BoxConv2d`.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or ``channels`` is not divisible by
            ``boxes_per_channel``.
    """

    def __init__(
        self,
        channels: int,
        *,
        boxes_per_channel: int = 4,
        max_input_h: int,
        max_input_w: int,
        dropout: float = 0.0,
        inner_relu: bool = True,
        bias: bool = False,
        reparametrization_factor: float = 8.0,
        symmetric: bool = False,
        initial_boxes: str = "uniform",
    ) -> None:
        super().__init__()
        channels = as_int("channels", channels, least=1)
        boxes_per_channel = as_int("boxes_per_channel", boxes_per_channel, least=1)
        if channels % boxes_per_channel:
            raise ValueError(
                f"channels must be a multiple of boxes_per_channel, got channels={channels}, "
                f"boxes_per_channel={boxes_per_channel}"
            )
        if not 0 <= as_float("dropout", dropout) < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        narrow = channels // boxes_per_channel
        self.conv = nn.Conv2d(channels, narrow, 1, bias=as_bool("bias", bias))
        self.norm_in = nn.BatchNorm2d(narrow)
        self.inner_relu = as_bool("inner_relu", inner_relu)
        self.box = BoxConv2d(
            narrow,
            boxes_per_channel,
            max_input_h,
            max_input_w,
            reparametrization_factor=reparametrization_factor,
            symmetric=symmetric,
            initial_boxes=initial_boxes,
        )
        self.norm_out = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout2d(float(dropout))

    def forward(self, input: Tensor) -> Tensor:
        narrow = self.norm_in(self.conv(input))
        if self.inner_relu:
            narrow = narrow.relu()
        return residual_sum(self.dropout(self.norm_out(self.box(narrow))), input).relu_()
