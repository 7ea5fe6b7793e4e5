"""Training steps in parts, in mixed precision, and out of memory; and the loop's checkpoints around them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_runs import CPU, SIZE, Signals, config, network, same, train
from torch import nn

from boxconv.data.scenes.dataset import RoadScenes
from boxconv.data.transforms import Augment
from boxconv.training import checkpoint
from boxconv.training.device import TrainingError
from boxconv.training.distributed import DistributedContext
from boxconv.training.loading import epoch_batches
from boxconv.training.step import LossNotFinite, TrainStep
from boxconv.training.stop_signals import Interrupted


def train_step(**changes):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Conv2d(8, 4, 1))
    return TrainStep(model, config(**changes), torch.tensor([1.0, 2.0, 0.5, 1.0]), CPU, DistributedContext())


def batch(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, 8, 8, generator=generator)
    labels = torch.randint(4, (count, 6, 6), generator=generator)
    labels[0, :4] = 255  # parts with different numbers of labelled pixels
    return images, labels


def test_a_batch_in_parts_is_the_batch():
    images, labels = batch(5)
    whole, parts = train_step(), train_step(accumulate=3)
    for _ in range(3):
        loss, results, flags = whole.step([(images, labels, True)], 1e-2, (7,))
        again, more, _ = parts.step([(images[i], labels[i], True) for i in (slice(1), slice(1, 3), slice(3, 5))], 1e-2)
        assert loss == pytest.approx(again, rel=1e-5)
        assert flags == [[7]]
        assert torch.equal(results[0][0], torch.cat([prediction for prediction, _ in more]))
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_part_that_does_not_count_changes_nothing():
    images, labels = batch(3)
    one, other = train_step(), train_step()
    one.step([(images, labels, True)], 1e-2)
    _, results, _ = other.step([(images, labels, True), (images[:1], labels[:1], False)], 1e-2)
    assert len(results) == 1
    assert same(one.model, other.model)


@pytest.mark.parametrize("parts", [1, 2])
def test_a_long_gradient_is_shortened_and_a_short_one_left(parts):
    images, labels = batch(4)
    shares = [(images[i::parts], labels[i::parts], True) for i in range(parts)]

    def moved(clip):
        # Plain gradient descent without momentum yet: the step is the gradient.
        it = train_step(optimizer="sgd", weight_decay=0.0, clip=clip)
        before = [p.detach().clone() for p in it.model.parameters()]
        it.step(shares, 1.0)
        return torch.cat([(b - p.detach()).flatten() for b, p in zip(before, it.model.parameters(), strict=True)])

    free = moved(None)
    length = free.norm().item()
    assert moved(length / 10).norm().item() == pytest.approx(length / 10, rel=1e-3)
    torch.testing.assert_close(moved(length / 10) * 10, free, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(moved(length * 10), free)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_steps_are_the_steps():
    plain, compiled = train_step(), train_step(compile=True)
    images, labels = batch(3)
    for _ in range(2):
        loss, _, _ = plain.step([(images, labels, True)], 1e-2)
        again, _, _ = compiled.step([(images, labels, True)], 1e-2)
        assert loss == pytest.approx(again, rel=1e-5)
    for one, other in zip(plain.model.parameters(), compiled.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0


def test_a_network_that_cannot_be_compiled_is_an_error_that_says_so():
    def forward(images):
        raise torch._dynamo.exc.TorchDynamoException("no working C++ compiler found\nmore")

    it = train_step()
    it.forward = forward
    with pytest.raises(TrainingError, match=r"--compile.*\(no working C\+\+ compiler found\).*--no-compile"):
        it.step([(*batch(2), True)], 1e-2)


def test_a_loss_that_is_not_finite_leaves_the_weights():
    images, labels = batch(2)
    it = train_step()
    before = [value.clone() for value in it.model.parameters()]
    with pytest.raises(LossNotFinite, match="the loss is nan"):
        it.step([(images, labels, True), (images * float("nan"), labels, True)], 1e-2)
    assert all(torch.equal(a, b) for a, b in zip(before, it.model.parameters(), strict=True))


@pytest.mark.parametrize("amp, rel", [("bf16", 0.02), ("fp16", 0.005)])
def test_mixed_precision_is_close(amp, rel):
    images, labels = batch(4)
    exact, mixed = train_step(), train_step(amp=amp)
    losses = [[it.step([(images, labels, True)], 1e-2)[0] for _ in range(10)] for it in (exact, mixed)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=rel)
    assert all(value.dtype == torch.float32 for value in mixed.model.parameters())


class Greedy(nn.Module):
    def forward(self, x):
        return x + torch.empty(2**50)


def test_out_of_memory_says_what_to_do(tmp_path):
    with pytest.raises(TrainingError, match=r"out of memory on cpu with images of 3 x 3 x 16 x 32: try --accumulate"):
        train(tmp_path / "run", config(), network(active=Greedy()))
    checkpoint.load(tmp_path / "run/last.pt")  # the beginning of the run


class Spoiling(nn.Module):
    """Its gradient is infinite, but its output is always finite."""

    def forward(self, x):
        output = x.clone()
        if output.requires_grad:
            output.register_hook(lambda grad: grad * float("inf"))
        return output


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    train(tmp_path / "run", config(epochs=1))
    content = checkpoint.load(tmp_path / "run/last.pt")
    content["config"]["epochs"] = 2
    checkpoint.save(tmp_path / "run/last.pt", content)
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.pt")}
    with pytest.raises(TrainingError, match=r"not finite"):
        # One step an epoch: its loss is finite, the weights behind it are not.
        train(tmp_path / "run", config(batch_size=5), network(active=Spoiling()), resume=True)
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.pt")} == before


def test_a_long_epoch_has_checkpoints_within(tmp_path):
    class Dies(RoadScenes):
        def __getitem__(self, key):
            if key[0] == 0 and key[1] == last:
                raise KeyboardInterrupt  # as hard an end as one process can have
            return super().__getitem__(key)

    settings = config(batch_size=1, epochs=1, checkpoint_minutes=1e-9)
    last = epoch_batches(settings, 5, 0)[-1][0][1]
    whole = train(tmp_path / "whole", settings)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", settings, data=Dies(5, SIZE, seed=1, transform=Augment(SIZE)))
    state = checkpoint.load(tmp_path / "run/last.pt")["training"]["state"]
    assert (state["epoch"], state["step"]) == (0, 4)
    parts = train(tmp_path / "run", settings, resume=True)
    assert same(whole, parts)


def test_a_signal_during_validation_costs_nothing(tmp_path):
    whole = train(tmp_path / "whole", config())
    with pytest.raises(Interrupted):
        train(tmp_path / "run", config(), validation=Signals(1, split="val"))
    state = checkpoint.load(tmp_path / "run/last.pt")["training"]["state"]
    assert (state["epoch"], state["step"]) == (0, 2)
    parts = train(tmp_path / "run", config(), resume=True)
    assert same(whole, parts)
    assert [path.read_text().count("\n") for path in tmp_path.glob("*/metrics.jsonl")] == [2, 2]


class Dying(RoadScenes):
    def __getitem__(self, key):
        if torch.utils.data.get_worker_info() and key == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(key)


def train_until_a_loading_process_dies(path):
    data = Dying(5, SIZE, seed=1, transform=Augment(SIZE))
    data.at = (1, 2)
    train(Path(path), config(workers=1), data=data)


def test_a_dead_loading_process_leaves_the_checkpoint(tmp_path):
    """In another process, because PyTorch's signal handler raises the error wherever the process is, even in pytest."""
    whole = train(tmp_path / "whole", config())
    code = "import sys, test_step; test_step.train_until_a_loading_process_dies(sys.argv[1])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "DataLoader worker" in ended.stderr
    assert checkpoint.load(tmp_path / "run/last.pt")["training"]["state"]["epoch"] == 1
    parts = train(tmp_path / "run", config(), resume=True)
    assert same(whole, parts)


def test_speeds_are_on_record(tmp_path):
    train(tmp_path / "run", config())
    for record in map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines()):
        assert record["loader_images_per_second"] > 0
        assert record["step_images_per_second"] > 0
        # Loading and steps, one after the other, take no longer than the epoch.
        work = 5 / record["loader_images_per_second"] + 5 / record["step_images_per_second"]
        assert work <= record["train_seconds"] + 0.02
