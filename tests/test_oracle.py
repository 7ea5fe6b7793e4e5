"""The oracle compared with pictures that can be computed by hand, so that the truth is checked as well."""

import numpy as np
import oracle
import pytest

IMAGE = np.arange(20.0).reshape(1, 1, 4, 5)


def test_identity_and_shift() -> None:
    assert np.array_equal(oracle.box_conv2d(IMAGE, [[[-0.5, 0.5, -0.5, 0.5]]]), IMAGE)
    below = oracle.box_conv2d(IMAGE, [[[0.5, 1.5, -0.5, 0.5]]])
    assert np.array_equal(below[0, 0, :3], IMAGE[0, 0, 1:])
    assert not below[0, 0, 3].any()
    right = oracle.box_conv2d(IMAGE, [[[-0.5, 0.5, 1.5, 2.5]]])
    assert np.array_equal(right[0, 0, :, :3], IMAGE[0, 0, :, 2:])


def test_nine_pixels_and_half_pixels() -> None:
    assert oracle.box_conv2d(IMAGE, [[[-1.5, 1.5, -1.5, 1.5]]])[0, 0, 1, 1] == IMAGE[0, 0, :3, :3].mean()
    corner = oracle.box_conv2d(IMAGE, [[[-1.5, 1.5, -1.5, 1.5]]], normalize=False)[0, 0, 0, 0]
    assert corner == IMAGE[0, 0, :2, :2].sum()
    assert oracle.box_conv2d(IMAGE, [[[-0.5, 0.5, 0, 1]]])[0, 0, 2, 3] == (13 + 0) / 2 + 14 / 2


def test_stride_centres_outputs_on_every_second_pixel() -> None:
    boxes = [[[-0.7, 1.9, -2.2, 0.4]]]
    assert np.array_equal(oracle.box_conv2d(IMAGE, boxes, stride=2), oracle.box_conv2d(IMAGE, boxes)[:, :, ::2, ::2])


def test_signs_and_empty_boxes() -> None:
    upright, inverted = [[[-1.2, 0.8, -0.5, 2.0]]], [[[0.8, -1.2, -0.5, 2.0]]]
    for normalize, sign in ((False, -1), (True, 1)):
        assert np.array_equal(
            oracle.box_conv2d(IMAGE, inverted, normalize=normalize),
            sign * oracle.box_conv2d(IMAGE, upright, normalize=normalize),
        )
    assert not oracle.box_conv2d(IMAGE, [[[0.3, 0.3, -1, 1]]]).any()
    assert not oracle.box_conv2d(IMAGE, [[[-np.inf, np.inf, -1, 1]]]).any()
    assert (oracle.box_conv2d(IMAGE, [[[-np.inf, np.inf, -np.inf, np.inf]]], normalize=False) == 190).all()


def test_eighths_by_counting() -> None:
    """With edges at multiples of 1/8 pixel, a box is a set of whole sub-pixels of an image magnified 8 times."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, 1, 4, 5))
    magnified = np.pad(image[0, 0].repeat(8, 0).repeat(8, 1), 64) / 64
    for _ in range(20):
        top, left = rng.integers(-24, 24, 2)
        tall, wide = rng.integers(1, 40, 2)
        box = [[[top / 8, (top + tall) / 8, left / 8, (left + wide) / 8]]]
        sums = oracle.box_conv2d(image, box, normalize=False)[0, 0]
        for i in range(4):
            for j in range(5):
                # The centre of pixel (i, j) is between sub-pixels, at 8 * i + 4 after the padding.
                first_row, first_column = 64 + 8 * i + 4 + top, 64 + 8 * j + 4 + left
                counted = magnified[first_row : first_row + tall, first_column : first_column + wide].sum()
                assert sums[i, j] == pytest.approx(counted, abs=1e-12)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_by_finite_differences(normalize: bool, stride: int) -> None:
    """Differences to the right: if an edge is on a pixel border, the derivative is defined as the right-hand one."""
    rng = np.random.default_rng(1)
    image = rng.standard_normal((2, 2, 3, 4))
    boxes = np.array([[[-0.5, 0.5, -1.5, 1.5], [-1.2, 0.9, 0.1, 2.0]], [[-0.5, 1.0, 0.5, -1.3], [5.0, 6.0, -1.0, 1.0]]])
    shape = oracle.box_conv2d(image, boxes, stride=stride).shape
    grad = rng.standard_normal(shape)

    def loss() -> float:
        return float((grad * oracle.box_conv2d(image, boxes, normalize=normalize, stride=stride)).sum())

    grads = oracle.gradients(grad, image, boxes, normalize=normalize, stride=stride)
    for array, derivative in zip((image, boxes), grads, strict=True):
        for index in np.ndindex(*array.shape):
            before, old = loss(), array[index]
            array[index] += 1e-7
            assert (loss() - before) / 1e-7 == pytest.approx(derivative[index], abs=1e-5)
            array[index] = old
