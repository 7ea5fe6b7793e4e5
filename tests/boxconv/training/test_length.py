"""The length of a run: adding epochs to an existing run, and stopping one early that no longer improves."""

import json

import pytest
from small_runs import Signals, config, records, same, train

from boxconv.errors import UsageError
from boxconv.training import checkpoint
from boxconv.training.schedule import learning_rate
from boxconv.training.start_or_resume import resumed
from boxconv.training.state import TrainState
from boxconv.training.stop_signals import Interrupted


def in_config(path, name):
    return json.loads((path / "config.json").read_text()).get(name)


@pytest.mark.parametrize("schedule", [{"schedule": "constant"}, {"schedule": "step", "step_epochs": 1}])
def test_more_epochs_end_with_the_bits_of_a_run_that_had_them(tmp_path, schedule):
    whole = train(tmp_path / "whole", config(epochs=3, ema=0.9, **schedule))
    train(tmp_path / "run", config(epochs=1, ema=0.9, **schedule))
    longer = train(tmp_path / "run", config(epochs=3, ema=0.9, **schedule), resume=True)
    assert same(whole, longer)
    assert [record["epoch"] for record in records(tmp_path / "run")] == [1, 2, 3]
    assert in_config(tmp_path / "run", "extended") == ["1 of 1"]
    assert in_config(tmp_path / "run", "config")["epochs"] == 3
    assert in_config(tmp_path / "whole", "extended") is None


def test_a_poly_schedule_goes_on_as_that_of_the_longer_run(tmp_path):
    train(tmp_path / "run", config(epochs=1))
    train(tmp_path / "run", config(epochs=3), resume=True)
    rates = [record["learning_rate"] for record in records(tmp_path / "run")]
    # Two steps an epoch; a record has the rate of the last one.
    assert rates == [learning_rate(config(epochs=1), 1 / 2), *(learning_rate(config(epochs=3), s / 6) for s in (3, 5))]


def test_the_added_epochs_are_remembered_and_resumed_to_the_bit(tmp_path):
    for name in ("whole", "parts"):
        train(tmp_path / name, config(epochs=1))
    whole = train(tmp_path / "whole", config(epochs=3), resume=True)
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", config(epochs=3), data=Signals(1), resume=True)
    content = checkpoint.load(tmp_path / "parts" / "last.pt")
    assert content["config"]["epochs"] == 3
    assert content["training"]["state"]["extended"] == ["1 of 1"]
    assert same(whole, train(tmp_path / "parts", config(epochs=3), resume=True))
    assert in_config(tmp_path / "parts", "extended") == ["1 of 1"], "once"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epochs": 2}, "--epochs: --resume may add epochs to the run's 3, not take any away, got 2"),
        ({"lr": 1.0}, "--lr: --resume goes on with the run's 0.01, got 1.0"),
        ({"optimizer": "sgd"}, "--optimizer: --resume goes on with the run's 'adam', got 'sgd'"),
        ({"clip": 1.0}, "--clip: --resume goes on with the run's None, got 1.0"),
        ({"ema": 0.9}, "--ema: --resume goes on with the run's None, got 0.9"),
        ({"loss": "dice"}, "--loss: --resume goes on with the run's 'weighted', got 'dice'"),
        ({"balanced_crops": 0.5}, "--balanced-crops: --resume goes on with the run's 0.0, got 0.5"),
    ],
)
def test_what_a_resumed_run_may_not_change(changes, message):
    with pytest.raises(UsageError, match=message):
        resumed(config(**{"epochs": 3} | changes), config(epochs=3))


def test_what_a_resumed_run_may_change():
    given = config(epochs=4, patience=2, report_every=1, workers=3, device="cpu")
    assert resumed(given, config(epochs=3, patience=1)) == given


@pytest.mark.parametrize(
    "scores, stalled",
    [
        ([], False),
        ([0.5], False),
        ([0.5, 0.4], False),
        ([0.5, 0.4, 0.4], True),
        ([0.5, 0.4, 0.6], False),
        ([0.5, 0.5, 0.5], True),  # as good is not better
        ([0.5, None, None], False),  # nothing is known of epochs without a validation
        ([0.5, None, 0.4], True),
        ([None, None, 0.4], False),
    ],
)
def test_patience(scores, stalled):
    found = [
        {"epoch": epoch} if score is None else {"epoch": epoch, "val_class_iou": score}
        for epoch, score in enumerate(scores, start=1)
    ]
    patient = config(patience=2)
    assert TrainState(records=found).stalled(patient) == stalled
    assert not TrainState(records=found).stalled(config())
    averaged = [
        {**record, "val_class_iou": 0.1 * record["epoch"], "val_average_class_iou": record["val_class_iou"]}
        if "val_class_iou" in record
        else record
        for record in found
    ]
    assert TrainState(records=averaged).stalled(patient) == stalled, "by the scores that best.pt is chosen by"


def test_a_run_that_no_longer_improves_stops_and_can_be_continued(tmp_path, capsys):
    still = {"lr": 1e-12, "epochs": 5}  # the weights stay, and so do the scores: the first validation is the best
    whole = train(tmp_path / "whole", config(**still))
    stopped = config(patience=2, **still)
    train(tmp_path / "run", stopped)
    assert [record.get("stopped_early") for record in records(tmp_path / "run")] == [None, None, True]
    before = (tmp_path / "run" / "last.pt").read_bytes()
    train(tmp_path / "run", stopped, resume=True)
    assert (tmp_path / "run" / "last.pt").read_bytes() == before, "nothing is left to do"
    assert same(whole, train(tmp_path / "run", config(patience=9, **still), resume=True))

    with pytest.raises(Interrupted):
        train(tmp_path / "parts", stopped, data=Signals(12))
    train(tmp_path / "parts", stopped, resume=True)
    assert [record.get("stopped_early") for record in records(tmp_path / "parts")] == [None, None, True]
