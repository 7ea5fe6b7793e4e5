"""boxconv finetune and boxconv export, and prediction with the files that they write."""

import json
import re
from pathlib import Path

import data_trees
import numpy as np
import pytest
import torch
from command import boxconv
from PIL import Image

from box_convolution import BoxConv2d, networks
from box_convolution.boxes import project
from box_convolution.deploy import exported
from box_convolution.deploy.pt2_files import open_program
from box_convolution.networks import pretrained
from box_convolution.networks.weights import create_from
from box_convolution.networks.weights import load as load_weights
from box_convolution.networks.weights import save as save_weights
from boxconv.cli.commands import parse
from boxconv.cli.train import settings
from boxconv.data.scenes.dataset import SCENE_CLASSES, draw_scene
from boxconv.inference.new_network import network_for
from boxconv.training import checkpoint
from boxconv.training.config import TrainConfig, to_plain

SIZE = (32, 64)
SHORT = ["--scenes-per-epoch", "2", "--scenes-for-validation", "2", "--epochs", "1", "--batch-size", "2"]


def write_checkpoint(path: Path, name: str) -> Path:
    torch.manual_seed(0)
    config = TrainConfig(size=SIZE, network=name, batch_size=2, scenes_per_epoch=2, scenes_for_validation=2)
    network = networks.create(name, len(SCENE_CLASSES), SIZE)
    network(torch.randn(2, 3, *SIZE))
    description = {"name": name, "num_classes": len(SCENE_CLASSES), "input_size": list(SIZE), "options": {}}
    content = {"network": description, "classes": SCENE_CLASSES.to_dict(), "config": to_plain(config)}
    checkpoint.save(path, {**content, "model": network.state_dict(), "scores": {}, "training": None})
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run") / "best.pt", "boxenet")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the network that can be exported fastest."""
    return write_checkpoint(tmp_path_factory.mktemp("run") / "best.pt", "enet_minus")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(draw_scene(1, 40, 70)[0]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A folder with three drawn scenes for scoring."""
    return data_trees.scenes(tmp_path / "scenes", {"val": range(3)}, SIZE)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_file_that_disagrees_is_named_and_not_left(suffix, small, tmp_path, capsys, monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    monkeypatch.setattr(exported, "differences", lambda *_: iter([(0.5, 0.9)]))
    path = tmp_path / f"net{suffix}"
    status, _, errors = boxconv(capsys, "export", small, "--out", path)
    assert status == 1
    assert f"{path}: not written: the file's outputs differ from the network's" in errors
    assert not [file for file in tmp_path.iterdir() if file.stem.strip(".").startswith("net")]


@pytest.mark.parametrize(
    "suffix, packages",
    [(".onnx", ["onnx", "onnxscript", "onnxruntime"]), (".safetensors", ["safetensors"])],
)
def test_prediction_from_an_exported_file(suffix, packages, small, photo, scenes, tmp_path, capsys):
    for package in packages:
        pytest.importorskip(package)
    path = tmp_path / "net" / f"small{suffix}"
    status, out, errors = boxconv(capsys, "export", small, "--out", path)
    assert (status, errors) == (0, "")
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name], "nothing else is left there"
    if suffix != ".safetensors":
        (largest,) = re.findall("largest difference from the network: (.*) of the logits' range", out)
        assert float(largest) < 1e-5
    labels = []
    for network in (small, path):
        assert boxconv(capsys, "predict", network, photo, "--out", tmp_path / "out", "--overwrite")[0] == 0
        labels.append(np.asarray(Image.open(tmp_path / "out" / "photo.png")))
    assert labels[0].shape == (40, 70)
    assert (labels[0] != labels[1]).mean() < 0.001
    found = []
    for network in (small, path):
        scores = tmp_path / "scores.json"
        options = ["--data", "folder", "--root", scenes, "--json", scores, "--picture", tmp_path / "panel.png"]
        options += ["--overwrite", "--quiet"]
        status, out, errors = boxconv(capsys, "evaluate", network, *options)
        assert (status, errors) == (0, "")
        assert "images, scored at 32 x 64" in out
        assert Image.open(tmp_path / "panel.png").size[0] > 1000
        found.append(json.loads(scores.read_text()))
    assert sum(map(sum, found[0]["counts"])) > 0.9 * 3 * 32 * 64, "the rest is void"
    moved = np.abs(np.subtract(found[0]["counts"], found[1]["counts"])).sum() / 2
    assert moved <= 3, "pixels where rounding decides"
    status, _, errors = boxconv(capsys, "export", small, "--out", path)
    assert (status, "exists already" in errors) == (2, True)


def test_the_network_that_comes_trained(photo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boxenet-camvid").write_text("something else")
    status, out, errors = boxconv(capsys, "predict", photo, "--quiet")
    assert (status, errors) == (0, "")
    assert "1 image labelled by boxenet-camvid in predictions" in out
    assert np.asarray(Image.open(tmp_path / "predictions" / "photo.png")).max() < 11
    assert (
        "by boxonlyenet-camvid" in boxconv(capsys, "predict", "boxonlyenet-camvid", photo, "--out", "o", "--quiet")[1]
    )


def test_a_run_folder_is_its_best_checkpoint(small, photo, tmp_path, capsys):
    status, out, _ = boxconv(capsys, "predict", small.parent, photo, "--out", tmp_path / "out", "--quiet")
    assert (status, f"by {small.parent} in" in out) == (0, True)
    (run := tmp_path / "run").mkdir()
    (run / "last.pt").touch()
    status, _, errors = boxconv(capsys, "predict", run, photo, "--out", tmp_path / "none", "--quiet")
    assert (status, errors) == (1, f"boxconv: error: {run}/best.pt: no such file\n")


def test_training_from_the_network_that_comes_trained(tmp_path, capsys):
    """The new run has other classes and another size."""
    options = [*SHORT, "--size", "64", "128", "--lr", "1e-9", "--start-from", "boxenet-camvid"]
    status, out, errors = boxconv(capsys, "train", "--out", tmp_path / "run", *options)
    assert (status, "boxenet-camvid tells other classes apart (sky, building, " in out) == (0, True), errors
    assert "from boxenet-camvid: --box-dropout 0.01 0.1 0.0 0.0" in out
    assert "licence of boxenet-camvid: CC BY-NC 4.0" in out
    content = checkpoint.load(tmp_path / "run" / "last.pt")
    assert content["config"]["box_dropout"] == [0.01, 0.1, 0, 0]
    network, theirs = create_from(content["network"]), networks.create("boxenet", pretrained="camvid")
    network.load_state_dict(content["model"])
    for name, weight in theirs.named_parameters():
        ours = network.get_parameter(name)
        if not name.endswith("scaled_boxes"):
            assert ours.shape == weight.shape
            assert torch.allclose(ours, weight, atol=1e-6) != name.startswith("head."), name
    for (name, ours), layer in zip(network.named_modules(), theirs.modules(), strict=True):
        if isinstance(layer, BoxConv2d):
            extent = float(ours.max_input_h), float(ours.max_input_w)
            assert torch.allclose(ours.boxes, project(layer.boxes, *extent), atol=1e-3), name
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert settings["provenance"].startswith("box_convolution ")
    (tmp_path / "run" / "config.json").write_text(json.dumps({**settings, "provenance": "another machine"}))
    assert boxconv(capsys, "train", "--out", tmp_path / "run", "--resume")[0] == 0
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert settings["provenance"] == "another machine", "nothing was computed any more"


@pytest.mark.parametrize(
    "given, size", [([], SIZE), (["--size", "128", "256"], (128, 256)), (["--recipe", "scenes-enet"], (128, 256))]
)
def test_training_from_weights_takes_their_size(given, size, trained, capsys):
    args = parse(["train", "--start-from", str(trained), "--network", "boxenet", *given])
    config, _ = network_for(settings(args))
    assert (config.size, "--size 32 64" in capsys.readouterr().out) == (size, size == SIZE)


def test_training_from_weights_for_other_inputs(trained, tmp_path, capsys):
    content = checkpoint.load(trained)
    config = {**content["config"], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    checkpoint.save(tmp_path / "other.pt", {**content, "config": config})
    options = [*SHORT, "--size", "32", "64", "--start-from", tmp_path / "other.pt"]
    status, out, errors = boxconv(capsys, "train", "--out", tmp_path / "a", "--std", "0.3", "0.3", "0.3", *options)
    assert (status, "other.pt: --mean 0.5 0.5 0.5\n" in out, "starts afresh" in out) == (0, True, False), errors
    settings = checkpoint.load(tmp_path / "a" / "last.pt")["config"]
    assert (settings["mean"], settings["std"]) == ([0.5] * 3, [0.3] * 3), "what is given counts"
    status, _, errors = boxconv(capsys, "train", "--out", tmp_path / "b", "--network", "enet", *options)
    assert (status, "other.pt is a boxenet, which does not fit --network enet" in errors) == (2, True)
    frozen = [*options, "--symmetric", "--network", "boxenet_frozen", "--quiet"]
    assert boxconv(capsys, "train", "--out", tmp_path / "c", *frozen)[::2] == (0, ""), "without a warning"


def test_finetuning_on_other_classes(trained, scenes, tmp_path, capsys):
    folder = ["--root", scenes, "--out", tmp_path / "run"]
    content = checkpoint.load(trained)
    config = {**content["config"], "data": "folder", "root": str(scenes), "train_split": "val"}
    checkpoint.save(tmp_path / "best.pt", {**content, "config": config})
    assert boxconv(capsys, "finetune", tmp_path / "best.pt", "--epochs", "1", "--quiet", *folder)[0] == 0
    table = (scenes / "classes.csv").read_text()
    (scenes / "classes.csv").write_text(table.replace(f",{SCENE_CLASSES.names[1]},", ",vehicle,"))
    status, _, errors = boxconv(capsys, "finetune", tmp_path / "best.pt", "--overwrite", *folder)
    assert (status, "has the classes" in errors, "vehicle" in errors) == (2, True, True)


def test_a_folder_that_cannot_be_used_is_refused_before_anything_is_scored(trained, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").touch()
    status, out, errors = boxconv(capsys, "finetune", trained, "--out", tmp_path / "run")
    assert (status, out, "run: holds a run already (config.json)" in errors) == (2, "", True)


def test_a_run_is_not_deleted_before_training_starts_from_it(trained, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.pt").write_bytes(trained.read_bytes())
    for command in (["finetune", run], ["train", "--start-from", run]):
        status, _, errors = boxconv(capsys, *command, "--out", run, "--overwrite", "--quiet")
        assert (status, "--overwrite: would delete" in errors, (run / "best.pt").exists()) == (2, True, True)


def test_finetuning_a_run_with_warm_up_whose_tables_moved(trained, scenes, tmp_path, capsys):
    content = checkpoint.load(trained)
    moved = {"data": "folder", "root": "/gone", "classes": "/gone/classes.csv", "train_split": "val"}
    checkpoint.save(tmp_path / "best.pt", {**content, "config": {**content["config"], "warmup": 20.0, **moved}})
    options = ["--root", scenes, "--epochs", "1", "--quiet", "--out", tmp_path / "run"]
    status, _, errors = boxconv(capsys, "finetune", tmp_path / "best.pt", *options)
    assert (status, errors) == (0, "")
    assert checkpoint.load(tmp_path / "run" / "last.pt")["config"]["warmup"] == 0
    path = tmp_path / "net.safetensors"
    assert boxconv(capsys, "export", tmp_path / "best.pt", "--out", path)[0] == 0
    options = ["--prune", "0", "--root", scenes, "--out", tmp_path / "net.pt2"]
    status, out, errors = boxconv(capsys, "export", path, *options)  # its training split is called val
    assert (status, "took out 0 of 1232 boxes" in out) == (0, True), errors


def test_a_run_called_like_a_network_of_the_package(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "boxenet-camvid"
    run.mkdir()
    (run / "last.pt").write_bytes(trained.read_bytes())
    assert boxconv(capsys, "draw", "boxenet-camvid", "--out", "a.png")[0] == 1, "a run without best.pt"
    status, out, _ = boxconv(capsys, "analyze", "boxenet-camvid", "--images", "1", "--positions", "0", "--quiet")
    assert (status, out) == (0, "report: boxenet-camvid/analysis/report.html\n")


def test_an_option_that_is_kept_as_null(tmp_path, capsys):
    description = {"name": "boxerfnet", "num_classes": len(SCENE_CLASSES), "input_size": list(SIZE)}
    description["options"] = {"box_dropout": None}
    about = {"classes": SCENE_CLASSES.to_dict(), "size": list(SIZE), "mean": [0.5] * 3, "std": [0.2] * 3}
    save_weights(create_from(description), tmp_path / "net.safetensors", description, **about)
    options = [*SHORT, "--size", "32", "64", "--network", "boxerfnet", "--start-from", tmp_path / "net.safetensors"]
    assert boxconv(capsys, "train", "--out", tmp_path / "run", *options)[0] == 0
    status, _, errors = boxconv(capsys, "export", tmp_path / "net.safetensors", "--prune", "0", "--out", "a.pt2")
    assert (status, "does not say what it was trained on" in errors) == (2, True)


def test_other_files_of_the_network_that_comes_trained(photo, tmp_path, capsys):
    path = tmp_path / "net.safetensors"
    assert boxconv(capsys, "export", "boxonlyenet-camvid", "--out", path)[0] == 0
    network, content = load_weights(path)
    theirs, original = load_weights(pretrained.file_of("boxonlyenet", "camvid"))
    assert content == original, "classes, licence, scores ..."
    assert all(
        torch.equal(ours, weight) for ours, weight in zip(network.parameters(), theirs.parameters(), strict=True)
    )
    status, out, errors = boxconv(capsys, "export", path, "--snap", "--out", tmp_path / "net.pt2")
    assert (status, errors) == (0, "")
    _, content = open_program(tmp_path / "net.pt2")
    assert content["licence"] == original["licence"]
    assert "scores" not in content, "those are of boxes that were not snapped"
    status, out, _ = boxconv(capsys, "draw", path, "--image", photo, "--out", tmp_path / "boxes.png")
    assert (status, "32 of 64 boxes of stage1" in out) == (0, True)


def test_half_precision(small, tmp_path, capsys):
    sizes = []
    for options in ([], ["--half"]):
        path = tmp_path / f"net{len(options)}.safetensors"
        assert boxconv(capsys, "export", small, "--out", path, *options)[0] == 0
        sizes.append(path.stat().st_size)
    assert sizes[1] < 0.65 * sizes[0]
    status, _, errors = boxconv(capsys, "export", small, "--out", tmp_path / "net.onnx", "--half")
    assert (status, "--half: only safetensors" in errors) == (2, True)


def test_pruning_reports_what_it_costs(trained, photo, tmp_path, capsys):
    status, out, errors = boxconv(capsys, "export", trained, "--out", tmp_path / "net.pt2", "--snap", "--prune", "1")
    assert status == 0, errors
    sentence = r"took out (\d+) of 1232 boxes, so that nothing reads \d+ of 312 channels .* IoU (\S+) % -> (\S+) %"
    (found,) = re.findall(sentence, out)
    assert 300 < int(found[0]) < 1232
    assert all(0 <= float(score) <= 100 for score in found[1:])
    assert "largest difference from the pruned network: " in out
    assert boxconv(capsys, "predict", tmp_path / "net.pt2", photo, "--out", tmp_path / "out")[0] == 0
    assert np.asarray(Image.open(tmp_path / "out" / "photo.png")).shape == (40, 70)


def test_finetuning_with_snapped_boxes(trained, tmp_path, capsys):
    run = tmp_path / "run"
    status, out, errors = boxconv(capsys, "finetune", trained, "--snap", "--epochs", "2", "--lr", "0.01", "--out", run)
    assert status == 0, errors
    assert "with snapped boxes" in out
    old, new = checkpoint.load(trained), checkpoint.load(run / "last.pt")
    settings = {"size": list(SIZE), "batch_size": 2, "snap": True, "epochs": 2, "start_from": str(trained.resolve())}
    assert settings.items() <= new["config"].items()
    layers = [name for name in new["model"] if name.endswith("scaled_boxes")]
    snapped = networks.create("boxenet", len(SCENE_CLASSES), SIZE)
    snapped.load_state_dict(old["model"])
    for name in layers:
        snapped.get_submodule(name.rpartition(".")[0]).snap_()
    assert len(layers) == 12
    assert all(torch.equal(new["model"][name], snapped.state_dict()[name]) for name in layers), "not moved by training"
    assert not torch.equal(new["model"]["head.weight"], old["model"]["head.weight"])
    assert (new["model"]["head.weight"] - old["model"]["head.weight"]).abs().max() < 0.05, "not from fresh weights"
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(records) == 2


def test_a_finetuning_run_resumes_to_the_bit(trained, tmp_path, capsys, monkeypatch):
    """With frozen boxes: the state of the optimiser and the weights are the same as without the interruption."""
    from boxconv.training.run_folder import RunFolder

    write_records = RunFolder.write_records

    def cut_after_an_epoch(self, records):
        write_records(self, records)
        if records:
            raise KeyboardInterrupt

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for run in (whole, cut):
        if run is cut:
            monkeypatch.setattr(RunFolder, "write_records", cut_after_an_epoch)
        boxconv(capsys, "finetune", trained, "--snap", "--epochs", "2", "--out", run, "--quiet")
    assert len((cut / "metrics.jsonl").read_text().splitlines()) == 1
    monkeypatch.undo()
    assert boxconv(capsys, "train", "--out", cut, "--resume", "--quiet")[0] == 0
    one, other = (checkpoint.load(run / "last.pt")["model"] for run in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["export", "BEST", "--out", "net.txt"], 2, "a name that ends in .onnx or .pt2 or .safetensors"),
        (["export", "BEST", "--format", "torch", "--out", "net.onnx"], 2, "--out: expected a name that ends in .pt2"),
        (["export", "SMALL", "--prune", "0.1", "--out", "a.pt2"], 2, "--prune: there are no boxes in enet_minus"),
        (["export", "BEST", "--prune", "-1", "--out", "a.pt2"], 2, "--prune: expected an influence of at least 0"),
        (["export", "BEST", "--prune", "1", "--out", "a.safetensors"], 2, "with onnx or torch, got 1.0 with safe"),
        (["export", "boxenet-camvid", "--prune", "1", "--out", "a.pt2"], 2, "--root: --data camvid needs the folder"),
        (["export", "boxnet-camvid", "--out", "a.pt2"], 1, "no such file, nor one of the package's netw"),
        (["finetune", "boxenet-camvid", "--out", "run"], 2, "train: boxconv train --start-from boxenet-camvid"),
        (["export", "BEST", "--min-area", "2", "--out", "a.pt2"], 2, "--min-area: needs --prune"),
        (["export", "BEST", "--standard-operators", "--out", "a.onnx"], 2, "--standard-operators: only for torch"),
        (["draw", "BEST", "--at", "1000", "0", "--out", "a.png"], 2, "a map of 8 x 16 pixels, got row 1000, column 0"),
        (["export", "none.pt", "--out", "net.onnx"], 1, "none.pt: no such file"),
        (["predict", "none.onnx", "photo.png", "--out", "out"], 1, "none.onnx: no such file"),
        (["predict", "bad.pt2", "photo.png", "--out", "out"], 1, "bad.pt2: not a usable exported program"),
        (["predict", "bad.safetensors", "photo.png", "--out", "out"], 1, "bad.safetensors: not a safetensors file"),
        (["finetune", "none.pt", "--out", "run"], 1, "none.pt: no such file"),
        (["finetune", "BEST", "--epochs", "0", "--out", "run"], 2, "--epochs: expected at least 1, got 0"),
        (["train", "--start-from", "none.pt", "--size", "32", "64", "--scenes-per-epoch", "2"], 1, "none.pt: no such"),
        (["train", "--start-from", "BEST", "--network", "enet", "--size", "32", "64"], 2, "does not fit --network"),
    ],
)  # fmt: skip
def test_usage_errors(arguments, status, message, trained, small, photo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for suffix in ("pt2", "safetensors"):
        (tmp_path / f"bad.{suffix}").write_bytes(b"nonsense")
    before = sorted(tmp_path.rglob("*"))
    places = {"BEST": trained, "SMALL": small}
    got, out, errors = boxconv(capsys, *(places.get(argument, argument) for argument in arguments))
    assert (got, message in errors + out) == (status, True), errors + out
    assert sorted(tmp_path.rglob("*")) == before
