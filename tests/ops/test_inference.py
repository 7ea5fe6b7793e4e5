"""The operators of deployed networks compared with PyTorch's operations."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, max_pool2d, max_unpool2d, prelu
from torch.utils.flop_counter import FlopCounterMode

from box_convolution import ops

OPERATORS = torch.ops.box_convolution
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
FORMATS = [torch.contiguous_format, torch.channels_last]


def special(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Noise with zeros of both signs, infinities and a NaN."""
    image = torch.randn(shape).to(dtype)
    image.view(-1)[:5] = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan")])
    return image


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 16, 40, 60), (2, 33, 9, 1), (0, 4, 5, 5), (1, 1, 2, 3)])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_activation(
    memory_format: torch.memory_format, dtype: torch.dtype, shape: tuple[int, ...], implementation: str
) -> None:
    slopes = torch.randn(shape[1]).to(dtype)
    image = (special(*shape, dtype=dtype) if shape[0] else torch.zeros(shape, dtype=dtype)).to(
        memory_format=memory_format
    )
    for residual in (None, torch.randn(shape).to(dtype), torch.randn(shape).to(dtype).to(memory_format=memory_format)):
        total = image if residual is None else image + residual
        for numbers, expected in (
            (None, total.relu()),
            (slopes, prelu(total, slopes)),
            (slopes.clamp(max=1), prelu(total, slopes.clamp(max=1))),
            (slopes.clamp(0, 1), prelu(total, slopes.clamp(0, 1))),
            (slopes[:1], prelu(total, slopes[:1])),
        ):
            changed = image.clone(memory_format=torch.preserve_format)
            with ops.use(implementation):
                OPERATORS.activate_(changed, residual, numbers)
            torch.testing.assert_close(changed, expected, equal_nan=True, rtol=0, atol=0)
            assert changed.stride() == image.stride()


@pytest.mark.parametrize("memory_format", FORMATS)
def test_what_is_promised_to_compilers(memory_format: torch.memory_format) -> None:
    image = torch.randn(2, 5, 6, 4).to(memory_format=memory_format)
    numbers = torch.randn(3), torch.randn(3)
    for arguments in ((image, torch.randn(2, 3, 12, 8), *numbers), (image, image.repeat(1, 1, 2, 2)[:, :3], *numbers)):
        torch.library.opcheck(OPERATORS.pool_beside.default, arguments)
    for pooled in (3, 5):
        pooling = image, torch.randn(2, pooled, 12, 8).to(memory_format=memory_format), torch.randn(5)
        torch.library.opcheck(OPERATORS.pool_add_.default, pooling, test_utils=("test_schema", "test_faketensor"))
    for outputs, size in ((7, 2), (7, 3), (1, 2)):
        arguments = image, torch.randn(5, outputs, size, size), torch.randn(outputs)
        torch.library.opcheck(OPERATORS.transposed_conv.default, arguments)


def test_operations_of_convolutions_are_counted() -> None:
    image, weight, wide = torch.randn(2, 5, 6, 4), torch.randn(7, 5, 1, 1), torch.randn(5, 7, 3, 3)
    counts = []
    for call in (
        lambda: conv2d(image, weight),
        lambda: OPERATORS.pointwise_planes(image, weight, torch.zeros(7), False),
        lambda: conv_transpose2d(image, wide, None, 2, 1, 1),
        lambda: OPERATORS.transposed_conv(image, wide, torch.zeros(7)),
    ):
        with FlopCounterMode(display=False) as counter:
            call()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
    assert counts[2] == counts[3] > 0


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("channels", [1, 3, 16, 40])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_unpooling(memory_format: torch.memory_format, dtype: torch.dtype, channels: int, implementation: str) -> None:
    larger = torch.randn(2, channels, 10, 14).to(dtype).to(memory_format=memory_format)
    values, indices = max_pool2d(larger, 2, return_indices=True)
    image = torch.randn(2, channels, 10, 14).to(dtype).to(memory_format=memory_format)
    expected = image + max_unpool2d(values, indices, 2)
    rectified = image.clone()
    with ops.use(implementation):
        OPERATORS.unpool_(image, values, indices)
        OPERATORS.unpool_(rectified, values, indices, True)
    assert torch.equal(image, expected)
    assert torch.equal(rectified, expected.relu())


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("channels", [3, 16, 40])
# One index in the next window, in one of the last channels, outside the plane, below 0, and equal to one of the window
# in its lower 32 bits.
@pytest.mark.parametrize("moved", [2, -21, 10**6, -(10**6), 2**32, -(2**63)])
def test_unpooling_to_other_windows(moved: int, channels: int, relu: bool, implementation: str) -> None:
    image = torch.randn(2, channels, 10, 14).to(memory_format=torch.channels_last)
    values, indices = max_pool2d(torch.randn_like(image), 2, return_indices=True)
    indices[1, channels - 1, 2, 3] += moved
    inside = 0 <= int(indices[1, channels - 1, 2, 3]) < 140
    if not inside and implementation == "reference":
        pytest.skip("PyTorch refuses such an index")
    expected = image.clone().flatten(2)
    kept = torch.where((indices >= 0) & (indices < 140), values, 0.0)
    expected.scatter_add_(2, indices.clamp(0, 139).flatten(2), kept.flatten(2))
    with ops.use(implementation):
        OPERATORS.unpool_(image, values, indices, relu)
    assert torch.equal(image.flatten(2), expected.relu() if relu else expected)


