"""PReLU in training on the CPU, compared with PyTorch's."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tolerances import assert_gradient
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.utils.flop_counter import FlopCounterMode

from box_convolution import networks, ops
from box_convolution.deploy import deploy
from box_convolution.networks.prelu import PReLU
from box_convolution.ops import cpu_library, dispatch

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


def assert_same(one: Tensor, other: Tensor) -> None:
    """Equal, NaNs and signs of zeros included."""
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(one.signbit() | one.isnan(), other.signbit() | other.isnan())


def pair(slopes: Tensor) -> tuple[PReLU, nn.PReLU]:
    modules = PReLU(len(slopes)), nn.PReLU(len(slopes))
    for module in modules:
        module.weight.data = slopes.clone()
    return modules


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shared", [False, True])
def test_cpu_kernels_in_float32(isa: str, shared: bool, shape: tuple[int, ...]) -> None:
    image, grad_output = special(*shape), torch.randn(shape)
    image, grad_output = image.to(memory_format=LAST), grad_output.to(memory_format=LAST)
    ours, theirs = pair(torch.randn(1 if shared else shape[1]))
    finite = image.clamp(-9, 9)
    output, by_image, by_slopes = both(ours, finite, grad_output)
    assert_same(ours(image), theirs(image))
    served = ours(finite).grad_fn.name().startswith("EagerPReLU")
    assert served or not image.numel()
    expected = both(theirs.double(), finite.double(), grad_output.double())
    assert torch.equal(output, expected[0].float())
    assert torch.equal(by_image, expected[1].float())
    assert output.stride() == by_image.stride() == finite.stride()
    assert_gradient(by_slopes, expected[2])


@pytest.mark.parametrize("shape", SHAPES)
def test_cpu_kernels_round_to_bfloat16_once(isa: str, shape: tuple[int, ...]) -> None:
    image, grad_output = special(*shape).bfloat16(), torch.randn(shape).bfloat16()
    image, grad_output = image.to(memory_format=LAST), grad_output.to(memory_format=LAST)
    slopes = torch.randn(shape[1])
    assert_same(FORWARD(image, slopes), torch.prelu(image.float(), slopes).bfloat16())
    by_image, by_slopes = BACKWARD(grad_output, image.clamp(-9, 9), slopes)
    wide = image.clamp(-9, 9).double(), grad_output.double()
    expected = both(pair(slopes.double())[1], *wide)
    assert torch.equal(by_image, expected[1].bfloat16())
    assert_gradient(by_slopes, expected[2])


def test_cpu_kernels_with_special_slopes(isa: str) -> None:
    """Also numbers half-way between two of bfloat16, the largest, and a NaN whose upper half is that of infinity."""
    numbers = [0.0, -0.0, float("inf"), float("nan"), 3.3961e38, -3.3961e38, 1e-40, 1.00390625, 1.01171875, -1.00390625]
    slopes = torch.tensor(numbers * 4)
    slopes[3] = torch.tensor(0x7F800001, dtype=torch.int32).view(torch.float32)
    for dtype in (torch.float32, torch.bfloat16):
        image = torch.tensor([-1.0, 0.0, -0.0, 1.0]).to(dtype).view(1, 1, 2, 2).expand(1, 40, 2, 2)
        image = image.contiguous(memory_format=LAST)
        assert_same(FORWARD(image, slopes), torch.prelu(image.float(), slopes).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast(dtype: torch.dtype) -> None:
    image = torch.randn(2, 16, 9, 9, dtype=dtype).to(memory_format=LAST)
    ours, theirs = pair(torch.randn(16))
    with torch.autocast("cpu", torch.bfloat16):
        output = ours(image)
        assert output.dtype == torch.bfloat16
        torch.testing.assert_close(output, theirs(image), rtol=0.01, atol=0.01)
        output.float().square().sum().backward()
    assert ours.weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("image", "slopes", "message"),
    [
        (torch.ones(2, 16, 3, 3).bfloat16(), torch.ones(16), "Type promoting not supported"),
        (torch.ones(2, 16, 3, 3), torch.ones(16).double(), "Type promoting not supported"),
        (torch.ones(2, 16, 3, 3), torch.ones(15), "Mismatch of parameter numbers and input channel size"),
    ],
)
def test_what_pytorch_refuses_is_refused(image: Tensor, slopes: Tensor, message: str) -> None:
    for memory_format in (torch.contiguous_format, LAST):
        with pytest.raises(RuntimeError, match=message):
            pair(slopes)[0](image.to(memory_format=memory_format))


@pytest.mark.parametrize("shape", [(2, 16, 0, 4), (0, 16, 4, 4), (4, 16, 1, 1), (4, 1, 5, 6)])
def test_empty_images_and_strides(shape: tuple[int, ...]) -> None:
    """Where an image is contiguous in both formats, PyTorch keeps its strides."""
    ours, theirs = pair(torch.rand(shape[1]))
    junk = [torch.full((16,), 3e30) for _ in range(50)]
    del junk
    for image in (torch.randn(shape), torch.randn(shape).to(memory_format=LAST)):
        results = both(ours, image, torch.ones(shape)), both(theirs, image, torch.ones(shape))
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other)
            assert one.stride() == other.stride()
        if image.numel():
            assert FORWARD(image, ours.weight).stride() == FORWARD(image.to("meta"), ours.weight.to("meta")).stride()


def test_only_what_is_asked_for() -> None:
    """A gradient that nobody asked for would be NaN here, which anomaly mode refuses."""
    ours, _ = pair(torch.rand(16))
    image = torch.full((1, 16, 2, 2), -float("inf")).contiguous(memory_format=LAST).requires_grad_()
    ours.weight.requires_grad_(False)
    with torch.autograd.detect_anomaly(check_nan=True):
        ours(image).backward(torch.zeros(1, 16, 2, 2))
    assert not image.grad.any()


def test_a_large_sum_of_slopes() -> None:
    """One running sum in float32 would be off by a hundredth."""
    image = -torch.ones(1, 2, 1500, 1500).contiguous(memory_format=LAST)
    _, by_slopes = BACKWARD(torch.full_like(image, 0.1), image, torch.rand(2))
    torch.testing.assert_close(by_slopes, torch.full((2,), -225_000.0), rtol=1e-5, atol=0)


def test_threads_do_not_change_gradients(set_threads: Callable[[int], None]) -> None:
    image = torch.randn(2, 24, 130, 170).to(memory_format=LAST)
    results = []
    for threads in (1, 2, 3):
        set_threads(threads)
        results.append(BACKWARD(image.flip(0), image, torch.rand(24, generator=torch.Generator().manual_seed(0))))
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


@pytest.mark.parametrize("number", [1.0, -1.0, -float("inf"), float("nan")])
def test_the_module_has_derivatives_of_any_order(number: float) -> None:
    """Infinities stay where they are: a gradient that is missing is no zero times infinity."""
    ours, theirs = pair(torch.randn(4))
    image, towards = torch.randn(2, 4, 5, 5).to(memory_format=LAST), torch.randn(2, 4, 5, 5)
    image[0, 1, 2, 3] = number

    def second(module: nn.PReLU) -> tuple[Tensor, ...]:
        x = image.clone(memory_format=torch.preserve_format).requires_grad_()
        v = towards.clone().requires_grad_()
        gradients = torch.autograd.grad(module(x), (x, module.weight), v, create_graph=True)
        wanted = (x, v, module.weight)
        alone = torch.autograd.grad(gradients[0].sum(), wanted[1:], retain_graph=True)
        together = torch.autograd.grad(sum(g.square().sum() for g in gradients), wanted)
        return *alone, *together

    for one, other in zip(second(ours), second(theirs), strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)


def test_forward_mode_that_begins_after_the_forward_pass() -> None:
    ours, theirs = pair(torch.randn(4))
    image, towards, tangent = (torch.randn(2, 4, 5, 5).to(memory_format=LAST) for _ in range(3))
    image.requires_grad_()

    def tangents(module: nn.PReLU) -> list[Tensor]:
        output = module(image)
        with forward_ad.dual_level():
            gradients = torch.autograd.grad(output, (image, module.weight), forward_ad.make_dual(towards, tangent))
            return [forward_ad.unpack_dual(gradient).tangent for gradient in gradients]

    for one, other in zip(tangents(ours), tangents(theirs), strict=True):
        torch.testing.assert_close(one, other)


class OnlyAten(Tensor):
    """A tensor that knows PyTorch's operators alone, as many subclasses do."""

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.namespace in ("aten", "prim"), func
        with torch._C._DisableTorchDispatch():
            return func(*args, **kwargs or {})


