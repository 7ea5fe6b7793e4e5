"""Train a box network on drawn road scenes, look at what it learned: one page, a few minutes on two CPU cores.

    python examples/demo.py --out demo       (or: make demo)
    python examples/demo.py --photo road.jpg   the network that comes trained labels it too

Writes OUT/report.html with its pictures beside it, and the run itself in OUT/run. A second call starts afresh.
"""

import argparse
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from box_convolution import BoxConv2d, networks
from box_convolution.networks import pretrained
from boxconv.data.classes import ClassTable
from boxconv.data.image_files import open_image
from boxconv.data.scenes.dataset import RoadScenes
from boxconv.data.transforms import Augment, EvalTransform
from boxconv.inference.predict import predict_image
from boxconv.reports import drawing
from boxconv.reports.html import Picture, Section, Table, write_report
from boxconv.training import checkpoint, engine
from boxconv.training.config import TrainConfig
from boxconv.training.evaluate import evaluate
from boxconv.training.metrics import class_weights, count_pixels
from boxconv.training.records import percent
from boxconv.training.run_folder import RunFolder

SHOWN = 5


def first_box_layer(model: torch.nn.Module) -> BoxConv2d:
    return next(module for module in model.modules() if isinstance(module, BoxConv2d))


def input_of(layer: torch.nn.Module, model: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    """What ``layer`` sees when ``model`` looks at ``image`` (3, h, w): (C, h', w')."""
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model.eval()(image[None])
    handle.remove()
    return seen[0][0]


def label_by_trained(images: list[Image.Image], path: Path) -> None:
    """Draw what the trained network of the package sees in ``images``."""
    about = pretrained.about("boxenet", "camvid")
    network = networks.create("boxenet", pretrained="camvid").eval()
    prepare = EvalTransform(tuple(about["size"]), tuple(about["mean"]), tuple(about["std"]))
    predictions = [predict_image(network, image, prepare, torch.device("cpu")) for image in images]
    classes = ClassTable.from_dict(about["classes"])
    drawing.prediction_panel([np.asarray(image) for image in images], None, predictions, classes, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the report")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--scenes-per-epoch", type=int, default=240)
    parser.add_argument("--photo", type=Path, nargs="+", default=[], help="road scenes, for the trained network")
    args = parser.parse_args()
    photos = [open_image(path) for path in args.photo]  # before minutes of training: are they there?

    config = TrainConfig(
        size=(96, 192), epochs=args.epochs, scenes_per_epoch=args.scenes_per_epoch, scenes_for_validation=64, lr=3e-3,
        scale=(0.9, 1.3), box_dropout=(0.01, 0.1, 0.0, 0.0), box_lr=4.0, box_weight_decay=0.0,
    )  # fmt: skip
    augment = Augment(config.size, scale=config.scale)
    train_data = RoadScenes(config.scenes_per_epoch, config.size, seed=config.seed, split="train", transform=augment)
    prepare = EvalTransform(config.size)
    val_data = RoadScenes(config.scenes_for_validation, config.size, split="val", transform=prepare)
    classes = train_data.classes

    torch.manual_seed(config.seed)
    options: dict[str, Any] = {"box_dropout": list(config.box_dropout)}
    network = {"name": "boxenet", "num_classes": len(classes), "input_size": list(config.size), "options": options}
    model = networks.create("boxenet", len(classes), input_size=config.size, **options)
    before = first_box_layer(model).boxes.detach().clone()

    folder = RunFolder(args.out / "run", overwrite=True)
    started = time.monotonic()
    records = engine.train(
        model, train_data, val_data, classes, config, folder,
        class_weight=class_weights(count_pixels(train_data, max_samples=50)), network=network,
    )  # fmt: skip
    minutes = (time.monotonic() - started) / 60

    model.load_state_dict(checkpoint.load(folder.best)["model"])
    scores = evaluate(model, val_data, classes, device=torch.device("cpu")).scores(classes)

    scenes = RoadScenes(SHOWN, config.size, split="val")
    pairs = [scenes[i] for i in range(SHOWN)]
    predictions = [predict_image(model, image, prepare, torch.device("cpu")) for image, _ in pairs]
    drawing.prediction_panel(
        [np.asarray(image) for image, _ in pairs], [np.asarray(label) for _, label in pairs], predictions, classes,
        args.out / "predictions.png",
    )  # fmt: skip
    layer = first_box_layer(model)
    feature_map = input_of(layer, model, prepare.image(pairs[0][0])).mean(0)
    after = layer.boxes.detach()
    drawing.boxes_over_map(
        feature_map.numpy(), before.flatten(0, 1).numpy(), after.flatten(0, 1).numpy(), args.out / "boxes.png",
        title="Boxes of the first box layer, over the mean of the feature maps they average",
    )  # fmt: skip
    drawing.training_curves(records, args.out / "curves.png")
    drawing.class_bars(scores["iou"], classes, args.out / "class_iou.png")

    photographs = []
    if photos:  # drawn scenes are a strange world to a network that learned from photographs
        label_by_trained(photos, args.out / "trained.png")
        photographs = [
            Section(
                "A network that comes trained",
                'networks.create("boxenet", pretrained="camvid") has learned from photographs of streets (CamVid at '
                "240 x 176 pixels). It labels yours.",
                [Picture(args.out / "trained.png", "Image and prediction")],
            )
        ]

    moved = (after - before).abs()
    report = write_report(
        args.out,
        title="BoxENet on drawn road scenes",
        summary={
            "class IoU": percent(scores["class_iou"]),
            "category IoU": percent(scores["category_iou"]),
            "pixel accuracy": percent(scores["pixel_accuracy"]),
            "training": f"{minutes:.1f} min, {config.epochs} epochs",
            "hardware": f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}",
        },
        sections=[
            Section(
                "What it predicts",
                "Scenes it never saw. Road and oncoming lane, road and pavement, driving and parked cars look the same "
                "from close by: only far context tells them apart.",
                [Picture(args.out / "predictions.png", "Image, truth, prediction and errors")],
            ),
            Section(
                "What its boxes learned",
                f"Edges of the first box layer moved {moved.mean():.1f} pixels on average, {moved.max():.1f} at most, "
                f"on feature maps of {feature_map.shape[0]} x {feature_map.shape[1]} pixels.",
                [Picture(args.out / "boxes.png", "Boxes before training (left) and after (right)")],
            ),
            *photographs,
            Section(
                "How training went",
                pictures=[
                    Picture(args.out / "curves.png", "Loss and scores by epoch"),
                    Picture(args.out / "class_iou.png", "IoU by class on validation scenes"),
                ],
            ),
            Section(
                "Scores",
                f"{len(val_data)} validation scenes of {config.size[0]} x {config.size[1]} pixels, best checkpoint.",
                table=Table(
                    ["class", "IoU"],
                    [[name, "absent" if iou is None else percent(iou)] for name, iou in scores["iou"].items()],
                ),
            ),
        ],
    )
    accuracy = percent(scores["pixel_accuracy"])
    print(f"class IoU {percent(scores['class_iou'])}, pixel accuracy {accuracy}; {minutes:.1f} minutes")
    print(f"report: {report}")


if __name__ == "__main__":
    main()
