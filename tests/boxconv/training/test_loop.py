"""The training loop: exact resume, signals, losses that are not finite, and the files of a run."""

import signal

import pytest
import torch
from small_runs import SIZE, Signals, config, network, records, same, train
from small_runs import run as build
from torch import nn

from box_convolution import boxes as box
from boxconv.data.scenes.dataset import RoadScenes
from boxconv.data.transforms import Augment
from boxconv.errors import UsageError
from boxconv.training import checkpoint, run_folder
from boxconv.training.box_history import read_history
from boxconv.training.config import from_plain
from boxconv.training.device import TrainingError
from boxconv.training.loading import epoch_batches
from boxconv.training.loop import train as train_loop
from boxconv.training.run_folder import RunFolder, RunFolderError
from boxconv.training.start_or_resume import train_into
from boxconv.training.stop_signals import Interrupted


def batch_normalised():
    return network(active=nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()))


def run(path, model=None, settings=None, **options):
    """Train for three epochs, or with other settings; returns the records."""
    train(path, settings or config(epochs=3), model or batch_normalised(), **options)
    return records(path)


def weights(path):
    return checkpoint.load(path / "last.pt")["model"]


def without_seconds(found):
    timed = ("train_seconds", "loader_images_per_second", "step_images_per_second")
    return [{name: value for name, value in record.items() if name not in timed} for record in found]


def test_a_run_leaves_what_it_promises(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        returned = train_loop(build(config(epochs=3)), folder, progress=False)
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == {
        "config.json", "metrics.jsonl", "boxes.jsonl", "best.pt", "last.pt", "tensorboard",
    }  # fmt: skip
    assert records(tmp_path / "run") == returned
    assert [record["epoch"] for record in returned] == [1, 2, 3]
    best = checkpoint.load(tmp_path / "run/best.pt")
    assert best["scores"]["class_iou"] == max(record["val_class_iou"] for record in returned)
    assert best["training"] is None
    assert from_plain(best["config"]) == config(epochs=3)
    events = list((tmp_path / "run/tensorboard").iterdir())
    assert sum(event.stat().st_size for event in events) > 500


# 5 samples in batches of 3, so requests 1 to 5 are epoch 1. The signal comes in the middle of an epoch (2), in the last
# batch of an epoch (5), and in epoch 2 (8).
@pytest.mark.parametrize("at", [2, 5, 8])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_resumed_is_bit_identical(tmp_path, at, number):
    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted) as stop:
        run(tmp_path / "parts", data=Signals(at, number))
    assert stop.value.number == number
    torch.manual_seed(99)  # whatever happened in between
    parts = run(tmp_path / "parts", resume=True)
    assert without_seconds(parts) == without_seconds(whole)
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    assert [record["epoch"] for record in parts] == [1, 2, 3]
    assert (tmp_path / "parts/boxes.jsonl").read_bytes() == (tmp_path / "whole/boxes.jsonl").read_bytes()
    assert [line["epoch"] for line in read_history(tmp_path / "parts/boxes.jsonl")] == [0, 1, 2, 3]


def test_the_average_of_the_weights_is_scored_and_saved(tmp_path):
    model, settings = batch_normalised(), config(epochs=3, ema=0.9)
    whole = run(tmp_path / "whole", model, settings)
    last, best = (checkpoint.load(tmp_path / "whole" / name) for name in ("last.pt", "best.pt"))
    average = {
        name.removeprefix("module."): value
        for name, value in last["training"]["average"].items()
        if name != "n_averaged"
    }
    assert same(last["model"], model.state_dict())
    assert average.keys() == last["model"].keys()
    assert not same(average, last["model"])
    assert not torch.equal(average["1.0.running_mean"], last["model"]["1.0.running_mean"]), "statistics too"
    scores = [record["val_average_class_iou"] for record in whole]
    assert best["scores"]["class_iou"] == max(scores)
    assert scores != [record["val_class_iou"] for record in whole]
    scored = batch_normalised()
    scored.load_state_dict(best["model"])
    assert same(average, best["model"]) == (scores[-1] > max(scores[:-1]))
    layer = scored[2]
    assert torch.equal(layer.boxes.detach(), box.project(layer.boxes.detach(), *SIZE)), "averaged boxes are valid"
    assert without_seconds(run(tmp_path / "plain")) == without_seconds(
        [{name: value for name, value in record.items() if "average" not in name} for record in whole]
    ), "training itself is the same without an average"


