"""Loading in advance and in worker processes; errors name faulty files."""

import os
import signal
import threading
import time

import pytest
import torch
from faults import runs
from faults.processes import catches_sigterm, children
from torch.utils.data import Dataset

from boxconv.data.class_table import DataError
from boxconv.training.loading import Loader, ahead


class Samples(Dataset):
    def __init__(self, error=None, seconds=0.0):
        self.error, self.seconds = error, seconds

    def __getitem__(self, index):
        time.sleep(self.seconds)
        if self.error is not None and index == 3:
            raise self.error
        return torch.full((3, 2, 2), float(index)), torch.full((2, 2), index)


@pytest.mark.parametrize("options", [{}, {"thread": True}, {"workers": 1}])
def test_the_batches_that_were_asked_for(options):
    loader = Loader(Samples(), [[4, 1], [0], [2, 2]], **options)
    assert [labels[:, 0, 0].tolist() for _, labels in loader] == [[4, 1], [0], [2, 2]]


@pytest.mark.parametrize("options", [{}, {"thread": True}, {"workers": 1}])
@pytest.mark.parametrize(
    "error, message",
    [(DataError("b/3.png: damaged"), "b/3.png: damaged"), (OSError(5, "I/O error", "c/3.png"), "c/3.png: I/O error")],
)
def test_a_faulty_file_is_one_clear_error(options, error, message):
    loader = Loader(Samples(error), [[0], [1, 3], [2]], **options)
    batches = iter(loader)
    next(batches)
    with pytest.raises(DataError) as caught:
        next(batches)
    assert str(caught.value) == message


def test_the_time_a_sample_takes_is_on_record():
    loader = Loader(Samples(seconds=0.01), [[0, 1], [2, 4]])
    list(loader)
    assert loader.seconds >= 0.04


def test_ahead_is_ahead_and_no_further():
    asked = []

    def items():
        for i in range(10):
            asked.append(i)
            yield i

    found = []
    for item in ahead(items(), depth=2):
        time.sleep(0.01)
        found.append(item)
        assert len(asked) <= item + 4
    assert found == list(range(10))


def test_ahead_ends_with_its_user_and_passes_errors_on():
    def items():
        yield 1
        raise ValueError("two")

    iterator = ahead(items())
    assert next(iterator) == 1
    with pytest.raises(ValueError, match="two"):
        next(iterator)
    before = set(threading.enumerate())  # not their number: threads of others may end meanwhile
    endless = ahead(iter(int, 1))
    next(endless)
    (started,) = set(threading.enumerate()) - before
    endless.close()
    started.join(10)
    assert not started.is_alive()


def test_sigterm_for_all_processes_loses_nothing(tmp_path):
    """As timeout(1), systemd and batch systems send it: workers must live until the training process has saved."""
    out = tmp_path / "run"
    waits_for_images = ("--size", 256, 512, "--crop", 16, 32, "--scenes-per-epoch", 200, "--epochs", 500)
    process = runs.start("train", "--out", out, *runs.SMALL, "--workers", 1, *waits_for_images)
    runs.wait_for((out / "metrics.jsonl").exists, process)
    runs.wait_for(lambda: any(map(catches_sigterm, children(process))), process)
    time.sleep(0.5)  # PyTorch's own handler, which ends a worker, is replaced soon after it is set
    for worker in children(process):
        os.kill(worker, signal.SIGTERM)
    done = runs.epochs(out)
    runs.wait_for(lambda: runs.epochs(out) > done, process)
    process.send_signal(signal.SIGTERM)
    status, errors = runs.finish(process)
    assert status == 143, errors
    assert "the state is saved, go on with --resume" in errors
