"""Wrong command lines: each ends with the right exit status and one clear message, and nothing is written."""

import re

import data_trees
import pytest
import torch
from command import boxconv

from box_convolution import networks
from boxconv.data.scenes.dataset import SCENE_CLASSES
from boxconv.training import checkpoint
from boxconv.training.config import TrainConfig, to_plain

# Command, exit status, words of the message. Files of `place` below are there; nothing else may be there afterwards.
TRAIN = "train --quiet --out run "
COMMANDS = [
    ("", 2, "train"),
    ("fly", 2, "no command 'fly'; boxconv --help"),
    ("trian", 2, "no command 'trian'; did you mean train?"),
    ("demo net.pt", 2, "did you mean demo-app?"),
    ("check_data nowhere", 1, "nowhere: no such folder"),
    ("Train --out run", 2, "train"),
    (TRAIN + "--epochs 0", 2, "--epochs: expected at least 1, got 0"),
    (TRAIN + "--epochs 1.5", 2, "epochs"),
    (TRAIN + "--epochs", 2, "epochs"),
    (TRAIN + "--epoch 3", 2, "--epochs"),
    (TRAIN + "--batch-size 0", 2, "--batch-size: expected at least 1, got 0"),
    (TRAIN + "--batch-size many", 2, "batch-size"),
    (TRAIN + "--lr 0", 2, "--lr: expected a positive number, got 0.0"),
    (TRAIN + "--lr nan", 2, "--lr: expected a positive number, got nan"),
    (TRAIN + "--lr inf", 2, "--lr: expected a positive number, got inf"),
    (TRAIN + "--learning-rate 1", 2, "learning-rate"),
    (TRAIN + "--weight-decay nan", 2, "--weight-decay"),
    (TRAIN + "--box-weight-decay -1", 2, "--box-weight-decay: expected a number of at least 0, got -1"),
    (TRAIN + "--box-dropout 0.1 0.2", 2, "--box-dropout: boxenet: must be 4 probabilities"),
    (TRAIN + "--class-balance 1", 2, "--class-balance: expected a number above 1, got 1"),
    (TRAIN + "--warmup -1", 2, "--warmup: expected a number of epochs, at least 0, got -1"),
    (TRAIN + "--warmup 30", 2, "--warmup: expected less than --epochs 30, got 30"),
    (TRAIN + "--schedule cosine", 2, "schedule"),
    (TRAIN + "--step-epochs 0", 2, "--step-epochs"),
    (TRAIN + "--step-factor 0", 2, "--step-factor"),
    (TRAIN + "--size 8 8", 2, "--size: expected height and width of at least 16"),
    (TRAIN + "--size 64", 2, "size"),
    (TRAIN + "--size 64 x", 2, "size"),
    (TRAIN + "--crop 8 64", 2, "--crop"),
    (TRAIN + "--scale 2 1", 2, "--scale: expected 0 < low <= high"),
    (TRAIN + "--brightness 1", 2, "--brightness"),
    (TRAIN + "--workers -1", 2, "--workers: expected at least 0, got -1"),
    (TRAIN + "--seed -1", 2, "--seed: expected at least 0, got -1"),
    (TRAIN + "--accumulate 0", 2, "--accumulate: expected at least 1"),
    (TRAIN + "--accumulate 99", 2, "--accumulate: expected at most --batch-size 8, got 99"),
    (TRAIN + "--amp int8", 2, "amp"),
    (TRAIN + "--timeout 0", 2, "--timeout"),
    (TRAIN + "--checkpoint-minutes nan", 2, "--checkpoint-minutes"),
    (TRAIN + "--val-every 0", 2, "--val-every"),
    (TRAIN + "--scenes-per-epoch 0", 2, "--scenes-per-epoch"),
    (TRAIN + "--network resnet", 2, "--network: expected one of enet, boxenet"),
    (TRAIN + "--data imagenet", 2, "data"),
    (TRAIN + "--data folder", 2, "--root: --data folder needs the folder"),
    (TRAIN + "--root data", 2, "--root: got data, but --data scenes draws its images"),
    (TRAIN + "--data folder --root none", 1, "none: no such folder"),
    (TRAIN + "--data folder --root empty", 2, "empty holds no classes.csv"),
    (TRAIN + "--data folder --root data --train-split test", 1, "test"),
    (TRAIN + "--data folder --root data --classes none.csv", 1, "none.csv"),
    (TRAIN + "--data camvid --root empty", 1, "empty has no splits"),
    ("train --quiet --out data/run --data folder --root data", 2, "--out: data/run is in the data folder data, which"),
    (TRAIN + "--device tpu9", 1, "--device tpu9: not available here; expected auto or "),
    (TRAIN + "--device cuda", 1, "--device cuda: not available here"),
    (TRAIN + "--device cpu:x", 1, "--device cpu:x: not available here"),
    (TRAIN + "--resume", 2, "run: nothing to resume, there is no last.pt in it"),
    (TRAIN + "--resume --overwrite", 2, "--resume and --overwrite contradict each other"),
    ("train --quiet --out file", 2, "file: a file is in the place of the run folder"),
    ("train --quiet --out file/below", 2, "file/below: cannot be written"),
    ("train --quiet --out data --overwrite", 2, "--out: data is in the data folder"),
    ("train --quiet --out empty/..", 2, "empty/..: holds other files ("),
    ("train --quiet --out empty/.. --overwrite", 2, "empty/..: holds other files ("),
    ("train --quiet --out old", 2, "old: holds a run already"),
    ("evaluate", 2, "NETWORK"),
    ("evaluate none.pt", 1, "none.pt: no such file"),
    ("evaluate data", 1, "data: not a file"),
    ("evaluate file", 1, "file: not a checkpoint"),
    ("evaluate good.pt --batch-size 0", 2, "--batch-size: expected at least 1, got 0"),
    ("evaluate good.pt --picture panel.gif", 2, "--picture: expected a name that ends in .png or .svg, got panel.gif"),
    ("evaluate good.pt --workers -1", 2, "--workers: expected at least 0, got -1"),
    ("evaluate good.pt --tile 100", 2, "--tile: expected a multiple of 8, at least 16, got 100"),
    ("evaluate good.pt --device nothing", 1, "--device nothing: not available here"),
    ("evaluate good.pt --root data", 2, "--root: got data, but --data scenes"),
    ("evaluate unknown.pt", 1, "unknown.pt: describes a network that cannot be made"),
    ("evaluate misfit.pt", 1, "misfit.pt: its weights do not fit the network"),
    ("evaluate settings.pt", 1, "settings.pt: its settings cannot be read: unknown settings: flux"),
    ("evaluate later.pt", 1, "later.pt: format 99 of a later version"),
    ("evaluate classless.pt", 1, "classless.pt: does not say how images are prepared, or what its classes are"),
    ("evaluate boxenet-camvid", 2, "--root: --data camvid needs the folder"),
    ("import-sunrgbd none --out out", 1, "none: no such folder"),
    ("evaluate boxenet-camvid --data scenes", 2, "--data: scenes has the classes road, oncoming"),
    (
        "evaluate boxenet-camvid --root data",
        2,
        "--root: data/classes.csv is for --data folder, but --data is camvid (def",
    ),
    ("export boxenet-camvid --prune 0 --root data --out a.pt2", 2, "data/classes.csv is for --data folder, but --data"),
    ("predict data/images/train good.pt", 2, "good.pt: is a network, and only one may be given, before the images"),
    ("predict", 2, "no image to label: expected boxconv predict [NETWORK] IMAGE"),
    ("predict good.pt", 2, "no image to label"),
    ("predict good.pt none --out out", 1, "none: no such file or folder"),
    ("predict good.pt empty --out out", 1, "empty: no images in this folder"),
    ("predict good.pt data/images/train --out file", 1, "file: a file is in the place of the output folder"),
    ("predict good.pt data/images/train data/images/val --out out", 1, "would be written for both"),
    ("predict good.pt data/labels/train --out data/labels/train", 2, "--out: data/labels/train is in the data folder"),
    ("predict good.pt file --out out", 1, "file: the content is not an image"),
    ("predict good.pt data/images/train --out out --resume --overwrite", 2, "contradict each other"),
    ("predict good.pt data/images/train --out out --tile 100", 2, "--tile: expected a multiple of 8, at least 16, got"),
    ("predict none.pt data/images/train --out out", 1, "none.pt: no such file"),
    ("predict good.pt data/images/train --out out --device nothing", 1, "--device nothing: not available here"),
    ("distance", 2, "RUNS: expected folders of runs on drawn scenes"),
    ("distance --networks segnet", 2, "--networks: expected a recipe, or one of enet, "),
    ("distance --scenes 0", 2, "--scenes: expected at least 1, got 0"),
    ("distance --plot x.gif", 2, "--plot: expected a name that ends in .png or .svg, got x.gif"),
    ("distance empty", 2, "RUNS: empty: no folder of a training run, there is no last.pt in it"),
    ("distance good.pt", 2, "RUNS: good.pt: no folder of a training run, there is no last.pt in it"),
    ("distance nothing", 2, "RUNS: nothing: no folder of a training run, there is no last.pt in it"),
    ("cost resnet", 2, "NAMES: expected some of enet, "),
    ("cost enet --size 0 32", 2, "--size: expected at least 1, got 0"),
    ("cost enet --rounds -1", 2, "--rounds: expected at least 0, got -1"),
    ("cost enet --threads 0", 2, "--threads: expected at least 1, got 0"),
    ("bench resnet", 2, "NETWORKS: expected some of enet, "),
    ("bench --rounds 0", 2, "--rounds: expected at least 1, got 0"),
    ("bench --threads 0", 2, "--threads: expected at least 1, got 0"),
    ("bench --device tpu", 2, "--device: expected auto, cpu or cuda, got tpu"),
    ("bench --write nowhere.md", 1, "nowhere.md: No such file"),
    ("demo-app --port -1", 2, "--port: expected 0 to 65535, got -1"),
    ("demo-app --port 65536", 2, "--port: expected 0 to 65535, got 65536"),
    ("check-data", 2, "PATH"),
    ("check-data none --data camvid", 1, "none"),
    ("check-data empty", 2, "--classes: empty holds no classes.csv"),
    ("check-data data --classes none.csv", 1, "none.csv"),
    ("check-data file --data camvid", 1, "file"),
    ("check-data data --limit 0", 2, "--limit: expected at least 1"),
    ("check-data data --palette data/classes.csv --data camvid", 2, "--palette"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small data set, good and bad checkpoints, a file, an empty folder and an old run."""
    folder = tmp_path_factory.mktemp("place")
    data_trees.scenes(folder / "data", {"train": [0], "val": [0]}, (16, 32))
    (folder / "file").write_text("text")
    (folder / "empty").mkdir()
    network = {"name": "enet_minus", "num_classes": 11, "input_size": [16, 32], "options": {}}
    good = {
        "network": network, "classes": SCENE_CLASSES.to_dict(), "config": to_plain(TrainConfig(size=(16, 32))),
        "scores": {}, "training": None, "model": networks.create("enet_minus", 11, (16, 32)).state_dict(),
    }  # fmt: skip
    for name, changes in {
        "good": {},
        "unknown": {"network": network | {"name": "resnet"}},
        "misfit": {"model": {"weight": torch.zeros(1)}},
        "settings": {"config": good["config"] | {"flux": 1}},
        "later": {"format": 99},
        "classless": {"classes": {"names": ["a"]}},
    }.items():
        checkpoint.save(folder / f"{name}.pt", good | changes)
    (folder / "old").mkdir()
    (folder / "old" / "last.pt").touch()
    return folder


@pytest.mark.parametrize("line, status, message", COMMANDS, ids=[line or "nothing" for line, _, _ in COMMANDS])
def test_one_clear_message(place, monkeypatch, capsys, line, status, message):
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    found, out, errors = boxconv(capsys, *line.split())
    text = re.sub(r"[│╭╮╰╯─]|\s+", " ", errors + out)
    assert (found, re.sub(r"\s+", " ", message) in re.sub(r"\s+", " ", text)) == (status, True), text
    assert sorted(place.rglob("*")) == before
