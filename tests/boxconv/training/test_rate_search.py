"""`boxconv train --find-lr`: the loss while the learning rate grows."""

import itertools
import math

import pytest
from small_runs import config, run

from boxconv.training import rate_search
from boxconv.training.rate_search import HIGHEST, LOWEST, STEPS, Tried, described, suggested, try_rates


def test_the_rate_grows_by_the_same_factor_and_the_loss_falls_before_it_rises():
    tried = try_rates(run(config(batch_size=5, lr=123.0)), progress=False)
    factor = (HIGHEST / LOWEST) ** (1 / (STEPS - 1))
    for one, following in itertools.pairwise(tried):
        assert following.rate / one.rate == pytest.approx(factor)
    assert tried[0].rate == LOWEST
    lowest = min(one.loss for one in tried)
    assert lowest < 0.8 * tried[0].loss
    assert tried[-1].loss > lowest
    assert suggested(tried) == min(tried, key=lambda one: one.loss).rate / 10


def test_its_first_loss_is_that_of_training():
    (first, *_) = try_rates(run(config(batch_size=5)), progress=False)
    again = run(config(batch_size=5))
    step = rate_search.TrainStep(again.model.train(), again.config, again.class_weight, again.device, again.context)
    step.seed_step(0, 0)
    order = next(iter(rate_search.EpochBatches(5, 5, again.config.seed, 0, 0)))
    (batch,) = rate_search.Loader(again.train_data, [order])
    loss, _, _ = step.step([(*batch, True)], LOWEST)
    assert first.loss == pytest.approx(loss, rel=1e-12)


def test_it_ends_where_the_loss_is_not_finite(monkeypatch):
    steps = iter(range(STEPS))

    def not_finite(*_):
        if next(steps) == 3:
            raise rate_search.LossNotFinite("the loss is nan")
        return 1.0, [], []

    monkeypatch.setattr(rate_search.TrainStep, "step", not_finite)
    assert [one.loss for one in try_rates(run(config()), progress=False)] == pytest.approx([1.0] * 3)


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 2.0], [2.0, 1.0]])
def test_without_a_lowest_loss_between_the_ends_there_is_no_advice(losses):
    tried = [Tried(10.0**i, loss) for i, loss in enumerate(losses)]
    assert suggested(tried) is None
    assert "no rate can be told" in described(tried)


def test_it_is_described_in_lines_of_doubled_rates():
    curve = [Tried(LOWEST * (HIGHEST / LOWEST) ** (i / (STEPS - 1)), 1 + abs(i - 80) / 80) for i in range(STEPS)]
    heading, *lines, advice = described(curve).splitlines()
    assert heading == "learning rate  loss"
    rates = [float(line.split()[0]) for line in lines]
    assert all(1.6 < b / a < 2.5 for a, b in itertools.pairwise(rates))
    assert len(lines) == math.ceil(STEPS / 6)
    assert f"begin with --lr {curve[80].rate / 10:.1g}, or half of it" in advice
