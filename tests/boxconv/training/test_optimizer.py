"""The optimiser: boxes with a learning rate and a weight decay of their own."""

import pytest
import torch
from small_runs import CLASSES, CPU, SIZE, Signals, config, network, train
from torch import nn

from boxconv.data.transforms import Augment
from boxconv.training.distributed import DistributedContext
from boxconv.training.interrupt import Interrupted
from boxconv.training.step import TrainStep


def test_boxes_have_a_weight_decay_of_their_own(tmp_path):
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
    assert all(torch.equal(both_again[name], both[name]) for name in both)
    first, second = network(), network()
    train(tmp_path / "first", config(box_weight_decay=0.0), first)
    with pytest.raises(Interrupted):
        train(tmp_path / "second", config(box_weight_decay=0.0), second, data=Signals(5, "train", 7, Augment(SIZE)))
    resumed = train(tmp_path / "second", config(box_weight_decay=0.0), resume=True)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), resumed.parameters(), strict=True))


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