@pytest.mark.usefixtures("threads")
def test_a_nan_stays_one_when_unpooled(implementation: str) -> None:
    image = special(1, 16, 10, 14).to(memory_format=torch.channels_last)
    values, indices = max_pool2d(torch.randn_like(image), 2, return_indices=True)
    values[0, 3, 0, 0] = float("nan")
    expected = (image + max_unpool2d(values, indices, 2)).relu()
    with ops.use(implementation):
        OPERATORS.unpool_(image, values, indices, True)
    torch.testing.assert_close(image, expected, equal_nan=True, rtol=0, atol=0)


@pytest.mark.usefixtures("threads")
# Image (B, C, h, w) and pooled channels: fewer than a vector, whole ones and more, all channels, one pixel, none.
@pytest.mark.parametrize(
    "shape",
    [(2, 8, 5, 5, 7), (1, 64, 16, 40, 60), (1, 40, 40, 9, 1), (0, 4, 2, 5, 5), (1, 1, 1, 1, 1), (1, 3, 0, 4, 5)],
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_pooling_that_is_added(
    memory_format: torch.memory_format, dtype: torch.dtype, shape: tuple[int, ...], implementation: str
) -> None:
    batch, channels, pooled, h, w = shape
    image = torch.randn(batch, channels, h, w).to(dtype).to(memory_format=memory_format)
    input = torch.randn(batch, pooled, 2 * h, 2 * w).mul(2).round()  # with many equal numbers
    if input.numel():
        input[0, 0, 0, 1], input[-1, -1, -1, -2:] = float("inf"), float("nan")
        input[-1, 0, 0, :2] = -float("inf")
    input, slopes = input.to(dtype).to(memory_format=memory_format), torch.randn(channels).to(dtype)
    largest = torch.zeros(batch, pooled, h, w, dtype=dtype), torch.zeros(batch, pooled, h, w, dtype=torch.int64)
    largest = max_pool2d(input, 2, return_indices=True) if input.numel() else largest
    total = image.clone()
    total[:, :pooled] += largest[0]
    for numbers in (None, slopes, slopes[:1]):
        changed = image.clone()
        with ops.use(implementation):
            indices = OPERATORS.pool_add_(changed, input, numbers)
        assert torch.equal(indices, largest[1])
        assert indices.is_contiguous(memory_format=torch.channels_last)
        expected = total.relu() if numbers is None else prelu(total, numbers)
        torch.testing.assert_close(changed, expected, equal_nan=True, rtol=0, atol=0)
        assert changed.stride() == image.stride()


@pytest.mark.parametrize("shape", [(2, 3, 11, 14), (2, 3, 10, 12), (1, 3, 10, 14), (2, 9, 10, 14)])
def test_pooling_of_other_shapes_is_not_added(shape: tuple[int, ...], implementation: str) -> None:
    image = torch.zeros(2, 8, 5, 7).to(memory_format=torch.channels_last)
    with ops.use(implementation), pytest.raises(ValueError, match="input must have shape"):
        OPERATORS.pool_add_(image, torch.ones(shape).to(memory_format=torch.channels_last))
    assert not image.any()


@pytest.mark.usefixtures("threads")
def test_unpooling_adds_where_indices_meet(implementation: str) -> None:
    image, values = (torch.ones(1, 40, 2, 2).to(memory_format=torch.channels_last) for _ in range(2))
    indices = torch.full((1, 40, 2, 2), 3).to(memory_format=torch.channels_last)
    with ops.use(implementation):
        OPERATORS.unpool_(image, values, indices)
    assert torch.equal(image, torch.tensor([[1.0, 1], [1, 5]]).expand(1, 40, 2, 2))


def test_unpooling_of_other_shapes_is_refused() -> None:
    image, values = torch.ones(1, 4, 4, 4), torch.ones(1, 4, 2, 2)
    with pytest.raises(ValueError, match=r"indices \(1, 4, 2, 1\)"):
        OPERATORS.unpool_(image, values, torch.zeros(1, 4, 2, 1, dtype=torch.long))
    with pytest.raises(ValueError, match=r"image \(2, 4, 4, 4\)"):
        OPERATORS.unpool_(torch.ones(2, 4, 4, 4), values, torch.zeros(1, 4, 2, 2, dtype=torch.long))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", [(2, 8, 5, 7), (1, 64, 40, 60), (3, 5, 9, 1), (0, 4, 5, 5), (1, 1, 2, 3)])
@pytest.mark.parametrize("outputs", [6, 17])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("relu", [False, True])
def test_pointwise_convolution_to_planes(
    relu: bool, memory_format: torch.memory_format, dtype: torch.dtype, outputs: int, shape: tuple[int, ...],
    implementation: str,
) -> None:  # fmt: skip
    image = torch.randn(shape).to(dtype).to(memory_format=memory_format)
    weight, bias = torch.randn(outputs, shape[1], 1, 1).to(dtype), torch.randn(outputs).to(dtype)
    expected = conv2d(image, weight, bias)
    with ops.use(implementation):
        planes = OPERATORS.pointwise_planes(image, weight, bias, relu)
    assert planes.is_contiguous()
    torch.testing.assert_close(planes, expected.relu() if relu else expected)


@pytest.mark.usefixtures("threads")
# Pixels: less than a vector, whole ones, and one more; outputs: one written past the caches, and one of odd rows.
@pytest.mark.parametrize(
    "shape", [(2, 8, 5, 7), (3, 5, 9, 1), (0, 4, 5, 5), (1, 1, 2, 33), (2, 3, 4, 32), (1, 16, 96, 160)]
)
@pytest.mark.parametrize("outputs", [1, 8, 19])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("size", [2, 3])
def test_transposed_convolution(
    size: int, memory_format: torch.memory_format, dtype: torch.dtype, outputs: int, shape: tuple[int, ...],
    implementation: str,
) -> None:  # fmt: skip
    image = torch.randn(shape).to(dtype).to(memory_format=memory_format)
    weight, bias = torch.randn(shape[1], outputs, size, size).to(dtype), torch.randn(outputs).to(dtype)
    expected = conv_transpose2d(image, weight, bias, 2, size - 2, size - 2)
    with ops.use(implementation):
        output = OPERATORS.transposed_conv(image, weight, bias)
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, expected)


