"""Boxes stay valid in every step of a plain training loop, with any optimiser and any wrapper around the model."""

import copy
import inspect
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.utils.checkpoint import checkpoint

from box_convolution import BoxBottleneck, BoxConv2d, project_after_step
from box_convolution import boxes as box
from box_convolution import layer as layer_module

H, W = 11, 13


def stored_in_pixels(layer: BoxConv2d) -> Tensor:
    """The stored boxes in pixels, without the projection of `layer.boxes`."""
    scale = [box.scale_of(size, layer.reparametrization_factor) for size in (layer.max_input_h, layer.max_input_w)]
    return layer.scaled_boxes.detach() * torch.tensor([scale[0]] * 2 + [scale[1]] * 2)


def assert_valid(*layers: BoxConv2d) -> None:
    for layer in layers:
        for boxes in (layer.boxes, stored_in_pixels(layer)):
            assert box.is_valid(boxes, layer.max_input_h, layer.max_input_w).all()


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 3, 1), BoxConv2d(3, 2, H, W), nn.Conv2d(6, 1, 1))


def loss_of(model: Callable[[Tensor], Tensor]) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 1, H, W, generator=generator)
    return (model(image) - image.roll(3, 2)).square().mean()


def boxes_of(model: nn.Module) -> list[BoxConv2d]:
    return [module for module in model.modules() if isinstance(module, BoxConv2d)]


def plain_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss_of(model).backward()
    optimizer.step()


def moves_out(model: nn.Module, step: Callable[[], Any], steps: int = 3) -> None:
    """Check that boxes are valid after each of some very large steps, and that a projection had to change them."""
    worked = 0
    project = BoxConv2d.project_

    def counted(layer: BoxConv2d) -> None:
        nonlocal worked
        worked += not box.is_valid(stored_in_pixels(layer), layer.max_input_h, layer.max_input_w).all()
        project(layer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BoxConv2d, "project_", counted)
        for _ in range(steps):
            step()
            assert_valid(*boxes_of(model))
    assert worked, "the test must push boxes out of their limits"


def dense_optimizers() -> Iterator[str]:
    """Names of all optimisers in torch.optim that accept dense parameters with three dimensions."""
    for name, kind in vars(torch.optim).items():
        if not (inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer)) or kind is torch.optim.Optimizer:
            continue
        parameter = nn.Parameter(torch.ones(2, 2, 4))
        try:
            parameter.square().sum().backward()
            optimizer = kind([parameter])
            optimizer.step(lambda parameter=parameter: parameter.square().sum())
        except (ValueError, RuntimeError, TypeError):
            continue  # SparseAdam, Muon: not for such parameters
        yield name


OPTIMIZERS = list(dense_optimizers())


def test_the_list_of_optimisers_is_not_empty_by_accident() -> None:
    assert {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "LBFGS"} <= set(OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser(name: str) -> None:
    model = network()
    optimizer = getattr(torch.optim, name)(model[1].parameters(), lr=100.0)
    # Their first steps are small, or follow the gradient.
    if name in ("Adadelta", "Adafactor", "LBFGS", "SGD", "Rprop"):
        with torch.no_grad():
            model[1].scaled_boxes.mul_(-3)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    moves_out(model, lambda: optimizer.step(closure))


@pytest.mark.parametrize("options", [{"foreach": True}, {"foreach": False}, {"fused": True}, {"maximize": True}])
def test_variants_of_adam(options: dict[str, bool]) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=10.0, **options)
    moves_out(model, lambda: plain_step(model, optimizer))


def test_weight_decay_and_parameter_groups() -> None:
    model = network()
    groups = [{"params": model[1].parameters(), "lr": 10.0, "weight_decay": 0.5}, {"params": model[0].parameters()}]
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    moves_out(model, lambda: plain_step(model, optimizer))


def test_grad_scaler_and_autocast() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=10.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    moves_out(model, step)


