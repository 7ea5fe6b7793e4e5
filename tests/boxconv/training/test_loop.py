"""The training loop: exact resume, signals, losses that are not finite, and the files of a run."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from box_convolution import BoxConv2d
from box_convolution import boxes as box
from boxconv.data.scenes.dataset import RoadScenes
from boxconv.data.transforms import Augment, EvalTransform
from boxconv.errors import UsageError
from boxconv.training import checkpoint, run_folder
from boxconv.training.box_history import read_history
from boxconv.training.config import TrainConfig, from_plain, to_plain
from boxconv.training.device import TrainingError, choose_device
from boxconv.training.loading import epoch_batches
from boxconv.training.loop import train
from boxconv.training.run_folder import RunFolder, RunFolderError
from boxconv.training.setup import Run
from boxconv.training.start_or_resume import train_into
from boxconv.training.stop_signals import Interrupted

SIZE = (16, 32)
CLASSES = RoadScenes.classes


def small_model():
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        BoxConv2d(8, 2, *SIZE),
        nn.Dropout2d(0.2),
        nn.Conv2d(16, len(CLASSES), 1),
    )


def config(**changes):
    return TrainConfig(**{"size": SIZE, "epochs": 3, "batch_size": 3, "lr": 1e-2, "seed": 1} | changes)


def parts(model=None, settings=None, data=None):
    settings = settings or config()
    train_data = data or RoadScenes(7, SIZE, seed=settings.seed, transform=Augment(SIZE))
    val_data = RoadScenes(4, SIZE, split="val", transform=EvalTransform(SIZE))
    weight = torch.ones(len(CLASSES))
    return Run(settings, model or small_model(), {"name": "test"}, CLASSES, train_data, val_data, weight)


def run(path, model=None, settings=None, *, data=None, resume=False):
    with RunFolder(path, resume=resume) as folder:
        saved = checkpoint.load(folder.last) if resume else None
        return train(parts(model, settings, data), folder, resume=saved, progress=False)


class StopsAt:
    """A data set that sends a signal to its own process when sample number ``at`` is asked for."""

    def __init__(self, at, number=signal.SIGINT):
        self.data = RoadScenes(7, SIZE, seed=1, transform=Augment(SIZE))
        self.at, self.number, self.asked = at, number, 0

    def __len__(self):
        return len(self.data)

    def __getitem__(self, key):
        self.asked += 1
        if self.asked == self.at:
            os.kill(os.getpid(), self.number)
        return self.data[key]


def weights(path):
    return checkpoint.load(path / "last.pt")["model"]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def without_seconds(records):
    timed = ("train_seconds", "loader_images_per_second", "step_images_per_second")
    return [{name: value for name, value in record.items() if name not in timed} for record in records]


def test_a_run_leaves_what_it_promises(tmp_path):
    records = run(tmp_path / "run")
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == {
        "config.json", "metrics.jsonl", "boxes.jsonl", "best.pt", "last.pt", "tensorboard",
    }  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert lines == records
    assert [record["epoch"] for record in lines] == [1, 2, 3]
    best = checkpoint.load(tmp_path / "run/best.pt")
    assert best["scores"]["class_iou"] == max(record["val_class_iou"] for record in records)
    assert best["training"] is None
    assert from_plain(best["config"]) == config()
    events = list((tmp_path / "run/tensorboard").iterdir())
    assert sum(event.stat().st_size for event in events) > 500


def test_same_seed_same_bits(tmp_path):
    first, second = run(tmp_path / "a"), run(tmp_path / "b")
    assert without_seconds(first) == without_seconds(second)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    run(tmp_path / "c", settings=config(seed=2))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


# 7 samples in batches of 3, so requests 1 to 7 are epoch 1. The signal comes in the middle of an epoch (2), in the last
# batch of an epoch (7), and in epoch 2 (12).
@pytest.mark.parametrize("at", [2, 7, 12])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_resumed_is_bit_identical(tmp_path, at, number):
    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted) as stop:
        run(tmp_path / "parts", data=StopsAt(at, number))
    assert stop.value.number == number
    torch.manual_seed(99)  # whatever happened in between
    parts = run(tmp_path / "parts", resume=True)
    assert without_seconds(parts) == without_seconds(whole)
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    lines = (tmp_path / "parts/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    assert (tmp_path / "parts/boxes.jsonl").read_bytes() == (tmp_path / "whole/boxes.jsonl").read_bytes()
    assert [line["epoch"] for line in read_history(tmp_path / "parts/boxes.jsonl")] == [0, 1, 2, 3]


def test_the_average_of_the_weights_is_scored_saved_and_resumed_to_the_bit(tmp_path):
    model = small_model()
    settings = config(ema=0.9)
    records = run(tmp_path / "whole", model, settings)
    last, best = (checkpoint.load(tmp_path / "whole" / name) for name in ("last.pt", "best.pt"))
    average = {
        name.removeprefix("module."): value
        for name, value in last["training"]["average"].items()
        if name != "n_averaged"
    }
    assert same(last["model"], model.state_dict())
    assert average.keys() == last["model"].keys()
    assert not same(average, last["model"])
    assert not torch.equal(average["1.running_mean"], last["model"]["1.running_mean"]), "statistics too"
    scores = [record["val_average_class_iou"] for record in records]
    assert best["scores"]["class_iou"] == max(scores)
    assert scores != [record["val_class_iou"] for record in records]
    scored = small_model()
    scored.load_state_dict(best["model"])
    assert same(average, best["model"]) == (scores[-1] > max(scores[:-1]))
    layer = scored[3]
    assert torch.equal(layer.boxes.detach(), box.project(layer.boxes.detach(), *SIZE)), "averaged boxes are valid"

    with pytest.raises(Interrupted):
        run(tmp_path / "parts", settings=settings, data=StopsAt(12))
    assert without_seconds(run(tmp_path / "parts", settings=settings, resume=True)) == without_seconds(records)
    resumed = checkpoint.load(tmp_path / "parts" / "last.pt")
    assert same(resumed["training"]["average"], last["training"]["average"])
    assert without_seconds(run(tmp_path / "plain")) == without_seconds(
        [{name: value for name, value in record.items() if "average" not in name} for record in records]
    ), "training itself is the same without an average"


def test_signal_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run(tmp_path / "run", settings=config(epochs=1))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_best_is_for_inference_not_for_resuming(tmp_path):
    run(tmp_path / "run", settings=config(epochs=1))
    with pytest.raises(TrainingError, match=r"resume from last\.pt"):
        train(parts(), None, resume=checkpoint.load(tmp_path / "run/best.pt"))


def test_a_loss_that_is_not_finite_stops_at_once(tmp_path):
    run(tmp_path / "run", settings=config(epochs=1))
    before = (tmp_path / "run/last.pt").read_bytes()
    model = small_model()

    class Poisoned(RoadScenes):
        def __getitem__(self, key):
            image, label = super().__getitem__(key)
            return image * float("inf"), label

    data = Poisoned(7, SIZE, seed=1, transform=Augment(SIZE))
    content = checkpoint.load(tmp_path / "run/last.pt")
    content["config"]["epochs"] = 3
    checkpoint.save(tmp_path / "run/last.pt", content)
    before = (tmp_path / "run/last.pt").read_bytes()
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 2, step 1 \(learning rate .*samples scene-0"):
        run(tmp_path / "run", model=model, data=data, resume=True)
    assert (tmp_path / "run/last.pt").read_bytes() == before


def test_batches_cover_every_sample_once_and_differ_by_epoch():
    settings = config(batch_size=4, seed=0)
    first = epoch_batches(settings, 10, epoch=0)
    assert sorted(index for batch in first for _, index in batch) == list(range(10))
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert epoch_batches(settings, 10, epoch=0, first=1) == first[1:]
    later = epoch_batches(settings, 10, epoch=1)
    assert [key[1] for batch in later for key in batch] != [key[1] for batch in first for key in batch]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epochs": 0}, "--epochs: expected at least 1, got 0"),
        ({"batch_size": -1}, "--batch-size: expected at least 1, got -1"),
        ({"lr": float("nan")}, "--lr: expected a positive number, got nan"),
        ({"lr": 0.0}, "--lr: expected a positive number"),
        ({"weight_decay": -1.0}, "--weight-decay"),
        ({"scale": (2.0, 1.0)}, "--scale: expected 0 < low <= high, got 2.0 1.0"),
        ({"brightness": 1.0}, "--brightness"),
        ({"size": (8, 100)}, "--size: expected height and width of at least 16 pixels, got 8 100"),
        ({"crop": (8, 100)}, "--crop"),
        ({"data": "camvid"}, "--root: --data camvid needs the folder"),
        ({"workers": -1}, "--workers"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(UsageError, match=message):
        config(**changes).check()


def test_settings_round_trip():
    settings = config(data="folder", root=Path("a/b"), crop=(16, 32))
    assert from_plain(json.loads(json.dumps(to_plain(settings)))) == settings


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


def test_impossible_run_folders(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="a file is in the place"):
        RunFolder(tmp_path / "file")
    with pytest.raises(RunFolderError, match=r"nothing to resume, there is no last\.pt"):
        RunFolder(tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").touch()
    for options in ({}, {"overwrite": True}):
        with pytest.raises(RunFolderError, match=r"holds other files \(cat\.jpg\)"):
            RunFolder(tmp_path / "photos", **options)
    with pytest.raises(RunFolderError, match="cannot be written"):
        RunFolder(tmp_path / "file" / "below")


def test_files_of_a_killed_writer_are_swept(tmp_path):
    run(tmp_path / "run", settings=config(epochs=1))
    stray = tmp_path / "run/.last.tmp.12345.pt"
    stray.touch()
    RunFolder(tmp_path / "run", resume=True)
    assert not stray.exists()


def test_unknown_device_is_an_error():
    with pytest.raises(TrainingError, match="--device quantum: not available here"):
        choose_device("quantum")
