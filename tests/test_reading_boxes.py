"""Boxes are validated once after each change of the stored numbers, and are right after every kind of change."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

from box_convolution import BoxConv2d, box_conv2d
from box_convolution import boxes as box
from box_convolution.layer import _is_plain

H, W = 11, 13
IMAGE = torch.randn(2, 3, H, W)


class Operations(TorchDispatchMode):
    """Records the names of the ATen operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def operations(call: Callable[[], Any]) -> list[str]:
    with Operations() as seen:
        call()
    return [name for name in seen.names if name not in ("aten::detach", "aten::alias")]


def layer(**options: Any) -> BoxConv2d:
    return BoxConv2d(3, 2, H, W, **options)


def valid_boxes() -> Tensor:
    return box.from_symmetric(box.to_symmetric(box.project(10 * torch.randn(3, 2, 4), H, W)))


def truth(module: BoxConv2d) -> Tensor:
    """The boxes that must be read, computed without the layer's cache."""
    return box.project(module._pixels(module.scaled_boxes.detach()), H, W)


@pytest.mark.parametrize("symmetric", [False, True])
def test_in_evaluation_only_the_operator_runs(symmetric: bool) -> None:
    module = layer(symmetric=symmetric).eval()
    with torch.no_grad():
        module(IMAGE)
        boxes = module.boxes
        plain = operations(lambda: box_conv2d(IMAGE, boxes))
        assert operations(lambda: module(IMAGE)) == ["aten::equal", *plain]


def test_in_training_only_a_comparison_and_a_multiplication_run() -> None:
    module = layer()
    module.boxes  # noqa: B018
    assert operations(lambda: module.boxes) == ["aten::equal", "aten::mul.Tensor"]


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's tensors are treated like those of a GPU that Triton serves: nothing may look at their values."""
    monkeypatch.setattr("box_convolution.layer._may_look_at", lambda scaled: False)
    monkeypatch.setattr("box_convolution.layer._kernel_projects", _is_plain)


def reckless(symmetric: bool) -> BoxConv2d:
    """A layer whose stored boxes are beyond its limits, or too narrow."""
    module = layer(symmetric=symmetric)
    with torch.no_grad():
        module.scaled_boxes.copy_(module.scaled_boxes.roll(1) * 3)
    assert not torch.equal(module._pixels(module.scaled_boxes.detach()), truth(module))
    return module


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("symmetric", [False, True])
def test_on_a_gpu_one_operation_projects(symmetric: bool) -> None:
    module = reckless(symmetric)
    module(IMAGE)  # makes constants
    scale = ["aten::slice.Tensor", "aten::cat", "aten::mul.Tensor"] if symmetric else ["aten::mul.Tensor"]
    project, convolve = "box_convolution::projected_boxes", "box_convolution::box_conv2d"
    assert operations(lambda: module(IMAGE)) == [*scale, project, "aten::copy_", convolve]
    with torch.no_grad():
        assert operations(lambda: module(IMAGE)) == [*scale, project, convolve]


@pytest.mark.parametrize("symmetric", [False, True])
def test_on_a_gpu_boxes_and_gradients_are_the_same(symmetric: bool, request: pytest.FixtureRequest) -> None:
    module = reckless(symmetric)
    before = module.scaled_boxes.detach().clone()
    image = IMAGE.clone().requires_grad_()

    def results() -> list[Tensor]:
        boxes, output = module.boxes, module(image)
        first = torch.autograd.grad(output.square().sum(), (image, module.scaled_boxes), create_graph=True)
        second = torch.autograd.grad(first[1].square().sum(), module.scaled_boxes)
        return [boxes, output, *first, *second]

    expected = results()
    request.getfixturevalue("as_on_a_gpu")
    for found, right in zip(results(), expected, strict=True):
        assert torch.equal(found, right)
    with torch.inference_mode():
        assert torch.equal(module.boxes, truth(module))
    assert torch.equal(module.scaled_boxes, before), "reading writes nothing"
    read = truth(module)
    module.project_()
    assert torch.equal(module._pixels(module.scaled_boxes), read)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_on_a_gpu_functionalized_and_traced() -> None:
    module = reckless(False)
    expected = module(IMAGE)
    assert torch.equal(torch.func.functionalize(module)(IMAGE), expected)
    torch._dynamo.reset()
    assert torch.equal(torch.compile(module, backend="aot_eager", fullgraph=True)(IMAGE), expected)
    assert torch.equal(make_fx(lambda image: module(image), _allow_non_fake_inputs=True)(IMAGE)(IMAGE), expected)
    by_image = torch.func.vmap(lambda image: module(image[None])[0])(IMAGE)
    torch.testing.assert_close(by_image, expected)
    gradient = torch.func.grad(lambda image: module(image).sum())(IMAGE)
    assert gradient.isfinite().all()