def test_compiled_model_and_compiled_step() -> None:
    torch._dynamo.reset()
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=10.0)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    moves_out(model, lambda: plain_step(compiled, optimizer))
    assert torch.equal(loss_of(compiled), loss_of(model))
    take = torch.compile(lambda: optimizer.step(), backend="aot_eager")

    def step() -> None:
        optimizer.zero_grad()
        loss_of(model).backward()
        take()

    moves_out(model, step)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_activation_checkpointing(use_reentrant: bool) -> None:
    """The recomputed forward pass must equal the first one, so a forward pass must not change a weight."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=10.0)

    def checkpointed(image: Tensor) -> Tensor:
        result: Tensor = checkpoint(model, image.requires_grad_(), use_reentrant=use_reentrant)
        return result

    def grads(function: Callable[[Tensor], Tensor]) -> list[Tensor]:
        optimizer.zero_grad()
        loss_of(function).backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    def step() -> None:
        assert all(map(torch.equal, grads(checkpointed), grads(model)))
        optimizer.step()

    moves_out(model, step)


def test_one_layer_used_twice_and_one_parameter_in_two_layers() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = BoxConv2d(1, 1, H, W), BoxConv2d(1, 1, H, W)
            self.first.set_boxes(torch.tensor([[[-1.2, 2.3, -3.1, 1.4]]]))
            self.second.scaled_boxes = self.first.scaled_boxes

        def forward(self, image: Tensor) -> Tensor:
            return self.second(self.first(self.first(image)))

    model = Twice()
    optimizer = torch.optim.Adam(model.parameters(), lr=10.0)
    assert len(optimizer.param_groups[0]["params"]) == 1
    moves_out(model, lambda: plain_step(model, optimizer))
    assert model.second.scaled_boxes is model.first.scaled_boxes


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
def test_copies_are_projected_too(how: Callable[[nn.Module], nn.Module]) -> None:
    original = network()
    before = stored_in_pixels(original[1]).clone()
    twin = how(original)
    optimizer = torch.optim.Adam(twin.parameters(), lr=10.0)
    moves_out(twin, lambda: plain_step(twin, optimizer))
    assert torch.equal(stored_in_pixels(original[1]), before)


def test_distributed_data_parallel() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model, alone = network(), network()
        alone.load_state_dict(model.state_dict())
        parallel = nn.parallel.DistributedDataParallel(model)
        for wrapped in (parallel, alone):
            optimizer = torch.optim.Adam(wrapped.parameters(), lr=10.0)
            moves_out(wrapped, lambda wrapped=wrapped, optimizer=optimizer: plain_step(wrapped, optimizer))
        assert all(map(torch.equal, model.parameters(), alone.parameters()))
        zero = ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam, lr=10.0)
        moves_out(model, lambda: plain_step(parallel, zero))
    finally:
        dist.destroy_process_group()


def test_data_parallel_replicas_are_not_layers_of_their_own() -> None:
    layer = BoxConv2d(1, 1, H, W)
    count = len(project_after_step.layers)
    layer._replicate_for_data_parallel()
    assert len(project_after_step.layers) == count


def test_a_hand_written_loop_never_uses_an_invalid_box() -> None:
    """Without an optimiser and its hook, the stored numbers may leave the limits, but boxes that are read may not."""
    model = network()
    used = []
    forward = layer_module.box_conv2d

    def spy(image: Tensor, boxes: Tensor, **options: Any) -> Tensor:
        used.append(boxes.detach().clone())
        return forward(image, boxes, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer_module, "box_conv2d", spy)
        for _ in range(4):
            loss_of(model).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= (1e4 if parameter.ndim == 3 else 1e-3) * parameter.grad
                    parameter.grad = None
        loss_of(model)
    assert len(used) == 5
    assert all(box.is_valid(boxes, H, W).all() for boxes in used)
    assert not box.is_valid(stored_in_pixels(model[1]), H, W).all(), "the test must leave the limits"


def test_a_box_at_its_limit_can_come_back() -> None:
    """The gradient passes straight through the projection; with a clamp, the edge would stay there for ever."""
    layer = BoxConv2d(1, 1, H, W)
    with torch.no_grad():
        layer.scaled_boxes.copy_(torch.tensor([-99.0, 99, -99, 99]))
    (layer.boxes * torch.tensor([-1.0, 1, -1, 1])).sum().backward()
    assert (layer.scaled_boxes.grad.abs() > 0).all()


def test_another_models_step_and_frozen_boxes_are_left_alone() -> None:
    one, other, frozen = network(), network(), network()
    frozen[1].freeze()
    for model in (one, frozen):
        with torch.no_grad():
            model[1].scaled_boxes.fill_(99)
    before = [(model[1].scaled_boxes.clone(), model[1].scaled_boxes._version) for model in (one, frozen)]
    optimizer = torch.optim.Adam([*other.parameters(), *frozen.parameters()], lr=1.0)
    (loss_of(other) + loss_of(frozen)).backward()
    optimizer.step()
    for model, (value, version) in zip((one, frozen), before, strict=True):
        assert torch.equal(model[1].scaled_boxes, value)
        assert model[1].scaled_boxes._version == version


def test_forgotten_layers_are_not_kept_alive() -> None:
    count = len(project_after_step.layers)
    model = network()
    assert len(project_after_step.layers) == count + 1
    del model
    assert len(project_after_step.layers) == count


def test_steps_while_another_thread_makes_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Growing(weakref.WeakSet[BoxConv2d]):
        def __iter__(self) -> Iterator[BoxConv2d]:
            for layer in super().__iter__():
                if len(made) < 3:
                    made.append(BoxConv2d(3, 2, H, W))
                yield layer

    made: list[BoxConv2d] = []
    monkeypatch.setattr(project_after_step, "layers", Growing())
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0)
    moves_out(model, lambda: plain_step(model, optimizer))
    assert len(made) == 3


@pytest.mark.parametrize("kind", ["meta", "fake"])
def test_steps_beside_half_precision_layers_without_data(kind: str) -> None:
    alive = [BoxConv2d(3, 4, H, W, dtype=torch.bfloat16)]
    with torch.device("meta") if kind == "meta" else FakeTensorMode():
        alive.append(BoxConv2d(3, 4, H, W, dtype=torch.bfloat16))
        layer = BoxConv2d(3, 4, H, W)
        layer(torch.rand(1, 3, H, W)).sum().backward()
        torch.optim.SGD(layer.parameters(), lr=1.0).step()


class _Counting(nn.Module):
    calls = 0

    def forward(self, value: Tensor) -> Tensor:
        self.calls += 1
        return value.clone()


def test_a_step_computes_no_parametrisation_of_another_models_boxes() -> None:
    counting = _Counting()
    other, model = BoxConv2d(3, 2, H, W), network()
    nn.utils.parametrize.register_parametrization(other, "scaled_boxes", counting)
    optimizer = torch.optim.SGD(model.parameters())
    loss_of(model).backward()
    before = counting.calls
    optimizer.step()
    assert counting.calls == before


def test_ten_steps_repeat_to_the_bit() -> None:
    def train() -> list[Tensor]:
        torch.manual_seed(11)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            BoxBottleneck(8, max_input_h=H, max_input_w=W, dropout=0.3),
            nn.Conv2d(8, 1, 1),
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(10):
            plain_step(model, optimizer)
        return [*model.state_dict().values()]

    assert all(map(torch.equal, train(), train()))


def test_boxes_are_learned() -> None:
    """The target is an average over known boxes, whose edges training must find."""
    torch.manual_seed(2)
    smooth = BoxConv2d(1, 1, 16, 16)
    smooth.set_boxes(torch.tensor([[[-2.5, 2.5, -2.5, 2.5]]]))
    image = smooth(torch.randn(4, 1, 16, 16)).detach()
    truth, learner = BoxConv2d(1, 1, 16, 16), BoxConv2d(1, 1, 16, 16)
    truth.set_boxes(torch.tensor([[[1.5, 4.5, -2.5, 0.5]]]))
    learner.set_boxes(torch.tensor([[[-1.5, 2.5, -2.0, 3.0]]]))
    target = truth(image).detach()
    optimizer = torch.optim.Adam(learner.parameters(), lr=1e-3)
    for _ in range(150):
        optimizer.zero_grad()
        (learner(image) - target).square().mean().backward()
        optimizer.step()
    assert (learner.boxes - truth.boxes).abs().max() < 0.2
