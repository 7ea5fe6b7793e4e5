"""Checkpoints: saving and loading them, and refusing damaged files; `test_faults.py` has the hostile ones."""

import pytest
import torch

from boxconv.training import checkpoint
from boxconv.training.checkpoint import CheckpointError
from boxconv.training.config import TrainConfig, to_plain


def content(**changes):
    torch.manual_seed(0)
    return {
        "network": {"name": "boxenet", "num_classes": 2, "input_size": [32, 32], "options": {}},
        "classes": {"names": ["a", "b"]},
        "config": to_plain(TrainConfig()),
        "model": {"weight": torch.randn(4, 5), "count": torch.tensor(3)},
        "scores": {"class_iou": 0.5},
        "training": None,
    } | changes


def test_round_trip(tmp_path):
    path = tmp_path / "a.pt"
    checkpoint.save(path, content())
    loaded = checkpoint.load(path)
    assert loaded["format"] == checkpoint.FORMAT
    assert torch.equal(loaded["model"]["weight"], content()["model"]["weight"])
    assert checkpoint.settings(loaded, path) == TrainConfig()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pt"]


def test_every_flipped_bit_of_a_weight_is_refused(tmp_path):
    path = tmp_path / "a.pt"
    checkpoint.save(path, content())
    whole, data = path.read_bytes(), content()["model"]["weight"].numpy().tobytes()
    start = whole.index(data)
    for bit in range(8 * len(data)):
        damaged = bytearray(whole)
        damaged[start + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="does not match its checksum"):
            checkpoint.load(path)


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -200])
def test_truncated_files_are_refused(tmp_path, keep):
    path = tmp_path / "a.pt"
    checkpoint.save(path, content())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"a\.pt: not a checkpoint, or cut off"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format": 99}, "format 99 of a later version"),
        ({"model": None}, "field 'model' should be of type dict"),
        ({"network": "boxenet"}, "field 'network' should be of type dict"),
        ({"model": {"weight": torch.tensor([1.0, float("nan")])}}, "'weight' holds values that are not finite"),
        ({"model": {"weight": [1.0]}}, "'weight' is not a tensor"),
    ],
)
def test_wrong_content_is_named(tmp_path, changes, message):
    path = tmp_path / "a.pt"
    checkpoint.save(path, content(**changes))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(path)


def test_other_files(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        checkpoint.load(tmp_path / "missing.pt")
    with pytest.raises(CheckpointError, match="not a file"):
        checkpoint.load(tmp_path)
    text = tmp_path / "text.pt"
    text.write_text("hello")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        checkpoint.load(text)
    foreign = tmp_path / "foreign.pt"
    torch.save({"state_dict": {}}, foreign)
    with pytest.raises(CheckpointError, match="not a checkpoint, or cut off: there is no checksum"):
        checkpoint.load(foreign)


def test_weights_that_do_not_fit_are_named(tmp_path):
    model = torch.nn.Linear(2, 3)
    with pytest.raises(CheckpointError, match=r"run/a\.pt: its weights do not fit the network.*weight"):
        checkpoint.load_weights(model, content(), "run/a.pt")
    many = {**content(), "model": {f"layer{k}.weight": torch.ones(1) for k in range(500)}}
    with pytest.raises(CheckpointError, match=r"Missing key\(s\).* \.\.\.") as caught:
        checkpoint.load_weights(model, many, "run/a.pt")
    assert len(str(caught.value)) < 700