def test_subclasses_of_tensors_get_pytorchs_operator() -> None:
    image = torch.randn(2, 4, 5, 5).to(memory_format=LAST)
    ours, theirs = pair(torch.randn(4))
    assert torch.equal(ours(image.as_subclass(OnlyAten)).as_subclass(Tensor), theirs(image))


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


def test_graphs_have_pytorchs_operator() -> None:
    ours, _ = pair(torch.randn(4))
    image = torch.randn(2, 4, 5, 5).to(memory_format=LAST)
    graphs = [torch.export.export(ours, (image,)).graph_module.code]

    def kept(module: Any, _: Any) -> Any:
        graphs.append(module.code)
        return module

    torch.compiler.reset()
    assert torch.equal(torch.compile(ours, backend=kept)(image), ours(image))
    assert len(graphs) == 2
    assert not any("box_convolution" in graph for graph in graphs)


def test_a_training_step_of_enet() -> None:
    """All PReLUs of the network are served; their sum over a step is that of PyTorch's."""
    torch.manual_seed(0)
    network = networks.create("enet", 5, (32, 48)).to(memory_format=LAST)
    nodes: list[str] = []
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            module.register_forward_hook(lambda module, inputs, output: nodes.append(output.grad_fn.name()))
    image = torch.randn(2, 3, 32, 48).to(memory_format=LAST)
    state = torch.get_rng_state()
    gradients = []
    for name in ("cpu", "reference") if not cpu_library.status() else ("reference",):
        torch.set_rng_state(state)
        network.zero_grad()
        with ops.use(name), FlopCounterMode(display=False):
            network(image).square().mean().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
        if name == "cpu":
            assert len(nodes) == 67
            assert set(nodes) == {"EagerPReLUBackward"}
    for one, other in zip(gradients[0], gradients[-1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_networks_without_boxes_do_not_warn_of_slow_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a compiler."""
    monkeypatch.setattr(cpu_library, "status", lambda: "there is no C++ compiler")
    dispatch._fastest.cache_clear()
    try:
        network = networks.create("enet", 5, (32, 48))
        image = torch.randn(2, 3, 32, 48)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            network(image).mean().backward()
            with torch.no_grad():
                deploy(network)(image)
        with pytest.warns(UserWarning, match="there is no C\\+\\+ compiler"):
            networks.create("boxenet", 5, (32, 48))(image)
    finally:
        dispatch._fastest.cache_clear()