@pytest.mark.usefixtures("threads")
def test_a_nan_reaches_few_outputs_of_a_transposed_convolution(implementation: str) -> None:
    """The nine that see it, and at most their left neighbours; none in the next row or image."""
    weight, bias = torch.randn(4, 5, 3, 3), torch.randn(5)
    for row, column in ((0, 0), (3, 0), (3, 16), (4, 16), (4, 15)):
        image = torch.randn(2, 4, 5, 17).to(memory_format=torch.channels_last)
        image[0, 2, row, column] = float("nan")
        with ops.use(implementation):
            output = OPERATORS.transposed_conv(image, weight, bias)
        expected = conv_transpose2d(image, weight, bias, 2, 1, 1)
        assert output[expected.isnan()].isnan().all()
        expected[0, :, max(0, 2 * row - 1) : 2 * row + 2, max(0, 2 * column - 2)] = float("nan")
        torch.testing.assert_close(torch.where(expected.isnan(), expected, output), expected, equal_nan=True)


@pytest.mark.usefixtures("threads")
# Pooled channels: three, all, none, of a single pixel, more than a vector, more than the kernel's piece of a row holds.
@pytest.mark.parametrize(
    "shape", [(2, 16, 3, 40, 60), (1, 5, 5, 3, 17), (1, 4, 0, 3, 5), (2, 4, 1, 1, 1), (1, 40, 33, 4, 9),
              (1, 1030, 1029, 1, 2), (0, 4, 3, 5, 5), (1, 16, 3, 2, 700)],
)  # fmt: skip
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_pooling_beside(
    memory_format: torch.memory_format, dtype: torch.dtype, shape: tuple[int, ...], implementation: str
) -> None:
    batch, channels, pooled, h, w = shape
    image = torch.randn(batch, channels, h, w).to(dtype).to(memory_format=memory_format)
    input = torch.randn(batch, pooled, 2 * h, 2 * w).to(dtype).to(memory_format=memory_format)
    if input.numel():
        input[0, 0, 0, 1], input[-1, -1, -1, -2] = float("nan"), float("inf")
    scale, shift, slopes = torch.randn(pooled).to(dtype), torch.randn(pooled).to(dtype), torch.randn(channels).to(dtype)
    largest = max_pool2d(input, 2) if input.numel() else torch.zeros(batch, pooled, h, w, dtype=dtype)
    beside = image[:, : channels - pooled], largest * scale[:, None, None] + shift[:, None, None]
    for numbers in (None, slopes, slopes[:1]):
        changed = image.clone()
        with ops.use(implementation):
            OPERATORS.pool_beside_(changed, input, scale, shift, numbers)
        total = torch.cat(beside, 1)
        expected = total.relu() if numbers is None else prelu(total, numbers)
        torch.testing.assert_close(changed, expected, equal_nan=True)
        assert changed.stride() == image.stride()
        filtered = image[:, : channels - pooled].to(memory_format=memory_format)
        with ops.use(implementation):
            joined = OPERATORS.pool_beside(filtered, input, scale, shift, numbers)
        torch.testing.assert_close(joined, expected, equal_nan=True)
        assert joined.is_contiguous(memory_format=torch.channels_last)


