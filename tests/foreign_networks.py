"""Small segmentation networks in the style of other projects, with random weights and without boxes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate


def conv(channels_in: int, channels_out: int, kernel: int = 3, **options) -> nn.Sequential:
    padding = options.pop("padding", options.get("dilation", 1) * (kernel // 2))
    layer = nn.Conv2d(channels_in, channels_out, kernel, padding=padding, bias=False, **options)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))


class SqueezeExcite(nn.Module):
    """Its pooling is not a source of context: the result weights channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Linear(channels, 4), nn.ReLU(), nn.Linear(4, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(self.pool(x).flatten(1))[..., None, None]


class ImagePooling(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        for module in self:
            x = module(x)
        return interpolate(x, size=size, mode="bilinear", align_corners=False)


class DeepLab(nn.Module):
    """A dilated encoder and atrous spatial pyramid pooling (Chen et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16, 7, stride=2)
        self.layer1 = nn.Sequential(conv(16, 32, stride=2), SqueezeExcite(32), conv(32, 32, dilation=2))
        self.aspp = nn.ModuleList([conv(32, 16, 1), *(conv(32, 16, dilation=d) for d in (6, 12))])
        self.image = ImagePooling(nn.AdaptiveAvgPool2d(1), nn.Conv2d(32, 16, 1), nn.ReLU())
        self.head = nn.Conv2d(64, 5, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.layer1(self.stem(image))
        x = self.head(torch.cat([*(branch(x) for branch in self.aspp), self.image(x)], 1))
        return {"out": interpolate(x, size=image.shape[-2:], mode="bilinear", align_corners=False)}


class PyramidPooling(nn.Module):
    """PSPNet (Zhao et al. 2017), with a large separable kernel (Peng et al. 2017) and a depthwise one."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(conv(1, 16, stride=2), conv(16, 24, stride=2), conv(24, 24, 7, groups=24))
        self.pyramid = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(bins), conv(24, 6, 1)) for bins in (1, 2, 3))
        self.across = nn.Conv2d(42, 10, (1, 9), padding="same")
        self.down = nn.Conv2d(10, 10, (9, 1), padding=(4, 0))
        self.head = nn.Conv2d(10, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.encoder(image)
        pools = [interpolate(pool(x), x.shape[2:], mode="bilinear", align_corners=True) for pool in self.pyramid]
        x = self.head(self.down(self.across(torch.cat([x, *pools], 1))))
        return interpolate(x, scale_factor=4.0)


class Listed(nn.Module):
    """Calls its layers from a plain list, like the pyramid pooling of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Conv2d(3, 4, 3, padding=2, dilation=2), nn.ReLU()]
        for index, layer in enumerate(self.layers):
            self.add_module(str(index), layer)

    def forward(self, image: Tensor) -> Tensor:
        for layer in self.layers:
            image = layer(image)
        return image


class Unpadded(nn.Module):
    """Pads images itself, like networks from TensorFlow; one convolution is called twice, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(2, 8, 3, padding=1)
        self.dilated = nn.Conv2d(8, 8, 3, dilation=3)
        self.again = self.dilated
        self.smaller = nn.Conv2d(8, 12, 3, dilation=2)
        self.unused = nn.Conv2d(8, 8, 3, dilation=2)
        self.reflecting = nn.Conv2d(12, 3, 3, padding=2, dilation=2, padding_mode="reflect")

    def forward(self, image: Tensor) -> Tensor:
        x = self.enter(image)
        for layer in (self.dilated, self.again):
            x = x + layer(nn.functional.pad(x, (3, 3, 3, 3))).relu()
        return self.reflecting(self.smaller(x))


def mobilenet() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileNetV2Config(num_labels=4, output_stride=8, depth_multiplier=0.35)
    return transformers.MobileNetV2ForSemanticSegmentation(config)


def segformer() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(num_labels=4, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])
    return transformers.SegformerForSemanticSegmentation(config)


def upernet() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    backbone = transformers.ConvNextConfig(
        hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    return transformers.UperNetForSemanticSegmentation(
        transformers.UperNetConfig(backbone_config=backbone, num_labels=4, hidden_size=32, auxiliary_in_channels=24)
    )


def highresnet() -> nn.Module:
    return pytest.importorskip("monai.networks.nets").HighResNet(spatial_dims=2, in_channels=1, out_channels=4)


def mednext() -> nn.Module:
    nets = pytest.importorskip("monai.networks.nets")
    if not hasattr(nets, "MedNeXt"):
        pytest.skip("this monai has no MedNeXt")
    return nets.MedNeXt(spatial_dims=2, in_channels=1, out_channels=4, init_filters=8, kernel_size=7)


def depthwise(name: str, module: nn.Module) -> bool:
    return name.endswith("dwconv.dwconv")


# Networks from packages: a function that makes it, channels of its images, what to replace, number of new modules.
Made = Callable[[], nn.Module]
OF_PACKAGES: dict[str, tuple[Made, int, object, int]] = {
    "transformers MobileNetV2 with DeepLabV3+": (mobilenet, 3, ("dilated", "pooling"), 11),
    "transformers SegFormer": (segformer, 3, depthwise, 4),
    "transformers UPerNet with ConvNeXt": (upernet, 3, ("large", "pooling"), 8),
    "monai HighResNet": (highresnet, 1, "dilated", 12),
    "monai MedNeXt": (mednext, 1, "large", 18),
}
