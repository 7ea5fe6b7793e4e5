"""Boxes: projection, snapping, initialisation, scaling and the authors' coordinates."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from box_convolution import boxes as box

EXTENT = (11, 13)
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def tensor(edges: list[float], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(edges, dtype=dtype)


def strictly_valid(boxes: Tensor, h: float, w: float) -> bool:
    """Whether boxes are exactly valid in the arithmetic of their dtype; `is_valid` allows for rounding."""
    top, bottom, left, right = boxes.unbind(-1)
    sizes = ((bottom - top >= 1) & (right - left >= 1)).all()
    return bool(
        sizes and top.abs().max() <= h and bottom.abs().max() <= h and left.abs().max() <= w and right.abs().max() <= w
    )


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ([-1.5, 2.25, -3, 0.5], [-1.5, 2.25, -3, 0.5]),
        ([-11, 11, -13, 13], [-11, 11, -13, 13]),
        ([-0.5, 0.5, -0.5, 0.5], [-0.5, 0.5, -0.5, 0.5]),
        # Clipped, each axis by its own extent.
        ([-40, 2, -40, 2], [-11, 2, -13, 2]),
        ([-2, 1e30, -2, math.inf], [-2, 11, -2, 13]),
        # Widened about the middle.
        ([2, 2, 3, 3.5], [1.5, 2.5, 2.75, 3.75]),
        # Inverted: the middle stays, the size becomes one pixel.
        ([4, 1, 3, -3], [2, 3, -0.5, 0.5]),
        # Widened at the border of the extent: moved back inside.
        ([11, 11, -13, -12.8], [10, 11, -13, -12]),
        # Clipped first, then widened.
        ([10.8, 500, 12.5, 13.5], [10, 11, 12, 13]),
        ([90, 91, -91, -90], [10, 11, -13, -12]),
    ],
)
def test_project_by_example(edges: list[float], expected: list[float]) -> None:
    assert torch.equal(box.project(tensor(edges), *EXTENT), tensor(expected))


@settings(max_examples=500)
@given(
    edges=st.lists(st.floats(allow_nan=False, width=32) | st.floats(-20, 20, width=32), min_size=4, max_size=4),
    extent=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_project_is_valid_and_idempotent(edges: list[float], extent: tuple[int, int], dtype: torch.dtype) -> None:
    projected = box.project(tensor(edges, dtype), *extent)
    assert strictly_valid(projected, *extent)
    assert box.is_valid(projected, *extent)
    assert torch.equal(box.project(projected, *extent), projected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extent", [(1, 1), (11, 13), (128, 256)])
def test_project_many(dtype: torch.dtype, extent: tuple[int, int]) -> None:
    """Widening must give a size of exactly 1 in every dtype; otherwise the next projection would change it again."""
    boxes = (torch.randn(100_000, 4) * torch.logspace(-2, 2, 100_000)[:, None]).to(dtype)
    projected = box.project(boxes, *extent)
    assert strictly_valid(projected, *extent)
    assert torch.equal(box.project(projected, *extent), projected)
    valid = (boxes[:, 1] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 2] >= 1)
    valid &= (boxes[:, :2].abs() <= extent[0]).all(1) & (boxes[:, 2:].abs() <= extent[1]).all(1)
    assert torch.equal(projected[valid], boxes[valid]), "valid boxes are not moved by a bit"
    assert valid.any() or extent == (1, 1)


def test_project_keeps_nan_visible() -> None:
    projected = box.project(tensor([math.nan, 1, 2, 4]), *EXTENT)
    assert not box.is_valid(projected, *EXTENT)
    assert projected.isnan().any()
    assert torch.equal(projected[2:], tensor([2, 4]))


def test_project_any_leading_shape() -> None:
    boxes = 10 * torch.randn(2, 3, 5, 4)
    assert torch.equal(box.project(boxes, *EXTENT), box.project(boxes.view(-1, 4), *EXTENT).view(2, 3, 5, 4))
    assert box.project(boxes[:0], *EXTENT).shape == (0, 3, 5, 4)
    assert box.is_valid(boxes, *EXTENT).shape == (2, 3, 5)


@pytest.mark.parametrize(
    ("edges", "valid"),
    [
        ([-1, 1, -2, 2], True),
        ([-11, 11, -13, 13], True),
        ([0.1, 1.1, 0.7, 1.7], True),
        ([-13, 1, -2, 2], False),
        ([-1, 1, -2, 13.1], False),
        ([-1, -0.5, -2, 2], False),
        ([-1, 1, 2, -2], False),
        ([math.nan, 1, -2, 2], False),
        ([-math.inf, 1, -2, 2], False),
    ],
)
def test_is_valid(edges: list[float], valid: bool) -> None:
    for dtype in (torch.float32, torch.float64):
        assert box.is_valid(tensor(edges, dtype), *EXTENT).item() is valid


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ([-1.5, 2.5, -0.5, 0.5], [-1.5, 2.5, -0.5, 0.5]),
        ([-1.4, 2.7, -1.1, 0.9], [-1.5, 2.5, -1.5, 0.5]),
        # The middle of a pixel is as far from one border as from the other: down, right.
        ([-2, 1, -3, 3], [-1.5, 1.5, -2.5, 3.5]),
        # Within the extent there is no half-integer beyond 10.5 and 12.5.
        ([-11, 11, -13, 13], [-10.5, 10.5, -12.5, 12.5]),
        # Both edges go to the same border: the pixel of the middle.
        ([0.3, 0.9, -0.2, 0.9], [0.5, 1.5, -0.5, 0.5]),
        ([10.6, 11, -13, -12.6], [9.5, 10.5, -12.5, -11.5]),
        ([3, 2, 0, 0], [2.5, 3.5, -0.5, 0.5]),
    ],
)
def test_snap_by_example(edges: list[float], expected: list[float]) -> None:
    assert torch.equal(box.snap(tensor(edges), *EXTENT), tensor(expected))


@settings(max_examples=300)
@given(
    edges=st.lists(st.floats(-400, 400, width=32) | st.floats(-20, 20, width=32), min_size=4, max_size=4),
    extent=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_snap_gives_whole_pixels(edges: list[float], extent: tuple[int, int], dtype: torch.dtype) -> None:
    valid = box.project(tensor(edges, dtype), *extent)
    snapped = box.snap(valid, *extent)
    assert torch.equal(snapped - snapped.floor(), torch.full_like(snapped, 0.5))
    assert strictly_valid(snapped, *extent)
    assert torch.equal(box.snap(snapped, *extent), snapped)
    assert torch.equal(box.project(snapped, *extent), snapped)
    inside = (valid[:2].abs() <= extent[0] - 0.5).all() and (valid[2:].abs() <= extent[1] - 0.5).all()
    assert not inside or (snapped - valid).abs().max() <= (0.5 if (snapped[1::2] - snapped[::2] > 1).all() else 1)


def test_initialise_fills_the_rectangle_of_the_paper() -> None:
    """Centres are uniform in the size of the image, sizes between 1 pixel and the largest that fits."""
    h, w, count = 40, 100, 40_000
    drawn = box.initialise(200, count // 200, h, w)
    assert drawn.shape == (200, 200, 4)
    assert drawn.dtype == torch.float32
    assert box.is_valid(drawn, h / 2, w / 2).all(), "in the rectangle, and at least a pixel in size"
    for extent, (low, high) in ((h, drawn.view(-1, 4)[:, :2].unbind(1)), (w, drawn.view(-1, 4)[:, 2:].unbind(1))):
        middle, size = (low + high).double() / 2, (high - low).double()
        reach = (extent - 1) / 2
        for name, number, start, end in (
            ("centre", middle, -reach, reach),
            ("share of the room", (size - 1) / (extent - 1 - 2 * middle.abs()), 0.0, 1.0),
        ):
            # Kolmogorov-Smirnov: a uniform sample of this size stays below 2 / sqrt(count) but once in 3,000 times.
            placed = ((number.sort().values - start) / (end - start)).clamp(0, 1)
            distance = (placed - (torch.arange(count) + 0.5) / count).abs().max().item()
            assert distance < 2 / math.sqrt(count), name
        assert abs(torch.corrcoef(torch.stack((middle.sign(), size)))[0, 1].item()) < 0.03


def test_initialise_log_uniform_is_about_the_output_pixel() -> None:
    h, w, count = 40, 100, 40_000
    drawn = box.initialise(200, count // 200, h, w, "log-uniform")
    assert box.is_valid(drawn, h, w).all()
    for extent, (low, high) in ((h, drawn.view(-1, 4)[:, :2].unbind(1)), (w, drawn.view(-1, 4)[:, 2:].unbind(1))):
        assert (low <= -0.5 + 1e-5).all()
        assert (high >= 0.5 - 1e-5).all()
        size = (high - low).double()
        room = size > 1.01
        for name, number in (
            ("logarithm of the size", size.log() / math.log(extent)),
            ("place", ((-0.5 - low.double()) / (size - 1))[room]),
        ):
            placed = number.sort().values.clamp(0, 1)
            uniform = (torch.arange(len(placed)) + 0.5) / len(placed)
            assert (placed - uniform).abs().max().item() < 2 / math.sqrt(len(placed)), name


@pytest.mark.parametrize(("per_channel", "about"), [(1, 1), (2, 1), (4, 2), (5, 3)])
def test_initialise_mixed_is_half_log_uniform_and_half_uniform(per_channel: int, about: int) -> None:
    torch.manual_seed(0)
    drawn = box.initialise(2000, per_channel, 40, 100, "mixed")
    top, bottom, left, right = drawn.unbind(-1)
    holds = (top <= -0.5 + 1e-5) & (bottom >= 0.5 - 1e-5) & (left <= -0.5 + 1e-5) & (right >= 0.5 - 1e-5)
    assert holds[:, :about].all(), "the output pixel"
    assert (holds[:, about:].float().mean(0) < 0.6).all(), "most uniform boxes are beside it"
    area = ((bottom - top) * (right - left)).median(0).values
    assert (area[:about] < 90).all()
    assert (area[about:] > 100).all()
    assert box.is_valid(drawn, 40, 100).all()


@pytest.mark.parametrize("sizes", box.SIZES)
def test_initialise_where_one_pixel_fits(sizes: str) -> None:
    drawn = box.initialise(5, 6, 1, 1, sizes)
    assert torch.equal(drawn, tensor([-0.5, 0.5, -0.5, 0.5], torch.float32).expand(5, 6, 4))
    limits = (1, 0.5) if sizes == "uniform" else (2, 1)
    assert box.is_valid(box.initialise(50, 60, 2, 1, sizes), *limits).all()


def test_initialise_is_drawn_from_torch_alone() -> None:
    torch.manual_seed(7)
    first = box.initialise(3, 4, *EXTENT)
    assert not torch.equal(box.initialise(3, 4, *EXTENT), first)
    torch.manual_seed(7)
    with torch.random.fork_rng():
        torch.set_default_dtype(torch.float64)
        try:
            assert torch.equal(box.initialise(3, 4, *EXTENT), first), "whatever the default dtype"
        finally:
            torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert torch.equal(box.initialise(3, 4, *EXTENT), first), "and the default device"


@pytest.mark.parametrize("extent", [1, 3, 64, 100, 1024])
@pytest.mark.parametrize("factor", [0.51, 0.86, 1.0, 1.5625, 8.0])
def test_scale_is_the_nearest_power_of_two(extent: int, factor: float) -> None:
    scale = box.scale_of(extent, factor)
    assert math.frexp(scale)[0] == 0.5
    assert 2**-0.5 <= scale / (extent * factor) <= 2**0.5


def test_from_inclusive() -> None:
    """In the authors' coordinates, (0, 0) is a single pixel, and x is vertical."""
    x_min, x_max, y_min, y_max = (torch.full((2, 3), float(number)) for number in (-2, 1, 0, 0))
    assert torch.equal(
        box.from_inclusive(x_min, x_max, y_min, y_max), tensor([-2.5, 1.5, -0.5, 0.5], torch.float32).expand(2, 3, 4)
    )
