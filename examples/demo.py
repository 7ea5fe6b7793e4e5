"""Train a box network on drawn road scenes and show on one page what it learned; a few minutes on two CPU cores.

    python examples/demo.py --out demo         (or: make demo)
    python examples/demo.py --photo road.jpg   also labels this photo, with a network that comes trained

Writes OUT/report.html with its pictures beside it, and the run itself in OUT/run. A second call starts afresh.
"""

import argparse
import platform
import time
from pathlib import Path
from typing import Any

import demo_pictures
import torch

import boxconv
from box_convolution import BoxConv2d
from boxconv.analysis.evaluation_mode import input_of
from boxconv.data.image_reader import open_image
from boxconv.data.scenes.dataset import RoadScenes
from boxconv.inference.new_network import network_for
from boxconv.inference.scoring import validation_scores
from boxconv.reports.html import write_report
from boxconv.reports.predictions import prediction_panel
from boxconv.reports.tables import Picture, Section, Table
from boxconv.reports.training_pictures import class_bars, training_curves
from boxconv.training.config import TrainConfig
from boxconv.training.loop import train
from boxconv.training.records import percent
from boxconv.training.run_folder import RunFolder
from boxconv.training.setup import build_run

SHOWN = 5


def first_box_layer(model: torch.nn.Module) -> BoxConv2d:
    return next(module for module in model.modules() if isinstance(module, BoxConv2d))


def boxes_section(network: Any, before: torch.Tensor, image: Any, path: Path) -> Section:
    """Where training moved the boxes of the first layer, which were ``before``."""
    layer = first_box_layer(network.model)
    feature_map = input_of(layer, network.model, network.transform.image(image)).mean(0)
    after = layer.boxes.detach()
    demo_pictures.boxes_over_map(
        feature_map.numpy(), before.flatten(0, 1).numpy(), after.flatten(0, 1).numpy(), path,
        title="Boxes of the first box layer, over the mean of the feature maps they average",
    )  # fmt: skip
    moved = (after - before).abs()
    return Section(
        "What its boxes learned",
        f"Edges of the first box layer moved {moved.mean():.1f} pixels on average, {moved.max():.1f} at most, "
        f"on feature maps of {feature_map.shape[0]} x {feature_map.shape[1]} pixels.",
        pictures=[Picture(path, "Boxes before training (left) and after (right)")],
    )


def scenes_section(network: Any, scenes: list[tuple[Any, Any]], path: Path) -> Section:
    images, labels = zip(*scenes, strict=True)
    prediction_panel(images, labels, list(map(network.predict, images)), network.classes, path)
    return Section(
        "What it predicts",
        "Scenes it never saw. Road and oncoming lane, road and pavement, driving and parked cars look the same from "
        "close by: only far context tells them apart.",
        pictures=[Picture(path, "Image, truth, prediction and errors")],
    )


def photo_sections(photos: list[Any], path: Path) -> list[Section]:
    """Labels of the user's photos, by a packaged network: one trained on drawn scenes cannot label photos."""
    if not photos:
        return []
    trained = boxconv.open_network("boxenet-camvid")
    prediction_panel(photos, None, list(map(trained.predict, photos)), trained.classes, path)
    return [
        Section(
            "A network that comes trained",
            'boxconv.open_network("boxenet-camvid") has learned from photographs of streets (CamVid at 176 x 240 '
            "pixels). It labels yours.",
            pictures=[Picture(path, "Image and prediction")],
        )
    ]


def score_sections(network: Any, records: list[dict[str, Any]], scores: dict[str, Any], out: Path) -> list[Section]:
    training_curves(records, out / "curves.png")
    class_bars(scores["iou"], network.classes, out / "class_iou.png")
    rows = [[name, "absent" if iou is None else percent(iou)] for name, iou in scores["iou"].items()]
    h, w = network.config.size
    scenes = network.config.scenes_for_validation
    return [
        Section(
            "How training went",
            pictures=[
                Picture(out / "curves.png", "Loss and scores by epoch"),
                Picture(out / "class_iou.png", "IoU by class on validation scenes"),
            ],
        ),
        Section(
            "Scores", f"{scenes} validation scenes of {h} x {w} pixels, best checkpoint.", Table(["class", "IoU"], rows)
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the report")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--scenes-per-epoch", type=int, default=240)
    parser.add_argument("--photo", type=Path, nargs="+", default=[], help="road scenes, for the trained network")
    args = parser.parse_args()
    photos = [open_image(path) for path in args.photo]  # a missing file fails here, not after minutes of training

    config, create_network = network_for(
        TrainConfig(
            size=(96, 192), epochs=args.epochs, scenes_per_epoch=args.scenes_per_epoch, scenes_for_validation=64,
            lr=3e-3, scale=(0.9, 1.3), box_dropout=(0.01, 0.1, 0.0, 0.0), box_lr=4.0, box_weight_decay=0.0,
        )
    )  # fmt: skip
    run = build_run(config, create_network)
    before = first_box_layer(run.model).boxes.detach().clone()
    started = time.monotonic()
    with RunFolder(args.out / "run", overwrite=True) as folder:
        records = train(run, folder)
    minutes = (time.monotonic() - started) / 60

    network = boxconv.open_network(args.out / "run")
    scores = validation_scores(network.model, network.classes, config)
    scenes = RoadScenes(SHOWN, config.size, split="val")
    pairs = [scenes[i] for i in range(SHOWN)]
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
            scenes_section(network, pairs, args.out / "predictions.png"),
            boxes_section(network, before, pairs[0][0], args.out / "boxes.png"),
            *photo_sections(photos, args.out / "trained.png"),
            *score_sections(network, records, scores, args.out),
        ],
    )
    accuracy = percent(scores["pixel_accuracy"])
    print(f"class IoU {percent(scores['class_iou'])}, pixel accuracy {accuracy}; {minutes:.1f} minutes")
    print(f"report: {report}")


if __name__ == "__main__":
    main()