def test_without_access_to_values_few_operations_run() -> None:
    """This is the case on a GPU, where each operation is a kernel."""
    module = layer(device="meta")
    with torch.no_grad():
        names = operations(lambda: module.boxes)
    made = ("aten::full", "aten::stack", "aten::unsqueeze", "aten::slice.Tensor", "aten::view", "aten::_unsafe_view")
    assert len([name for name in names if name not in made]) <= 13, names


def test_a_step_leaves_boxes_known() -> None:
    module = layer()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    for lr in (1e-3, 1e3):
        optimizer.param_groups[0]["lr"] = lr
        module(IMAGE).square().sum().backward()
        optimizer.step()
        assert operations(lambda: module.boxes) == ["aten::equal", "aten::mul.Tensor"]
        assert torch.equal(module.boxes, truth(module))


CHANGES: dict[str, Callable[[BoxConv2d, Tensor], Any]] = {
    "copy_": lambda module, stored: module.scaled_boxes.copy_(stored),
    "index": lambda module, stored: module.scaled_boxes.__setitem__((0, 0), stored[0, 0]),
    "data.copy_": lambda module, stored: module.scaled_boxes.data.copy_(stored),
    "data index": lambda module, stored: module.scaled_boxes.data[1].copy_(stored[1]),
    "data =": lambda module, stored: setattr(module.scaled_boxes, "data", stored.clone()),
    "another parameter": lambda module, stored: setattr(module, "scaled_boxes", nn.Parameter(stored.clone())),
    "NumPy": lambda module, stored: module.scaled_boxes.detach().numpy().__setitem__(..., stored.numpy()),
    "load_state_dict": lambda module, stored: module.load_state_dict({"scaled_boxes": stored}),
    "assign": lambda module, stored: module.load_state_dict({"scaled_boxes": stored.clone()}, assign=True),
    "set_": lambda module, stored: module.scaled_boxes.data.set_(stored.clone()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("mode", ["gradient", "no_grad", "inference"])
def test_every_change_is_seen(change: str, symmetric: bool, mode: str) -> None:
    module = layer(symmetric=symmetric)
    read = {"gradient": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}[mode]
    for _ in range(3):
        with read():
            module(IMAGE)  # known from here on
        stored = layer(symmetric=symmetric)
        stored.set_boxes(valid_boxes())
        with torch.no_grad():
            CHANGES[change](module, stored.scaled_boxes.detach())
        with read():
            for _ in range(2):
                assert torch.equal(module.boxes, truth(module))
                assert torch.equal(module(IMAGE), box_conv2d(IMAGE, truth(module)))


@pytest.mark.parametrize("change", [name for name in CHANGES if name not in ("load_state_dict", "assign")])
def test_an_invalid_change_is_projected_and_keeps_its_gradient(change: str) -> None:
    module = layer()
    module(IMAGE)
    with torch.no_grad():
        CHANGES[change](module, torch.tensor([5.0, -5, 9, 9]).expand(3, 2, 4))
    for _ in range(2):
        assert box.is_valid(module.boxes, H, W).all()
        assert torch.equal(module.boxes, truth(module))
        assert torch.equal(module(IMAGE), box_conv2d(IMAGE, truth(module)))
    module.boxes.sum().backward()
    assert (module.scaled_boxes.grad > 0).all()


def test_dtypes_and_devices_and_back() -> None:
    module = layer()
    module(IMAGE)
    for move in (torch.float64, torch.bfloat16, torch.float16, "meta"):
        moved = copy.deepcopy(module).to(move)  # type: ignore[call-overload]
        assert moved.boxes.dtype == moved.scaled_boxes.dtype
        assert moved.boxes.device == moved.scaled_boxes.device
        if move != "meta":
            assert torch.equal(moved.boxes, box.project(moved._pixels(moved.scaled_boxes.detach()), H, W))
    torch.testing.assert_close(module.double().float().boxes, truth(module))


def test_copies_are_equal_and_what_is_remembered_stays_with_its_layer() -> None:
    module = layer(stride=2, normalize=False)
    module(IMAGE)
    assert list(module.state_dict()) == ["scaled_boxes"]
    assert [name for name, _ in module.named_buffers()] == []
    assert module._valid is not None
    pickled = pickle.loads(pickle.dumps(module))
    assert pickled._valid is None
    saved = io.BytesIO()
    torch.save(module, saved)
    saved.seek(0)
    for twin in (copy.deepcopy(module), copy.copy(module), pickled, torch.load(saved, weights_only=False)):
        assert torch.equal(twin(IMAGE), module(IMAGE))
        assert repr(twin) == repr(module)
    twin = copy.deepcopy(module)
    twin.set_boxes(valid_boxes())
    assert torch.equal(twin.boxes, truth(twin))
    assert torch.equal(module.boxes, truth(module))


def test_no_graph_is_kept_alive_and_nobody_can_write_to_what_is_remembered() -> None:
    module = layer()
    module(IMAGE).sum().backward()
    assert all(kept.grad_fn is None and not kept.requires_grad for kept in module._valid)
    with torch.no_grad():
        for boxes in (module.boxes, module.boxes):
            boxes.zero_()
    assert torch.equal(module.boxes, truth(module))


@pytest.mark.parametrize("first", ["inference", "no_grad"])
def test_what_inference_remembered_can_be_trained_with(first: str) -> None:
    module = layer().freeze()
    with torch.inference_mode() if first == "inference" else torch.no_grad():
        module(IMAGE)
    image = IMAGE.clone().requires_grad_()
    module(image).sum().backward()
    assert image.grad is not None
    module.scaled_boxes.requires_grad_()
    module(image).square().sum().backward()
    assert module.scaled_boxes.grad is not None


def test_functional_call_parametrisations_and_averages() -> None:
    module, other = layer(), layer()
    module(IMAGE)
    given = {"scaled_boxes": other.scaled_boxes.detach()}
    assert torch.equal(torch.func.functional_call(module, given, (IMAGE,)), other(IMAGE))
    assert torch.equal(torch.func.functional_call(module, dict(other.named_parameters()), (IMAGE,)), other(IMAGE))
    assert torch.equal(module(IMAGE), box_conv2d(IMAGE, truth(module)))

    class Half(nn.Module):
        def forward(self, stored: Tensor) -> Tensor:
            return stored / 2

    parametrized = copy.deepcopy(other)
    parametrize.register_parametrization(parametrized, "scaled_boxes", Half())
    expected = box.project(other._pixels(other.scaled_boxes.detach() / 2), H, W)
    assert torch.equal(parametrized(IMAGE), box_conv2d(IMAGE, expected))
    averaged: Any = AveragedModel(module)
    averaged.update_parameters(module)
    averaged(IMAGE)
    averaged.update_parameters(other)
    mean = (module.scaled_boxes + other.scaled_boxes).detach() / 2
    torch.testing.assert_close(averaged.module.scaled_boxes.detach(), mean)
    assert torch.equal(averaged(IMAGE), box_conv2d(IMAGE, truth(averaged.module)))


def test_compiled_exported_and_traced_layers_read_the_stored_numbers() -> None:
    module = layer()
    module(IMAGE)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        torch.testing.assert_close(compiled(IMAGE), box_conv2d(IMAGE, truth(module)))
        module.set_boxes(valid_boxes())
    program = torch.export.export(module, (IMAGE,)).module()
    with torch.no_grad():
        module.scaled_boxes.fill_(0)
        program.scaled_boxes.fill_(0)
    pixel = torch.tensor([-0.5, 0.5, -0.5, 0.5]).expand(3, 2, 4)
    torch.testing.assert_close(program(IMAGE), box_conv2d(IMAGE, pixel))
    torch.testing.assert_close(compiled(IMAGE), box_conv2d(IMAGE, pixel))


@pytest.mark.filterwarnings("error::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("gradient", [False, True])
def test_a_traced_layer_keeps_its_parameter(symmetric: bool, gradient: bool) -> None:
    module = layer(symmetric=symmetric)
    module(IMAGE)
    with torch.set_grad_enabled(gradient):
        traced: Any = torch.jit.trace(module, IMAGE)
    other = layer(symmetric=symmetric)
    traced.load_state_dict(other.state_dict())
    image = torch.randn(1, 3, 5, 4)
    assert torch.equal(traced(image), other(image))


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_traced_operation_by_operation(mode: str) -> None:
    module = layer()
    module(IMAGE)
    graph = make_fx(lambda image: module(image), tracing_mode=mode, _allow_non_fake_inputs=True)(IMAGE)
    assert torch.equal(graph(IMAGE), module(IMAGE))


def test_fake_tensors() -> None:
    layer()(IMAGE)  # constants for this device and dtype are there
    with FakeTensorMode():
        module = layer()
        assert module(torch.randn(2, 3, 5, 7)).shape == (2, 6, 5, 7)
        assert module.boxes.shape == (3, 2, 4)


def test_constants_are_not_those_of_a_trace() -> None:
    """A transform creates tensors that stand for others; they must not stay in the cache after the transform."""
    box._constants.clear()
    module = layer()
    torch.func.functionalize(module)(IMAGE)
    box._constants.clear()
    with torch.inference_mode():
        module(IMAGE)
    module(IMAGE).sum().backward()
    assert all(type(made) is Tensor and not made.is_inference() for made in box._constants.values())
    assert torch.equal(module.boxes, truth(module))
