"""Transforms: shapes, values, and that image and label always move together."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from boxconv.data.bands import Bands
from boxconv.data.class_table import VOID
from boxconv.data.datasets import seeded
from boxconv.data.transforms import MEAN, STD, Augment, EvalTransform, _Span

PLAIN: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
STILL: dict[str, Any] = {**PLAIN, "flip": False, "scale": (1.0, 1.0), "brightness": 0.0, "contrast": 0.0}


def chequered() -> tuple[Image.Image, Image.Image]:
    """A pair of 48 x 64 pixels (h, w): red = 4 * column, green = 5 * row, blue = 90; a label for each 8 x 8 square."""
    rows, columns = np.mgrid[0:48, 0:64]
    image = np.stack([4 * columns, 5 * rows, np.full_like(rows, 90)], -1)
    return Image.fromarray(image.astype(np.uint8)), Image.fromarray((rows // 8 * 8 + columns // 8).astype(np.uint8))


def furthest(image: Tensor, label: Tensor) -> tuple[float, float]:
    """Largest distance, in source rows and columns, from the place that a pixel's colour encodes to the middle of its
    label's square; up to 4 is inside the square.
    """
    scored = label != VOID
    rows, columns = image[1][scored] * 255 / 5, image[0][scored] * 255 / 4
    squares = label[scored]
    down = (rows - (squares // 8 * 8 + 3.5)).abs().max()
    right = (columns - (squares % 8 * 8 + 3.5)).abs().max()
    return float(down), float(right)


def test_eval_transform_without_size_is_exact() -> None:
    image, label = chequered()
    prepared, classes = EvalTransform()(image, label)
    expected = (np.asarray(image) / 255.0 - MEAN) / STD
    assert (prepared.dtype, classes.dtype) == (torch.float32, torch.int64)
    assert prepared.is_contiguous()
    assert classes.is_contiguous()
    torch.testing.assert_close(prepared, torch.from_numpy(expected).permute(2, 0, 1).float())
    assert torch.equal(classes, torch.from_numpy(np.array(label)).long())
    assert np.asarray(image)[0, 63].tolist() == [252, 0, 90]


@pytest.mark.parametrize("size", [(24, 32), (48, 64), (30, 50), (96, 100), (7, 5), (1, 1)])
def test_eval_transform_resizes_both(size: tuple[int, int]) -> None:
    image, label = EvalTransform(size, **PLAIN)(*chequered())
    assert image.shape == (3, *size)
    assert label.shape == size
    down, right = furthest(image, label)
    assert down <= 4 + 48 / size[0] / 2
    assert right <= 4 + 64 / size[1] / 2
    assert torch.equal(EvalTransform(size, **PLAIN).image(chequered()[0]), image)


@pytest.mark.parametrize(
    "size, whole", [((24, 32), None), ((40, 24), (48, 64)), ((96, 128), None), ((20, 90), (40, 40))]
)
def test_augmented_pairs_stay_together(size: tuple[int, int], whole: tuple[int, int] | None) -> None:
    augment = Augment(size, whole, **PLAIN, scale=(0.5, 2.0), brightness=0.0, contrast=0.0)
    flipped = padded = 0
    for i in range(60):
        with seeded(i):
            image, label = augment(*chequered())
        assert (image.dtype, label.dtype, image.shape, label.shape) == (torch.float32, torch.int64, (3, *size), size)
        assert image.is_contiguous()
        assert label.is_contiguous()
        down, right = furthest(image, label)
        height, width = whole or size
        assert down <= 4 + 48 / (0.5 * height) / 2 + 0.2
        assert right <= 4 + 64 / (0.5 * width) / 2 + 0.2
        blank = label == VOID
        assert bool((image[:, blank] == 0).all())
        assert not bool((image[2][~blank] == 0).any())
        row = label[(~blank).any(1)][0]
        row = row[row != VOID]
        flipped += int(row[0] > row[-1])
        padded += int(blank.any())
    assert 15 <= flipped <= 45
    assert 15 <= padded <= 60


def test_scale_one_is_eval_transform() -> None:
    for size in ((24, 32), (50, 41)):
        augmented, prepared = Augment(size, **STILL)(*chequered()), EvalTransform(size, **PLAIN)(*chequered())
        assert torch.equal(augmented[0], prepared[0])
        assert torch.equal(augmented[1], prepared[1])


def test_crops_reach_every_place() -> None:
    augment = Augment((24, 32), (48, 64), **STILL)
    corners = torch.stack([augment(*chequered())[0][:2, 0, 0] for _ in range(200)]) * 255 / torch.tensor([4.0, 5.0])
    assert bool((corners.amin(0) < 1).all())
    assert bool((corners.amax(0) > torch.tensor([31.0, 23.0])).all())


def test_padding_is_the_mean_colour() -> None:
    image, label = Augment((24, 32), scale=(0.5, 0.5), brightness=0.5)(*chequered())
    assert int((label != VOID).sum()) == 12 * 16
    assert bool((image[:, label == VOID] == 0).all())


def test_brightness_and_contrast() -> None:
    image, label = chequered()
    plain = EvalTransform(None, **PLAIN)(image, label)[0]
    gains, spreads = [], []
    for i in range(200):
        with seeded(i):
            bright = Augment((48, 64), **{**STILL, "brightness": 0.1})(image, label)[0]
            contrast = Augment((48, 64), **{**STILL, "contrast": 0.1})(image, label)[0]
        gains.append(float(bright.sum() / plain.sum()))
        spreads.append(float((contrast[1, 40] - contrast[1, 10]).mean() / (plain[1, 40] - plain[1, 10]).mean()))
        assert 0 <= float(bright.min()) <= float(bright.max()) <= 1
    for factors in (gains, spreads):
        assert 0.88 < min(factors) < 0.92
        assert 1.07 < max(factors) < 1.12


def test_rotated_pairs_stay_together() -> None:
    augment = Augment((48, 64), **STILL, rotate=20.0)
    tilts = []
    for i in range(40):
        with seeded(i):
            image, label = augment(*chequered())
        down, right = furthest(image, label)
        assert max(down, right) <= 5.5  # half a square, and less than a pixel each of bilinear and nearest
        blank = label == VOID
        assert bool((image[:, blank] == 0).all())
        assert not bool((image[2][~blank] == 0).any())
        middle = image[:2, 24, 16:48] * 255 / torch.tensor([[4.0], [5.0]])
        tilts.append(float(torch.atan2(middle[1, -1] - middle[1, 0], middle[0, -1] - middle[0, 0]).rad2deg()))
    assert -20.5 < min(tilts) < -15
    assert 15 < max(tilts) < 20.5


def test_blur_is_a_gaussian_of_five_pixels_and_comes_as_often_as_asked() -> None:
    dot = np.zeros((15, 15, 3), np.uint8)
    dot[7, 7] = 255
    label = Image.fromarray(np.arange(225, dtype=np.uint8).reshape(15, 15))
    blurred = 0
    for i in range(200):
        with seeded(i):
            image, classes = Augment((15, 15), **STILL, blur=0.5)(Image.fromarray(dot), label)
        assert torch.equal(classes.flatten(), torch.arange(225))
        spread = image[0] > 0
        if int(spread.sum()) > 1:
            blurred += 1
            window = image[0, 5:10, 5:10]
            assert int(spread.sum()) <= 25
            assert bool((image[0][spread].sum() - window.sum()).abs() < 1e-6)
            assert float(window.sum()) == pytest.approx(1, abs=25 * 0.5 / 255)
            # exp(-d^2 / 2 sigma^2) of a line through the middle, sigma from 0.7 to 3
            ratio = float(window[2, 1] / window[2, 2])
            assert np.exp(-0.5 / 0.7**2) - 0.03 <= ratio <= np.exp(-0.5 / 3**2) + 0.1
    assert 75 <= blurred <= 125


def test_other_options_leave_the_numbers_of_the_rest_alone() -> None:
    with seeded(5):
        plain = Augment((24, 32), **PLAIN, brightness=0.0, contrast=0.0)(*chequered())[1]
    with seeded(5):
        blurred = Augment((24, 32), **PLAIN, brightness=0.1, contrast=0.1, blur=1.0)(*chequered())[1]
    assert torch.equal(plain, blurred)


def test_the_seed_decides_everything() -> None:
    augment = Augment((24, 32))
    with seeded(1):
        first = augment(*chequered())
    with seeded(1):
        second = augment(*chequered())
        np.testing.assert_equal(first[0].numpy(), second[0].numpy())
        assert not torch.equal(augment(*chequered())[0], first[0])


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: EvalTransform((0, 4)), "size must be two positive integers"),
        (lambda: EvalTransform((3.0, 4)), "size must be"),  # type: ignore[arg-type]
        (lambda: EvalTransform((32, 32, 3)), "size must be"),  # type: ignore[arg-type]
        (lambda: Augment((0, 32)), "size must be two positive integers"),
        (lambda: EvalTransform(std=(1, 0, 1)), "std must be"),
        (lambda: EvalTransform(mean=(1, float("nan"), 1)), "mean must be"),
        (lambda: Augment((4, 4), (4, -4)), "whole must be"),
        (lambda: Augment((4, 4), scale=(2, 1)), "scale must be"),
        (lambda: Augment((4, 4), scale=(0, 1)), "scale must be"),
        (lambda: Augment((4, 4), brightness=1.0), "brightness must be"),
        (lambda: Augment((4, 4), contrast=-0.1), "contrast must be"),
        (lambda: Augment((4, 4), rotate=46.0), "rotate must be"),
        (lambda: Augment((4, 4), blur=1.1), "blur must be"),
        (lambda: Augment((4, 4), balanced_crops=-1), "balanced_crops must be a probability from 0 to 1, found -1"),
    ],
)
def test_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def as_bands(image: Image.Image, deep: bool) -> Bands:
    """The same picture as `Bands`, with 8 bits or floating-point numbers."""
    values = np.asarray(image).transpose(2, 0, 1)
    return Bands.of((values / 255).astype(np.float32) if deep else values)


EVERYTHING: dict[str, Any] = {"scale": (0.5, 2.0), "rotate": 10.0, "blur": 0.5, "brightness": 0.3, "contrast": 0.3}


@pytest.mark.parametrize("deep", [False, True])
def test_bands_are_treated_as_colours_are(deep: bool) -> None:
    image, label = chequered()
    smooth = image.filter(ImageFilter.GaussianBlur(2))
    padded = 0
    for i in range(30):
        for picture in (image, smooth):
            with seeded(i):
                expected = Augment((40, 50), **EVERYTHING)(picture, label)
            with seeded(i):
                found = Augment((40, 50), **EVERYTHING)(as_bands(picture, deep), label)
            assert torch.equal(found[1], expected[1])
            if not deep:
                assert torch.equal(found[0], expected[0])
            elif picture is smooth:
                # 8 bits round after each step, and Pillow's kernels leave out a margin of two pixels.
                inner = (found[0] - expected[0]).abs()[:, 3:-3, 3:-3]
                assert float(inner.mean()) < 0.02
        padded += int((expected[1] == VOID).any())
    assert padded
    prepared = EvalTransform((24, 32))
    assert torch.equal(prepared(as_bands(image, False), label)[0], prepared(image, label)[0])
    torch.testing.assert_close(prepared.image(as_bands(image, True)), prepared.image(image), atol=0.02, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_any_number_of_channels(channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 256, (channels, 48, 64), dtype=np.uint8)
    per_channel: dict[str, Any] = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
    image, label = Augment((40, 50), **EVERYTHING, **per_channel)(Bands.of(values), chequered()[1])
    assert image.shape == (channels, 40, 50)
    assert float(image[:, label == VOID].abs().sum()) == 0
    with pytest.raises(ValueError, match=f"mean and std are those of 5 channels, the image has {channels}"):
        EvalTransform(None, (0.5,) * 5, (1.0,) * 5).image(Bands.of(values))


def test_balanced_crops_show_rare_classes_and_leave_the_rest():
    """One pixel in 6400 has class 1: a crop of 1/16 of the image rarely contains it, half of balanced crops do."""
    values = np.zeros((80, 80), np.uint8)
    values[7, 70] = 1
    image, label = Image.fromarray(np.zeros((80, 80, 3), np.uint8)), Image.fromarray(values)
    options = {"whole": (80, 80), "scale": (1.0, 1.0), "flip": False}

    def share(count=200, **changes):
        crop = Augment((20, 20), **options | changes)
        return sum(bool((crop(image, label)[1] == 1).any()) for _ in range(count)) / count

    torch.manual_seed(0)
    assert share() < 0.2
    assert 0.4 < share(balanced_crops=1.0) < 0.75
    assert 0.15 < share(balanced_crops=0.5) < 0.45
    assert share(balanced_crops=1.0, scale=(0.1, 0.3)) > 0.0, "an image that is smaller than the crop"

    # With a class that is everywhere, the window can lie anywhere, up to the corners.
    even = Image.new("L", (80, 80), 3)
    image = Image.fromarray(np.arange(80 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(80, 80, 3))
    balanced, plain = Augment((20, 20), balanced_crops=1.0, **options), Augment((20, 20), **options)
    assert len({balanced(image, even)[0].sum().item() for _ in range(30)}) > 20
    # Nothing but void: as if it was off.
    void = Image.new("L", (80, 80), 255)
    for seed in range(5):
        torch.manual_seed(seed)
        one = balanced(image, void)
        torch.manual_seed(seed)
        assert all(map(torch.equal, one, plain(image, void)))


@pytest.mark.parametrize("pixel", [0, 3, 39])
@pytest.mark.parametrize("at", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("size, scaled", [(10, 40.0), (10, 13.0), (30, 40.0), (30, 20.0), (1, 40.0)])
def test_a_window_shows_the_pixel_it_is_laid_around(pixel, at, size, scaled):
    span = _Span.place(size, scaled, 40, at, pixel)
    assert span.start <= pixel + 1e-9
    assert pixel + 1 <= span.stop + 1e-9
    assert span.start >= 0
    assert span.stop <= 40


def test_pictures_of_transformed_images():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8))
    transform = EvalTransform(None)
    seen = transform.picture(transform.image(image))
    assert np.abs(seen.astype(int) - np.asarray(image)).max() <= 1
    grey = EvalTransform(None, (0.5,), (0.25,)).picture(torch.zeros(1, 6, 8))
    assert (grey.shape, grey.dtype) == ((6, 8, 3), np.uint8)
    assert set(grey.flatten().tolist()) == {127}
