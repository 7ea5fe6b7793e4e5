"""Bad calls by users: each raises one clear error that names the argument; there is no crash and no silent result."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from box_convolution import BoxBottleneck, BoxConv2d, box_conv2d, networks, ops, project_boxes
from box_convolution.deploy import deploy, snap_boxes
from boxconv.data.class_table import ClassTable, read_classes, write_classes
from boxconv.data.datasets import SegmentationFolder
from boxconv.data.scenes.dataset import SCENE_CLASSES, RoadScenes, draw_scene
from boxconv.data.transforms import Augment, EvalTransform
from boxconv.training import checkpoint
from boxconv.training.checkpoint import CheckpointError
from boxconv.training.config import TrainConfig, to_plain
from boxconv.training.losses import class_weights
from boxconv.training.metrics import ConfusionMatrix

NAN, INF = float("nan"), float("inf")
X, B = torch.zeros(2, 3, 5, 7), torch.zeros(3, 4, 4)
TABLE = ClassTable(("a", "b"), ((0, 0, 0), (1, 1, 1)))


def layer(**options):
    return BoxConv2d(3, 2, 5, 7, **options)


def update(prediction, label):
    ConfusionMatrix(2).update(torch.tensor(prediction), torch.tensor(label))


MODULES = [
    (lambda function=function: function(3), TypeError, f"{name} must be an nn.Module, got int")
    for function, name in ((deploy, "network"), (snap_boxes, "network"), (project_boxes, "model"))
]

OPERATOR = [
    (lambda: box_conv2d(X[0, 0], B), ValueError, "input must have 4 dimensions"),
    (lambda: box_conv2d(X[0, :2], B), ValueError, "input has 2 channels and boxes are for 3"),
    (lambda: box_conv2d(X[0], B, out=torch.zeros(1, 12, 5, 7)), ValueError, "out must have the output's shape"),
    (lambda: box_conv2d(X[0], B, out=np.zeros((12, 5, 7))), TypeError, "out must be a torch.Tensor, got ndarray"),
    (lambda: box_conv2d(X, B, stride=np.int64(0)), ValueError, "stride must be at least 1, got 0"),
    (lambda: box_conv2d(X, B, stride=np.float64(2)), TypeError, "stride must be an int, got float64"),
    (lambda: box_conv2d(X, B, stride=np.True_), TypeError, "stride must be an int, got bool"),
    (lambda: box_conv2d(X, B, normalize=np.int64(1)), TypeError, "normalize must be a bool, got int64"),
    (lambda: box_conv2d(X[None], B), ValueError, "input must have 4 dimensions"),
    (lambda: box_conv2d(None, B), TypeError, "input must be a torch.Tensor, got NoneType"),
    (lambda: box_conv2d(X.numpy(), B), TypeError, "input must be a torch.Tensor, got ndarray"),
    (lambda: box_conv2d(X, [[[0, 1, 0, 1]]]), TypeError, "boxes must be a torch.Tensor, got list"),
    (lambda: box_conv2d(X, B[:, :, :3]), ValueError, r"boxes must have shape .* got shape \(3, 4, 3\)"),
    (lambda: box_conv2d(X, B[0]), ValueError, "boxes must have shape"),
    (lambda: box_conv2d(X, B[:2]), ValueError, "input has 3 channels and boxes are for 2"),
    (lambda: box_conv2d(X.int(), B), TypeError, "input must be float16.*int32"),
    (lambda: box_conv2d(X.bool(), B), TypeError, "input must be float16.*bool"),
    (lambda: box_conv2d(X.to(torch.complex64), B), TypeError, "input must be float16.*complex64"),
    (lambda: box_conv2d(X, B.long()), TypeError, "boxes must be float16.*int64"),
    (lambda: box_conv2d(X.to_sparse(), B), TypeError, "input must be a dense tensor"),
    (lambda: box_conv2d(X[:, :, :0], B), ValueError, "at least one pixel high and wide"),
    (lambda: box_conv2d(X[..., :0], B), ValueError, "at least one pixel high and wide"),
    (lambda: box_conv2d(X, B.to("meta")), ValueError, "on one device, got input on cpu, boxes on meta"),
    (lambda: box_conv2d(X, B, stride=0), ValueError, "stride must be at least 1, got 0"),
    (lambda: box_conv2d(X, B, stride=-2), ValueError, "stride must be at least 1, got -2"),
    (lambda: box_conv2d(X, B, stride=1.0), TypeError, "stride must be an int, got float 1.0"),
    (lambda: box_conv2d(X, B, stride=True), TypeError, "stride must be an int, got bool"),
    (lambda: box_conv2d(X, B, stride=(1, 1)), TypeError, "stride must be an int, got tuple"),
    (lambda: box_conv2d(X, B, normalize=1), TypeError, "normalize must be a bool, got int 1"),
    (lambda: box_conv2d(X, B, normalize="yes"), TypeError, "normalize must be a bool, got str"),
    (
        lambda: box_conv2d(X, B, out=torch.zeros(2, 12, 5, 8)),
        ValueError,
        r"out must have the output's shape \(2, 12, 5, 7\)",
    ),
    (lambda: box_conv2d(X, B, out=torch.zeros(2, 12, 5, 7).double()), TypeError, "out must have the input's dtype"),
    (lambda: box_conv2d(X, B, out=np.zeros((2, 12, 5, 7))), TypeError, "out must be a torch.Tensor, got ndarray"),
    (lambda: box_conv2d(X, B, out=torch.zeros(2, 12, 7, 5).mT), ValueError, "out must be contiguous"),
    (lambda: box_conv2d(X, B, True), TypeError, "positional argument"),
    (lambda: ops.use("cuda").__enter__(), ValueError, "reference"),
    (lambda: ops.use("fast").__enter__(), ValueError, "reference"),
]

LAYER = [
    (lambda: BoxConv2d(0, 2, 5, 7), ValueError, "in_channels must be at least 1, got 0"),
    (lambda: BoxConv2d(3.0, 2, 5, 7), TypeError, "in_channels must be an int, got float"),
    (lambda: BoxConv2d(3, -1, 5, 7), ValueError, "num_filters must be at least 1, got -1"),
    (lambda: BoxConv2d(3, True, 5, 7), TypeError, "num_filters must be an int, got bool"),
    (lambda: BoxConv2d(3, 2, 0, 7), ValueError, "max_input_h must be at least 1"),
    (lambda: BoxConv2d(3, 2, 5, None), TypeError, "max_input_w must be an int, got NoneType"),
    (lambda: BoxConv2d(3, 2, (5, 7), 7), TypeError, "max_input_h must be an int, got tuple"),
    (lambda: BoxConv2d(3, 2, 5), TypeError, "max_input_w"),
    (lambda: layer(stride=0), ValueError, "stride must be at least 1"),
    (lambda: layer(normalize=None), TypeError, "normalize must be a bool"),
    (lambda: layer(reparametrization_factor=0), ValueError, "reparametrization_factor must lie in"),
    (lambda: layer(reparametrization_factor=NAN), ValueError, "reparametrization_factor must lie in"),
    (lambda: layer(reparametrization_factor="8"), TypeError, "reparametrization_factor must be a number"),
    (
        lambda: layer(initial_boxes="small"),
        ValueError,
        "initial_boxes must be one of uniform, log-uniform, mixed, got .small.",
    ),
    (lambda: layer(dtype=torch.int32), TypeError, "dtype must be a floating-point dtype"),
    (lambda: layer(padding=1), TypeError, "padding"),
    (lambda: layer()(torch.zeros(1, 4, 5, 7)), ValueError, "input has 4 channels and boxes are for 3"),
    (lambda: layer()(torch.zeros(5, 7)), ValueError, "input must have 4 dimensions"),
    (lambda: layer()(torch.zeros(4, 5, 7)), ValueError, "input has 4 channels and boxes are for 3"),
    (lambda: layer()(torch.zeros(1, 3, 5, 7).byte()), TypeError, "input must be float16"),
    (lambda: layer()("image"), TypeError, "input must be a torch.Tensor, got str"),
    (lambda: layer().set_boxes(torch.zeros(3, 2, 3)), ValueError, "pixels must have shape"),
    (lambda: layer().set_boxes(torch.zeros(3, 2, 4)), ValueError, "6 invalid boxes"),
    (lambda: layer().set_boxes(torch.full((3, 2, 4), NAN)), ValueError, "6 invalid boxes"),
    (lambda: layer().set_boxes(torch.tensor([-99.0, 99, 0, 2]).expand(3, 2, 4)), ValueError, "max_input_h = 5"),
    (lambda: layer().load_state_dict({}), RuntimeError, "Missing key.*scaled_boxes"),
    (
        lambda: layer().load_state_dict({"scaled_boxes": torch.zeros(3, 9, 4)}),
        RuntimeError,
        "size mismatch for scaled_boxes",
    ),
    (lambda: layer().load_state_dict({"x_min": torch.zeros(3, 2)}), (RuntimeError, ValueError), "x_max|Missing key"),
    (
        lambda: BoxBottleneck(10, boxes_per_channel=4, max_input_h=5, max_input_w=7),
        ValueError,
        "multiple of boxes_per_channel",
    ),
    (
        lambda: BoxBottleneck(8, boxes_per_channel=0, max_input_h=5, max_input_w=7),
        ValueError,
        "boxes_per_channel must be at least 1, got 0",
    ),
    (
        lambda: BoxBottleneck(8, max_input_h=5, max_input_w=7, dropout=1.0),
        ValueError,
        r"dropout must lie in \[0, 1\), got 1.0",
    ),
    (lambda: BoxBottleneck(8, max_input_h=5), TypeError, "max_input_w"),
]

NETWORKS = [
    (lambda: networks.create("resnet", 2, (32, 32)), ValueError, "name must be one of .*boxenet.*got 'resnet'"),
    (lambda: networks.create(None, 2, (32, 32)), ValueError, "name must be one of"),
    (lambda: networks.create(["enet"], 2, (32, 32)), (TypeError, ValueError), "name"),
    (lambda: networks.create("enet", 0, (32, 32)), ValueError, "num_classes must be at least 1, got 0"),
    (lambda: networks.create("enet", 2.0, (32, 32)), TypeError, "num_classes must be an int, got float 2.0"),
    (lambda: networks.create("enet", 2, (32,)), ValueError, "input_size must be"),
    (lambda: networks.create("enet", 2, 32), (TypeError, ValueError), "input_size"),
    (lambda: networks.create("enet", 2, (32, 0)), ValueError, "input_size must be"),
    (lambda: networks.create("enet", 2, (32.0, 32)), ValueError, "input_size must be"),
    (lambda: networks.create("enet", 2, (32, 32), depth=3), TypeError, "depth is none of the options of enet"),
    (lambda: networks.create("enet", 2, (32, 32), dropout=0.5), ValueError, "dropout must be (2|two) probabilities"),
    (
        lambda: networks.create("enet", 2, (32, 32), dropout=(0.1, 1.5)),
        ValueError,
        "dropout must be (2|two) probabilities",
    ),
    (
        lambda: networks.create("enet_minus", 2, (32, 32))(torch.zeros(1, 4, 32, 32)),
        ValueError,
        r"\(batch, 3, height, width\)",
    ),
    (
        lambda: networks.create("enet_minus", 2, (32, 32))(torch.zeros(4, 32, 32)),
        ValueError,
        r"\(batch, 3, height, width\)",
    ),
]

DATA = [
    (lambda tmp: SegmentationFolder(tmp / "none", "train", TABLE), ValueError, "none does not exist"),
    (lambda tmp: SegmentationFolder(tmp, "train", TABLE), ValueError, "has no splits"),
    (lambda tmp: SegmentationFolder(tmp, "../x", TABLE), ValueError, "a split is the name of a folder, found '../x'"),
    (lambda tmp: SegmentationFolder(tmp, "", TABLE), ValueError, "a split is the name of a folder"),
    (lambda tmp: read_classes(tmp / "none.csv"), ValueError, "none.csv: cannot read the class table"),
    (lambda tmp: read_classes(tmp), ValueError, "cannot read the class table"),
    (lambda tmp: read_classes(written(tmp, "a,b\n")), ValueError, "the first line must name"),
    (lambda tmp: read_classes(written(tmp, "")), ValueError, "first line"),
    (lambda tmp: read_classes(table(tmp, "0,a,0,0\n")), ValueError, "line 2: expected 5 values"),
    (lambda tmp: read_classes(table(tmp, "x,a,0,0,0\n")), ValueError, "label must be an integer from 0 .* found 'x'"),
    (lambda tmp: read_classes(table(tmp, "65536,a,0,0,0\n")), ValueError, "0 to 65535, found '65536'"),
    (lambda tmp: read_classes(table(tmp, "0,a,0,0,999\n")), ValueError, "999"),
    (lambda tmp: ClassTable((), ()), ValueError, "1 to 255 classes, found 0"),
    (lambda tmp: ClassTable(("a",), ()), ValueError, "one name, colour, category and label per class"),
    (lambda tmp: ClassTable(("a", "a"), ((0, 0, 0), (1, 1, 1))), ValueError, "class name 'a' occurs more than once"),
    (lambda tmp: ClassTable(("a", "b"), ((0, 0, 0), (0, 0, 0))), ValueError, "occurs more than once"),
    (lambda tmp: ClassTable(("void",), ((0, 0, 0),)), ValueError, "no class may be named 'void'"),
    (lambda tmp: RoadScenes(0), ValueError, "length must be an integer"),
    (lambda tmp: RoadScenes(2.5), ValueError, "length must be an integer"),
    (lambda tmp: RoadScenes(2, (8, 100)), ValueError, r"size\[0\] \(height\) must be an integer of at least 16, got 8"),
    (lambda tmp: RoadScenes(2, 64), ValueError, r"size must be \(height, width\)"),
    (lambda tmp: RoadScenes(2, split="test"), ValueError, "split must be 'train' or 'val'"),
    (lambda tmp: RoadScenes(2, seed=-1), ValueError, "seed must be an integer"),
    (lambda tmp: RoadScenes(2)[2], IndexError, "range"),
    (lambda tmp: draw_scene(-1, 32, 32), ValueError, "seed must be an integer of at least 0, got -1"),
    (lambda tmp: draw_scene(0, 32, "32"), ValueError, "width must be an integer of at least 16, got '32'"),
    (lambda tmp: Augment((0, 32)), ValueError, "size must be two positive integers"),
    (lambda tmp: Augment((32, 32), scale=(2, 1)), ValueError, "scale must be a range"),
    (lambda tmp: Augment((32, 32), scale=(0, INF)), ValueError, "scale must be a range"),
    (lambda tmp: Augment((32, 32), brightness=1), ValueError, "brightness must be at least 0 and less than 1"),
    (lambda tmp: EvalTransform((32, 32, 3)), ValueError, "size must be two positive integers"),
    (lambda tmp: EvalTransform(mean=(0, NAN, 0)), ValueError, "mean must be finite numbers, one for each channel"),
    (lambda tmp: EvalTransform(std=(1, 0, 1)), ValueError, "std must be positive numbers, as many as mean has"),
    (lambda tmp: ConfusionMatrix(0), ValueError, "num_classes must be 1 to 255, found 0"),
    (lambda tmp: update([0], [0, 1]), ValueError, "expected one shape"),
    (lambda tmp: update([0.0], [0]), TypeError, "prediction must hold integers"),
    (lambda tmp: update([2], [0]), ValueError, "prediction 2 is outside 0 to 1"),
    (lambda tmp: update([0], [7]), ValueError, "label 7 is not a class"),
    (lambda tmp: ConfusionMatrix(2) + ConfusionMatrix(3), ValueError, "matrices of 2 and 3 classes"),
    (lambda tmp: ConfusionMatrix(2).scores(TABLE), ValueError, "no pixel was counted"),
    (lambda tmp: class_weights(torch.zeros(3)), ValueError, "pixel counts, not all 0"),
    (lambda tmp: class_weights(torch.ones(3), 1.0), ValueError, "constant must be greater than 1"),
    (lambda tmp: checkpoint.load(tmp / "none.pt"), CheckpointError, "none.pt: no such file"),
    (lambda tmp: checkpoint.load(tmp), CheckpointError, "not a file"),
    (lambda tmp: checkpoint.load(written(tmp, "text")), CheckpointError, "not a checkpoint"),
]  # fmt: skip


def table(folder: Path, row: str) -> Path:
    return written(folder, "label,name,red,green,blue\n" + row)


def written(folder: Path, text: str) -> Path:
    path = folder / "written"
    path.write_text(text)
    return path


def raises(call, kinds, message):
    with pytest.raises(kinds) as caught:
        call()
    text = str(caught.value)
    assert re.search(message, text, re.DOTALL), text
    assert len(text) < 2000


def numbered(table):
    return [pytest.param(*row, id=f"{i}-{row[2][:30]}") for i, row in enumerate(table)]


@pytest.mark.parametrize("call, kinds, message", numbered(OPERATOR + MODULES + LAYER + NETWORKS))
def test_operator_layer_and_networks(call, kinds, message):
    raises(call, kinds, message)


@pytest.mark.parametrize("call, kinds, message", numbered(DATA))
def test_data(tmp_path, call, kinds, message):
    raises(lambda: call(tmp_path), kinds, message)


# Command, exit status, words of the message. Files of `place` below are there; nothing else may be there afterwards.
TRAIN = "train --quiet --out run "
COMMANDS = [
    ("", 2, "train"),
    ("fly", 2, "fly"),
    ("Train --out run", 2, "train"),
    (TRAIN + "--epochs 0", 2, "--epochs: expected at least 1, got 0"),
    (TRAIN + "--epochs -3", 2, "--epochs"),
    (TRAIN + "--epochs 1.5", 2, "epochs"),
    (TRAIN + "--epochs", 2, "epochs"),
    (TRAIN + "--epoch 3", 2, "--epochs"),
    (TRAIN + "--batch-size 0", 2, "--batch-size: expected at least 1, got 0"),
    (TRAIN + "--batch-size many", 2, "batch-size"),
    (TRAIN + "--lr 0", 2, "--lr: expected a positive number, got 0.0"),
    (TRAIN + "--lr -1", 2, "--lr"),
    (TRAIN + "--lr nan", 2, "--lr: expected a positive number, got nan"),
    (TRAIN + "--lr inf", 2, "--lr: expected a positive number, got inf"),
    (TRAIN + "--learning-rate 1", 2, "learning-rate"),
    (TRAIN + "--weight-decay nan", 2, "--weight-decay"),
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
    ("train --quiet --out empty/..", 2, "empty/..: holds other files"),
    ("train --quiet --out empty/.. --overwrite", 2, "empty/..: holds other files"),
    ("train --quiet --out old", 2, "old: holds a run already"),
    ("evaluate", 2, "NETWORK"),
    ("evaluate none.pt", 1, "none.pt: no such file"),
    ("evaluate data", 1, "data: not a file"),
    ("evaluate file", 1, "file: not a checkpoint"),
    ("evaluate good.pt --batch-size 0", 2, "--batch-size: expected at least 1, got 0"),
    ("evaluate good.pt --picture panel.gif", 2, "--picture: expected a name that ends in .png or .svg, got panel.gif"),
    ("evaluate good.pt --workers -1", 2, "--workers: expected at least 0, got -1"),
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
    ("evaluate boxenet-camvid --data camvid", 2, "--root: --data camvid needs the folder"),
    ("predict", 2, "no image to label: expected boxconv predict [NETWORK] IMAGE"),
    ("predict good.pt", 2, "no image to label"),
    ("predict good.pt none --out out", 1, "none: no such file or folder"),
    ("predict good.pt empty --out out", 1, "empty: no images in this folder"),
    ("predict good.pt data/images/train --out file", 1, "file: a file is in the place of the output folder"),
    ("predict good.pt data/images/train data/images/val --out out", 1, "would be written for both"),
    ("predict good.pt data/labels/train --out data/labels/train", 2, "--out: data/labels/train is in the data folder"),
    ("predict good.pt file --out out", 1, "file: the content is not an image"),
    ("predict good.pt data/images/train --out out --resume --overwrite", 2, "contradict each other"),
    ("predict none.pt data/images/train --out out", 1, "none.pt: no such file"),
    ("predict good.pt data/images/train --out out --device nothing", 1, "--device nothing: not available here"),
    ("distance good.pt", 2, "RUNS: good.pt: no folder of a training run, there is no last.pt in it"),
    ("distance nothing", 2, "RUNS: nothing: no folder of a training run, there is no last.pt in it"),
    ("check-data", 2, "PATH"),
    ("check-data none --data camvid", 1, "none"),
    ("check-data empty", 2, "--classes: empty holds no classes.csv"),
    ("check-data data --classes none.csv", 1, "none.csv"),
    ("check-data file --data camvid", 1, "file"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small data set, good and bad checkpoints, a file, an empty folder and an old run."""
    folder = tmp_path_factory.mktemp("place")
    for split in ("train", "val"):
        image, label = draw_scene(0, 16, 32)
        for kind, pixels in (("images", image), ("labels", label)):
            (folder / "data" / kind / split).mkdir(parents=True)
            Image.fromarray(pixels).save(folder / "data" / kind / split / "1.png")
    write_classes(folder / "data" / "classes.csv", SCENE_CLASSES)
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
def test_command_line(place, monkeypatch, capsys, line, status, message):
    from boxconv.cli import main

    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    try:
        got = main(line.split())
    except SystemExit as stop:
        got = stop.code
    captured = capsys.readouterr()
    text = re.sub(r"[│╭╮╰╯─]|\s+", " ", captured.err + captured.out)
    assert (got, re.sub(r"\s+", " ", message) in re.sub(r"\s+", " ", text)) == (status, True), text
    assert "Traceback" not in text
    assert sorted(place.rglob("*")) == before


def test_there_are_enough():
    assert len(OPERATOR) + len(LAYER) + len(NETWORKS) + len(DATA) + len(COMMANDS) >= 120
