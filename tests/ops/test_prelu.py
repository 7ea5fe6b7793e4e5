"""PReLU in training on the CPU, compared with PyTorch's."""

from typing import Any

import pytest
import torch
from tolerances import assert_gradient
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.utils.flop_counter import FlopCounterMode

from box_convolution import networks, ops
from box_convolution.networks.prelu import PReLU
from box_convolution.ops import cpu_library

FORWARD, BACKWARD = torch.ops.box_convolution.prelu, torch.ops.box_convolution.prelu_backward
LAST = torch.channels_last
SHAPES = [(2, 3, 5, 7), (1, 16, 40, 60), (2, 33, 9, 1), (0, 4, 5, 5), (1, 1, 2, 3), (3, 13, 65, 65), (1, 300, 20, 20)]


def special(*shape: int) -> Tensor:
    """Noise with zeros of both signs and infinities."""
    image = torch.randn(shape)
    if image.numel():
        image.view(-1)[:4] = torch.tensor([0.0, -0.0, float("inf"), -float("inf")])
    return image


def both(module: nn.Module, image: Tensor, grad_output: Tensor) -> tuple[Tensor, ...]:
    """Output, gradient by the image, gradient by the slopes."""
    image = image.detach().requires_grad_()
    output = module(image)
    return output.detach(), *torch.autograd.grad(output, (image, module.weight), grad_output)


def pair(slopes: Tensor) -> tuple[PReLU, nn.PReLU]:
    modules = PReLU(len(slopes)), nn.PReLU(len(slopes))
    for module in modules:
        module.weight.data = slopes.clone()
    return modules


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("isa", [] if cpu_library.status() else cpu_library.isas())
def test_float32_in_channels_last(isa: str, shared: bool, shape: tuple[int, ...]) -> None:
    image, grad_output = special(*shape), torch.randn(shape)
    image, grad_output = image.to(memory_format=LAST), grad_output.to(memory_format=LAST)
    ours, theirs = pair(torch.randn(1 if shared else shape[1]))
    finite = image.clamp(-9, 9)
    with cpu_library.use_isa(isa):
        output, by_image, by_slopes = both(ours, finite, grad_output)
        assert torch.equal(ours(image), theirs(image))
        if image.numel():
            assert ours(finite).grad_fn.name().startswith("EagerPReLU")
    expected = both(theirs.double(), finite.double(), grad_output.double())
    assert torch.equal(output, expected[0].float())
    assert torch.equal(by_image, expected[1].float())
    assert not image.numel() or output.stride() == by_image.stride() == image.stride()
    assert_gradient(by_slopes, expected[2])


@pytest.mark.parametrize("isa", [] if cpu_library.status() else cpu_library.isas())
@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_is_rounded_once(isa: str, shape: tuple[int, ...]) -> None:
    image, grad_output = special(*shape).bfloat16(), torch.randn(shape).bfloat16()
    image, grad_output = image.to(memory_format=LAST), grad_output.to(memory_format=LAST)
    slopes = torch.randn(shape[1])
    with cpu_library.use_isa(isa):
        assert torch.equal(FORWARD(image, slopes), torch.prelu(image.float(), slopes).bfloat16())
        by_image, by_slopes = BACKWARD(grad_output, image.clamp(-9, 9), slopes)
    wide = image.clamp(-9, 9).double(), grad_output.double()
    expected = both(pair(slopes.double())[1], *wide)
    assert torch.equal(by_image, expected[1].bfloat16())
    assert_gradient(by_slopes, expected[2])


@pytest.mark.parametrize("number", [float("nan"), 3.3961e38, -3.3961e38, 1e-40, 1.00390625, 1.01171875])
def test_rounding_to_bfloat16(number: float) -> None:
    """NaNs stay, what rounds to infinity does, halves go to the even neighbour: as PyTorch rounds."""
    image = torch.full((1, 40, 3, 3), number).to(memory_format=LAST)
    slopes = torch.rand(40)
    half = image.bfloat16()
    torch.testing.assert_close(
        FORWARD(-half, slopes), torch.prelu(-half.float(), slopes).bfloat16(), rtol=0, atol=0, equal_nan=True
    )