def test_signal_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run(tmp_path / "run", settings=config(epochs=1))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_best_is_for_inference_not_for_resuming(tmp_path):
    run(tmp_path / "run", settings=config(epochs=1))
    with pytest.raises(TrainingError, match=r"resume from last\.pt"):
        train_loop(build(config()), None, resume=checkpoint.load(tmp_path / "run/best.pt"))


def test_a_loss_that_is_not_finite_stops_at_once(tmp_path):
    run(tmp_path / "run", settings=config(epochs=1))

    class Poisoned(RoadScenes):
        def __getitem__(self, key):
            image, label = super().__getitem__(key)
            return image * float("inf"), label

    data = Poisoned(5, SIZE, seed=1, transform=Augment(SIZE))
    content = checkpoint.load(tmp_path / "run/last.pt")
    content["config"]["epochs"] = 3
    checkpoint.save(tmp_path / "run/last.pt", content)
    before = (tmp_path / "run/last.pt").read_bytes()
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 2, step 1 \(learning rate .*samples scene-0"):
        run(tmp_path / "run", data=data, resume=True)
    assert (tmp_path / "run/last.pt").read_bytes() == before


def test_batches_cover_every_sample_once_and_differ_by_epoch_and_seed():
    settings = config(batch_size=4, seed=0)
    first = epoch_batches(settings, 10, epoch=0)
    assert sorted(index for batch in first for _, index in batch) == list(range(10))
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert epoch_batches(settings, 10, epoch=0, first=1) == first[1:]
    later, other = epoch_batches(settings, 10, epoch=1), epoch_batches(config(batch_size=4, seed=1), 10, epoch=0)
    orders = [[index for batch in batches for _, index in batch] for batches in (first, later, other)]
    assert orders[0] not in orders[1:]


def test_run_folders_are_never_overwritten_unasked(tmp_path):
    run(tmp_path / "run", settings=config(epochs=1))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(RunFolderError, match=r"holds a run already.*--resume.*--overwrite"):
        RunFolder(tmp_path / "run")
    with pytest.raises(UsageError, match="contradict"):
        RunFolder(tmp_path / "run", resume=True, overwrite=True)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    (tmp_path / "run/notes.txt").write_text("mine")
    RunFolder(tmp_path / "run", overwrite=True).close()
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_run_that_another_process_writes_until_the_folder_is_locked_is_kept(tmp_path, monkeypatch):
    path, locked = tmp_path / "run", run_folder.lock

    def after_another(file):
        (path / "config.json").write_text("theirs")
        locked(file)

    monkeypatch.setattr(run_folder, "lock", after_another)
    with pytest.raises(RunFolderError, match=r"holds a run already \(config\.json\)"):
        RunFolder(path)
    assert [entry.name for entry in path.iterdir()] == ["config.json"], "the lock is released"
    assert (path / "config.json").read_text() == "theirs"


def test_a_folder_with_a_run_is_refused_before_files_are_read(tmp_path):
    run(tmp_path / "run", settings=config(epochs=1))

    def network_for(*_, **__):
        raise AssertionError("the work has begun")

    with pytest.raises(RunFolderError, match="holds a run already"):
        train_into(tmp_path / "run", config(epochs=1), network_for)


def test_files_of_a_killed_writer_are_swept(tmp_path):
    run(tmp_path / "run", settings=config(epochs=1))
    stray = tmp_path / "run/.last.tmp.12345.pt"
    stray.touch()
    RunFolder(tmp_path / "run", resume=True)
    assert not stray.exists()
