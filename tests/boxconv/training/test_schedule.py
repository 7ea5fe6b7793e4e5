"""The learning rate: each schedule, the warm-up, and steps at given epochs."""

import pytest

from boxconv.training.config import TrainConfig
from boxconv.training.schedule import learning_rate


def config(**changes):
    return TrainConfig(**{"epochs": 3, "lr": 1e-2} | changes)


def test_schedules():
    poly = config(schedule="poly")
    assert learning_rate(poly, 0) == pytest.approx(1e-2)
    assert learning_rate(poly, 0.5) == pytest.approx(1e-2 * 0.5**0.9)
    assert learning_rate(poly, 1) == 0
    step = config(schedule="step", epochs=300, step_epochs=100, step_factor=0.1)
    assert [learning_rate(step, epoch / 300) for epoch in (0, 99, 100, 200, 299)] == pytest.approx(
        [1e-2, 1e-2, 1e-3, 1e-4, 1e-4]
    )
    assert learning_rate(config(schedule="constant"), 0.9) == 1e-2


def test_warm_up():
    warm = config(schedule="constant", epochs=20, warmup=2.5)
    assert [learning_rate(warm, epoch / 20) for epoch in (0, 1, 2, 2.5, 3, 20)] == pytest.approx(
        [0, 4e-3, 8e-3, 1e-2, 1e-2, 1e-2]
    )
    assert learning_rate(config(epochs=8, warmup=6), 0.5, 1 / 8) == pytest.approx(1e-2 * 0.5**0.9 * 5 / 6)
    assert learning_rate(config(schedule="constant", epochs=8, warmup=1), 0, 1 / 8) == 1e-2, "one step an epoch"


def test_milestones_take_the_place_of_regular_steps():
    steps = config(schedule="step", lr=1.0, step_factor=0.5, epochs=10, milestones=(2, 9), step_epochs=1)
    assert [learning_rate(steps, epoch / 10) for epoch in range(10)] == [1.0] * 2 + [0.5] * 7 + [0.25]
    # In the middle of an epoch the rate is that of its start.
    assert learning_rate(steps, 0.199) == 1.0