def test_pooling_beside_of_other_shapes_is_refused(implementation: str) -> None:
    image, input, numbers = torch.zeros(1, 8, 5, 4), torch.ones(1, 3, 10, 8), torch.ones(3)
    with ops.use(implementation):
        for bad in (
            (input[..., :9, :], numbers, numbers),
            (input, numbers[:2], numbers),
            (input, numbers, numbers[:2]),
            (input.expand(2, -1, -1, -1), numbers, numbers),
        ):
            for name, operator in (("image", OPERATORS.pool_beside_), ("filtered", OPERATORS.pool_beside)):
                with pytest.raises(ValueError, match=rf"input must have shape .* {name} \(1, 8, 5, 4\)"):
                    operator(image, *bad)
        with pytest.raises(ValueError, match="at most the 8 channels of image, got 9"):
            OPERATORS.pool_beside_(image, input.repeat(1, 3, 1, 1), numbers.repeat(3), numbers.repeat(3))
    assert not image.any()


@pytest.mark.parametrize("channels", [1, 4, 16, 19, 48, 300])
def test_every_instruction_set(channels: int, isa: str) -> None:
    """Channels that are few, a multiple of a vector, and neither."""
    image = torch.randn(2, channels, 5, 21).to(memory_format=torch.channels_last)
    slopes, residual = torch.randn(channels), torch.randn(image.shape).to(memory_format=torch.channels_last)
    weight = torch.randn(21, channels, 1, 1) / channels**0.5
    bias = torch.randn(21)
    torch.testing.assert_close(OPERATORS.pointwise_planes(image, weight, bias, False), conv2d(image, weight, bias))
    for size in (2, 3):
        wide = torch.randn(channels, 21, size, size) / channels**0.5
        torch.testing.assert_close(
            OPERATORS.transposed_conv(image, wide, bias),
            conv_transpose2d(image, wide, bias, 2, size - 2, size - 2),
        )
    input = torch.randn(2, channels, 10, 42).to(memory_format=torch.channels_last)
    beside, pooled = torch.cat([image, image], 1).to(memory_format=torch.channels_last), max_pool2d(input, 2)
    expected = torch.cat([image, pooled * slopes[:, None, None] + 1], 1).relu()
    OPERATORS.pool_beside_(beside, input, slopes, torch.ones(channels))
    torch.testing.assert_close(beside, expected)
    assert torch.equal(OPERATORS.pool_beside(image, input, slopes, torch.ones(channels)), beside)
    changed, (values, indices) = image.clone(), max_pool2d(input, 2, return_indices=True)
    assert torch.equal(OPERATORS.pool_add_(changed, input, slopes), indices)
    assert torch.equal(changed, prelu(image + values, slopes))
    added = input.clone()
    OPERATORS.unpool_(added, image, indices, True)
    assert torch.equal(added, (input + max_unpool2d(image, indices, 2)).relu())
    for add in (None, residual):
        for factors in (None, slopes):
            changed, total = image.clone(), image if add is None else image + add
            OPERATORS.activate_(changed, add, factors)
            assert torch.equal(changed, total.relu() if factors is None else prelu(total, factors))


