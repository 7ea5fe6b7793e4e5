"""`boxconv train --find-lr`: the loss while the learning rate grows."""

import itertools
import math

import pytest
from small_runs import config, run

from boxconv.training import rate_search
from boxconv.training.loading import Loader, epoch_batches
from boxconv.training.rate_search import DOUBLING, HIGHEST, LOWEST, STEPS, Tried, described, suggested, try_rates
from boxconv.training.step import TrainStep


def test_the_rate_grows_by_the_same_factor_and_the_loss_falls_before_it_rises():
    tried = try_rates(run(config(batch_size=5, lr=123.0)), progress=False)
    factor = (HIGHEST / LOWEST) ** (1 / (STEPS - 1))
    for one, following in itertools.pairwise(tried):
        assert following.rate / one.rate == pytest.approx(factor)
    assert tried[0].rate == LOWEST
    lowest = min(one.loss for one in tried)
    assert lowest < 0.8 * tried[0].loss
    assert tried[-1].loss > lowest
    rate = suggested(tried)
    assert LOWEST < rate < min(tried, key=lambda one: one.loss).rate


def test_its_first_loss_is_that_of_training():
    (first, *_) = try_rates(run(config(batch_size=5)), progress=False)
    again = run(config(batch_size=5))
    step = TrainStep(again.model.train(), again.config, again.class_weight, again.device, again.context)
    step.seed_step(0, 0)
    order = epoch_batches(again.config, 5, 0)[0]
    (batch,) = Loader(again.train_data, [order])
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


def falling(start, end):
    """Losses that fall between two steps, and rise by a little before and after."""
    return [2 + step / 1000 - min(max(step - start, 0) / (end - start), 1) for step in range(STEPS)]


def curve(losses):
    return [Tried(LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1)), loss) for step, loss in enumerate(losses)]


def test_the_rate_to_begin_with_is_where_the_loss_falls():
    tried = curve(falling(60, 60 + DOUBLING))
    assert suggested(tried) == tried[60 + DOUBLING // 2].rate
    assert described(tried).endswith(f"begin with about --lr {suggested(tried):.1g}")


@pytest.mark.parametrize("losses", [[], [1.0], [2.0, 1.0], [1 + step / 100 for step in range(STEPS)]])
def test_where_the_loss_never_falls_there_is_no_advice(losses):
    assert suggested(curve(losses)) is None
    assert "no rate can be told" in described(curve(losses))


def test_it_is_described_in_lines_of_doubled_rates():
    heading, *lines, _ = described(curve(falling(50, 90))).splitlines()
    assert heading == "learning rate  loss"
    rates = [float(line.split()[0]) for line in lines]
    assert all(1.7 < b / a < 2.4 for a, b in itertools.pairwise(rates))
    assert len(lines) == math.ceil(STEPS / DOUBLING)