@pytest.mark.parametrize("enabled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast(dtype: torch.dtype, enabled: bool) -> None:
    image = torch.randn(2, 16, 9, 9, dtype=dtype).to(memory_format=LAST)
    ours, theirs = pair(torch.randn(16))
    with torch.autocast("cpu", torch.bfloat16, enabled):
        output = ours(image)
        assert output.dtype == (torch.bfloat16 if enabled else dtype)
        if enabled:
            torch.testing.assert_close(output, theirs(image), rtol=0.01, atol=0.01)
        output.float().square().sum().backward()
    assert ours.weight.grad is not None
    assert ours.weight.grad.dtype == torch.float32


def test_threads_do_not_change_gradients() -> None:
    image = torch.randn(2, 24, 130, 170).to(memory_format=LAST)
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(BACKWARD(image.flip(0), image, torch.rand(24, generator=torch.Generator().manual_seed(0))))
    torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(result, results[0], strict=True))


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, LAST])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_whatever_serves_it(dtype: torch.dtype, memory_format: torch.memory_format, name: str) -> None:
    if name == "cpu" and cpu_library.status():
        pytest.skip("no kernels")
    image, grad_output = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    slopes = torch.randn(3)
    image, grad_output = image.to(dtype).to(memory_format=memory_format), grad_output.to(dtype)
    expected = both(pair(slopes.double())[1], image.double(), grad_output.double())
    with ops.use(name):
        found = FORWARD(image, slopes), *BACKWARD(grad_output, image, slopes)
    tolerance = {torch.float64: 1e-7, torch.float32: 1e-5, torch.float16: 5e-3}[dtype]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)
    assert found[0].dtype == found[1].dtype == dtype
    assert found[2].dtype == torch.float32


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, LAST])
@pytest.mark.parametrize("shared", [False, True])
def test_derivatives_of_any_order(shared: bool, memory_format: torch.memory_format) -> None:
    image = torch.randn(2, 3, 4, 5).double().to(memory_format=memory_format).requires_grad_()
    slopes = torch.randn(1 if shared else 3).double().requires_grad_()
    assert torch.autograd.gradcheck(FORWARD, (image, slopes))
    assert torch.autograd.gradgradcheck(FORWARD, (image, slopes))
    arguments = (torch.randn(2, 3, 4, 5).double().requires_grad_(), image, slopes)
    assert torch.autograd.gradgradcheck(BACKWARD, arguments)


def test_the_module_has_derivatives_of_any_order() -> None:
    ours, theirs = pair(torch.randn(4))
    image = torch.randn(2, 4, 5, 5).to(memory_format=LAST)

    def penalty(module: nn.PReLU) -> tuple[Tensor, ...]:
        x = image.clone(memory_format=torch.preserve_format).requires_grad_()
        gradient = torch.autograd.grad(module(x).pow(3).sum(), x, create_graph=True)[0]
        return torch.autograd.grad(gradient.square().sum(), (x, module.weight))

    for one, other in zip(penalty(ours), penalty(theirs), strict=True):
        torch.testing.assert_close(one, other)


def test_what_is_promised_to_compilers() -> None:
    image = torch.randn(2, 16, 4, 5).to(memory_format=LAST).requires_grad_()
    slopes = torch.randn(16, requires_grad=True)
    torch.library.opcheck(FORWARD.default, (image, slopes))
    torch.library.opcheck(BACKWARD.default, (torch.randn(2, 16, 4, 5).to(memory_format=LAST), image, slopes))


def test_transforms_get_the_same_from_the_module() -> None:
    """The operators have no rules for them, so PyTorch's own PReLU serves them."""
    ours, theirs = pair(torch.randn(4))
    image, direction = (torch.randn(2, 4, 5, 5).to(memory_format=LAST) for _ in range(2))
    images = torch.randn(3, 2, 4, 5, 5)

    def results(module: nn.PReLU) -> list[Any]:
        parameters = dict(module.named_parameters())
        with forward_ad.dual_level():
            dual = module(forward_ad.make_dual(image, direction))
            tangent = forward_ad.unpack_dual(dual).tangent
        exported = torch.export.export(module, (image,)).module()(image)
        return [
            tangent,
            jvp(module, (image,), (direction,))[1],
            vmap(module)(images),
            grad(lambda p: functional_call(module, p, image).square().sum())(parameters)["weight"],
            torch.jit.trace(module, image)(image),
            torch.jit.script(module)(image),
            torch.fx.symbolic_trace(module)(image),
            exported,
        ]

    for one, other in zip(results(ours), results(theirs), strict=True):
        torch.testing.assert_close(one, other)


def test_a_training_step_of_enet() -> None:
    """All PReLUs of the network are served; their sum over a step is that of PyTorch's."""
    torch.manual_seed(0)
    network = networks.create("enet", 5, (32, 48)).to(memory_format=LAST)
    image = torch.randn(2, 3, 32, 48).to(memory_format=LAST)
    state = torch.get_rng_state()
    gradients = []
    for name in ("cpu", "reference") if not cpu_library.status() else ("reference",):
        torch.set_rng_state(state)
        network.zero_grad()
        with ops.use(name), FlopCounterMode(display=False):
            network(image).square().mean().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    for one, other in zip(gradients[0], gradients[-1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