def test_tensors_of_other_shapes_are_computed_as_by_pytorch_or_refused(implementation: str) -> None:
    image = torch.randn(2, 16, 6, 5).to(memory_format=torch.channels_last)
    smaller = torch.randn(1, 16, 1, 1).to(memory_format=torch.channels_last)
    weight = torch.randn(4, 16, 1, 1)
    with ops.use(implementation):
        changed = image.clone()
        OPERATORS.activate_(changed, smaller)
        assert torch.equal(changed, (image + smaller).relu())
        for residual in (torch.randn(2, 16, 3, 5), torch.randn(3, 16, 6, 5), torch.randn(2, 8, 6, 5)):
            with pytest.raises(RuntimeError):
                OPERATORS.activate_(changed, residual.to(memory_format=torch.channels_last))
        for other, bias in (
            (weight, torch.randn(5)),
            (weight, torch.randn(4).double()),
            (weight[:, :8], torch.randn(4)),
            (weight.double(), torch.randn(4)),
            (torch.randn(2, 2, 16, 1, 1), torch.randn(2, 2)),
        ):
            with pytest.raises(RuntimeError):
                OPERATORS.pointwise_planes(image, other, bias, True)
            with pytest.raises(RuntimeError):
                OPERATORS.transposed_conv(image, other.transpose(0, -3).repeat(1, 1, 2, 2), bias)


def test_autocast_leaves_convolutions_as_they_are_with_every_instruction_set(isa: str) -> None:
    image = torch.randn(1, 64, 40, 60).to(memory_format=torch.channels_last)
    weight, bias, boxes = torch.randn(16, 64, 1, 1), torch.randn(16), torch.randint(-9, 9, (16, 4, 4)) + 0.5
    wide, results = torch.randn(64, 6, 3, 3), []
    for enabled in (False, True):
        changed = image.clone()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            OPERATORS.box_block_(changed, weight, bias, True, boxes)
            results.append((changed, OPERATORS.transposed_conv(image, wide, bias[:6])))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_autocast_leaves_the_pointwise_convolution_as_it_is(implementation: str) -> None:
    image = torch.randn(1, 64, 40, 60).to(memory_format=torch.channels_last)
    weight, bias = torch.randn(16, 64, 1, 1), torch.randn(16)
    with ops.use(implementation):
        expected = OPERATORS.pointwise_planes(image, weight, bias, True)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(OPERATORS.pointwise_planes(image, weight, bias, True), expected)


@pytest.mark.usefixtures("threads")
def test_a_nan_stays_one_through_the_pointwise_convolution(implementation: str) -> None:
    image = torch.randn(1, 16, 3, 5).to(memory_format=torch.channels_last)
    image[0, 3, 1, 2] = float("nan")
    weight, bias = torch.randn(4, 16, 1, 1), torch.randn(4)
    with ops.use(implementation):
        planes = OPERATORS.pointwise_planes(image, weight, bias, True)
    assert planes.isnan().sum() == 4
    assert planes[0, :, 1, 2].isnan().all()
