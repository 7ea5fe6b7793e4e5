"""From a pair of pictures, image (Pillow, mode RGB, or `Bands`) and label (Pillow, mode L), to tensors for a network.

image: float32 (channels, h, w); values from 0 to 1, minus `mean`, divided by `std`, both per channel.
label: int64 (h, w); classes 0..K-1, or 255 for void.

Any other callable with this signature can be used in the same places.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from .bands import Bands, Picture
from .class_table import VOID
from .config import MEAN, STD
from .large_images import LargeImage

Size = tuple[int, int]
PerChannel = tuple[float, ...]


@dataclass(frozen=True)
class EvalTransform:
    """For evaluation: resizes to `size` = (h, w) and normalises. With `size` None, images keep their size.

    Images are resized bilinearly, with averaging where they shrink; labels are resized by nearest neighbour.
    """

    size: Size | None = None
    mean: PerChannel = MEAN
    std: PerChannel = STD

    def __post_init__(self) -> None:
        if self.size is not None:
            _check_size(self.size, "size")
        _check_normalisation(self.mean, self.std)

    def __call__(self, image: Picture, label: Image.Image) -> tuple[Tensor, Tensor]:
        if self.size is not None:
            label = label.resize(self.size[::-1], Image.Resampling.NEAREST)
        return self.image(image), label_tensor(label)

    def image(self, image: Picture | LargeImage) -> Tensor:
        """The image alone, for prediction: (channels, h, w)."""
        if self.size is not None:
            image = image.resize(self.size[::-1], Image.Resampling.BILINEAR)
        elif not isinstance(image, Picture):
            image = image.crop((0, 0, image.width, image.height))
        return _normalised(unit_range(image), self.mean, self.std)

    def picture(self, image: Tensor) -> npt.NDArray[np.uint8]:
        """Picture (h, w, 3) of a tensor from `image`, for display: its first three channels, or the first in grey."""
        mean, std = (torch.tensor(values, device=image.device)[:, None, None] for values in (self.mean, self.std))
        seen = (image * std + mean).clamp(0, 1)
        seen = seen[:3] if len(seen) > 2 else seen[:1].expand(3, -1, -1)
        return (seen * 255).byte().permute(1, 2, 0).cpu().numpy()


@dataclass(frozen=True)
class Augment:
    """For training: random flip, scale, crop, rotation, blur, brightness and contrast. The result always has `size`.

    size: (h, w) of the result.
    whole: (h, w) to which scale 1 resizes the whole image; by default `size`. With the size of `EvalTransform`, objects
        then have the same size as in evaluation.
    scale: range of the scale, which is drawn uniformly in its logarithm. A window of `size` is then cut out at a random
        place. If the scaled image is smaller than `size`, it is placed at random, and the rest is filled with the mean
        colour (0 after normalisation) and void.
    flip: mirror left and right with probability 1/2.
    rotate: largest angle in degrees, either way. The corners are filled with the mean colour and void.
    blur: probability of a 5 x 5 Gaussian blur with sigma 0.7 to 3.
    brightness: the image is multiplied by a factor from 1 - brightness to 1 + brightness.
    contrast: differences from the mean of the image are multiplied by a factor from 1 - contrast to 1 + contrast. Both
        factors are the same for all channels.
    balanced_crops: probability that the window is placed around a pixel of a chosen class. The class is drawn uniformly
        from those in the label, then the pixel from those of the class.

    All random numbers come from torch's global generator. They are drawn even for options that are off, so switching
    one off leaves the random numbers of the others as they are.
    """

    size: Size
    whole: Size | None = None
    mean: PerChannel = MEAN
    std: PerChannel = STD
    flip: bool = True
    scale: tuple[float, float] = (0.75, 1.5)
    brightness: float = 0.2
    contrast: float = 0.2
    rotate: float = 0.0
    blur: float = 0.0
    balanced_crops: float = 0.0

    def __post_init__(self) -> None:
        _check_size(self.size, "size")
        if self.whole is not None:
            _check_size(self.whole, "whole")
        _check_normalisation(self.mean, self.std)
        if not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise ValueError(f"scale must be a range (low, high) with 0 < low <= high, found {self.scale}")
        for name in ("brightness", "contrast"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and less than 1, found {getattr(self, name)}")
        if not 0 <= self.rotate <= 45:
            raise ValueError(f"rotate must be 0 to 45 degrees, found {self.rotate}")
        for name in ("blur", "balanced_crops"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a probability from 0 to 1, found {getattr(self, name)}")

    def __call__(self, image: Picture, label: Image.Image) -> tuple[Tensor, Tensor]:
        drawn = torch.rand(9, dtype=torch.float64).tolist()
        mirror, zoom, down, right, bright, contrast, turn, blurred, sigma = drawn
        scale = self.scale[0] * (self.scale[1] / self.scale[0]) ** zoom
        whole = self.whole or self.size
        row, column = self._chosen_pixel(label) if self.balanced_crops else (None, None)
        rows = _Span.place(self.size[0], scale * whole[0], image.height, down, row)
        columns = _Span.place(self.size[1], scale * whole[1], image.width, right, column)

        # Resize the window alone, so that nothing outside it is computed.
        box = (columns.start, rows.start, columns.stop, rows.stop)
        target = (columns.length, rows.length)
        image = image.resize(target, Image.Resampling.BILINEAR, box=box)
        label = label.resize(target, Image.Resampling.NEAREST, box=box)
        if blurred < self.blur:
            image = image.filter(_gaussian(0.7 + 2.3 * sigma))
        outside: Tensor | None = None
        if self.rotate > 0:
            angle = self.rotate * (2 * turn - 1)
            image = image.rotate(angle, Image.Resampling.BILINEAR)
            label = label.rotate(angle, Image.Resampling.NEAREST, fillcolor=VOID)
            outside = label_tensor(Image.new("L", target, 1).rotate(angle, Image.Resampling.NEAREST)) == 0
        seen, classes = unit_range(image), label_tensor(label)
        seen = _normalised(self._jitter(seen, bright, contrast), self.mean, self.std)
        if outside is not None:
            seen = seen.masked_fill_(outside, 0.0)
        if self.flip and mirror < 0.5:
            seen, classes = seen.flip(-1), classes.flip(-1)
        if target == self.size[::-1]:
            return seen, classes

        window = (slice(rows.offset, rows.offset + rows.length), slice(columns.offset, columns.offset + columns.length))
        padded_image = seen.new_zeros(len(seen), *self.size)
        padded_image[:, window[0], window[1]] = seen
        padded_label = classes.new_full(self.size, VOID)
        padded_label[window] = classes
        return padded_image, padded_label

    def _chosen_pixel(self, label: Image.Image) -> tuple[int | None, int | None]:
        """Row and column of the pixel that the window must show, or (None, None) if the window may be anywhere."""
        chosen, kind, place = torch.rand(3, dtype=torch.float64).tolist()
        counts = label.histogram()  # mode L: 256
        classes = [value for value, count in enumerate(counts) if count and value != VOID]
        if chosen >= self.balanced_crops or not classes:
            return None, None
        value = classes[int(kind * len(classes))]
        pixel = int(np.flatnonzero(np.asarray(label) == value)[int(place * counts[value])])
        return divmod(pixel, label.width)

    def _jitter(self, image: Tensor, bright: float, contrast: float) -> Tensor:
        """Change an image (0 to 1) in place. `bright` and `contrast` are from 0 to 1; 1/2 changes nothing."""
        gain = 1 + self.brightness * (2 * bright - 1)
        spread = 1 + self.contrast * (2 * contrast - 1)
        if gain == spread == 1:
            return image
        # One pass: gain * (grey + spread * (image - grey))
        return image.mul_(gain * spread).add_(gain * (1 - spread) * image.mean()).clamp_(0, 1)


@dataclass(frozen=True)
class _Span:
    """One axis of a crop: the source pixels start..stop become `length` output pixels, beginning at `offset`."""

    start: float
    stop: float
    length: int
    offset: int

    @classmethod
    def place(cls, size: int, scaled: float, source: int, at: float, around: int | None = None) -> "_Span":
        """Crop `size` pixels out of `source` pixels that are scaled to `scaled`; source pixel `around` is inside.

        `at`, from 0 to 1, is its random position.
        """
        length = min(size, max(1, round(scaled)))
        visible = min(1.0, size / scaled) * source
        low, high = 0.0, source - visible
        if around is not None:
            low, high = max(low, around + 1 - visible), min(high, around)
        start = low + at * (high - low)
        return cls(start, min(start + visible, source), length, round(at * (size - length)))


def _gaussian(sigma: float) -> ImageFilter.Kernel:
    line = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(-2, 3)]
    return ImageFilter.Kernel((5, 5), [a * b for a in line for b in line], sum(line) ** 2)


def unit_range(image: Picture) -> Tensor:
    """Tensor of a picture: float32 (channels, h, w) from 0 to 1."""
    if isinstance(image, Bands):
        values = torch.from_numpy(image.array())
        return values if values.is_floating_point() else values.float().div_(255)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)


def _normalised(image: Tensor, mean: PerChannel, std: PerChannel) -> Tensor:
    if len(image) != len(mean):
        raise ValueError(f"mean and std are those of {len(mean)} channels, the image has {len(image)}")
    return image.sub_(torch.tensor(mean).view(-1, 1, 1)).div_(torch.tensor(std).view(-1, 1, 1))


def label_tensor(label: Image.Image) -> Tensor:
    """Tensor of a label map of mode L: int64 (h, w)."""
    return torch.from_numpy(np.array(label)).long()


def _check_size(size: Size, name: str) -> None:
    if len(size) != 2 or not all(isinstance(length, int) and length > 0 for length in size):
        raise ValueError(f"{name} must be two positive integers (height, width), found {size!r}")


def _check_normalisation(mean: PerChannel, std: PerChannel) -> None:
    if len(mean) < 1 or not all(map(math.isfinite, mean)):
        raise ValueError(f"mean must be finite numbers, one for each channel, found {mean!r}")
    if len(std) != len(mean) or not all(0 < value < math.inf for value in std):
        raise ValueError(f"std must be positive numbers, as many as mean has, {len(mean)}, found {std!r}")
