"""The optimiser: each kind, and boxes with their own learning rate and weight decay."""

import pytest
import torch
from small_runs import CLASSES, CPU, SIZE, Signals, config, network, same, train
from torch import nn

from box_convolution import boxes as box
from boxconv.training import checkpoint
from boxconv.training.distributed import DistributedContext
from boxconv.training.optimizer import create_optimizer, set_learning_rate
from boxconv.training.step import TrainStep
from boxconv.training.stop_signals import Interrupted


def test_boxes_have_a_weight_decay_of_their_own():
    def trained(**changes):
        it = TrainStep(
            network(dropout=nn.Identity()), config(**changes), torch.ones(len(CLASSES)), CPU, DistributedContext()
        )
        images, labels = torch.rand(2, 3, *SIZE), torch.zeros(2, *SIZE, dtype=torch.int64)
        it.step([(images, labels, True)], 1e-2)
        # Not the step itself, which Adam makes as long as the learning rate: the gradient that it remembers.
        return {name: it.optimizer.state[p]["exp_avg"] for name, p in it.model.named_parameters()}

    torch.manual_seed(0)
    state = torch.get_rng_state()
    results = []
    for changes in ({}, {"weight_decay": 0.0}, {"box_weight_decay": 0.0}, {"box_weight_decay": 10.0}):
        torch.set_rng_state(state)
        results.append(trained(**{"weight_decay": 10.0} | changes))
    both, neither, others_only, both_again = results
    boxes = "2.scaled_boxes"
    assert torch.equal(others_only[boxes], neither[boxes])
    assert not torch.allclose(both[boxes], neither[boxes])
    assert all(torch.equal(others_only[name], both[name]) for name in both if name != boxes)
    assert same(both_again, both)


def test_boxes_have_a_learning_rate_of_their_own():
    def moved(**changes):
        model = network()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        it = TrainStep(model, config(weight_decay=0.0, **changes), torch.ones(len(CLASSES)), CPU, DistributedContext())
        torch.manual_seed(0)
        it.step([(torch.rand(2, 3, *SIZE), torch.zeros(2, *SIZE, dtype=torch.int64), True)], 1e-4)
        return {name: p.detach() - before[name] for name, p in model.named_parameters()}

    usual, fast = moved(), moved(box_lr=4.0)
    for name in usual:
        torch.testing.assert_close(
            fast[name], usual[name] * (4 if name == "2.scaled_boxes" else 1), rtol=1e-2, atol=1e-6
        )


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("own", [{}, {"box_lr": 4.0, "box_weight_decay": 0.0}])
def test_groups_mean_the_same_for_every_optimiser(name, own):
    model = network()
    optimizer = create_optimizer(model, config(optimizer=name, weight_decay=0.5, **own))
    set_learning_rate(optimizer, 1e-2)
    assert type(optimizer).__name__.lower() == name
    found = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    for parameter_name, parameter in model.named_parameters():
        boxes = parameter_name == "2.scaled_boxes"
        assert found[id(parameter)] == ((4e-2, 0.0) if boxes and own else (1e-2, 0.5))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_boxes_stay_valid_whatever_the_optimiser(name):
    it = TrainStep(
        network(), config(optimizer=name, lr=10.0, box_lr=50.0), torch.ones(len(CLASSES)), CPU, DistributedContext()
    )
    layer = it.model[2]
    before = layer.boxes.detach().clone()
    for _ in range(3):
        it.step([(torch.rand(2, 3, *SIZE), torch.zeros(2, *SIZE, dtype=torch.int64), True)], 10.0)
        stored = layer.boxes.detach()
        assert torch.equal(stored, box.project(stored, *SIZE))
    assert not torch.equal(stored, before)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "clip": 0.1, "ema": 0.9, "loss": "dice", "amp": "bf16"},
        {"optimizer": "sgd", "clip": 0.1, "box_lr": 2.0, "box_weight_decay": 0.0, "loss": "focal", "accumulate": 2},
        {"amp": "fp16"},
    ],
)
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, changes):
    whole = train(tmp_path / "whole", config(**changes))
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", config(**changes), data=Signals(7))
    parts = train(tmp_path / "parts", config(**changes), resume=True)
    assert same(whole, parts)
    last, best = ([(tmp_path / run / name) for run in ("whole", "parts")] for name in ("last.pt", "best.pt"))
    for one, other in (last, best):
        saved, again = (checkpoint.load(path) for path in (one, other))
        assert same(saved["model"], again["model"])
        if "ema" in changes and one.name == "last.pt":
            assert same(saved["training"]["average"], again["training"]["average"])
