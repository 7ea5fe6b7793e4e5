"""Train BoxENet and ENet on drawn road scenes and show on one page what they learned; minutes on two CPU cores.

    python examples/demo.py --out demo         (or: make demo)
    python examples/demo.py --photo road.jpg   also labels this photo, with a network that comes trained

Writes OUT/report.html with its pictures beside it, and the runs in OUT/boxenet and OUT/enet. A second call starts
afresh.
"""

import argparse
import dataclasses
import platform
import time
from dataclasses import dataclass
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
from boxconv.inference.scoring_data import validation_scores
from boxconv.reports.html import write_report
from boxconv.reports.prediction_picture import prediction_panel
from boxconv.reports.tables import Picture, Section, Table
from boxconv.reports.training_pictures import class_bars, training_curves
from boxconv.training import recipes
from boxconv.training.loop import train
from boxconv.training.recorder import percent
from boxconv.training.run_folder import RunFolder
from boxconv.training.setup import build_run

SHOWN = 5
SIZE = (96, 192)


@dataclass(frozen=True)
class Trained:
    """A trained network, and how it got there."""

    network: Any
    records: list[dict[str, Any]]
    scores: dict[str, Any]
    first_boxes: torch.Tensor | None
    """(C, M, 4), of the first box layer before training; None in a network without boxes."""
    minutes: float


def boxes_section(trained: Trained, image: Any, path: Path) -> Section:
    """Where training moved the boxes of the first layer."""
    network, before = trained.network, trained.first_boxes
    assert before is not None
    layer = next(module for module in network.model.modules() if isinstance(module, BoxConv2d))
    feature_map = input_of(layer, network.model, network.transform.image(image)).mean(0)
    after = layer.boxes.detach()
    demo_pictures.boxes_over_map(
        feature_map.numpy(), before.flatten(0, 1).numpy(), after.flatten(0, 1).numpy(), path,
        title="Boxes of the first box layer, over the mean of the feature maps they average",
    )  # fmt: skip
    moved = (after - before).abs()
    return Section(
        "What BoxENet's boxes learned",
        f"Edges of the first box layer moved {moved.mean():.1f} pixels on average, {moved.max():.1f} at most, "
        f"on feature maps of {feature_map.shape[0]} x {feature_map.shape[1]} pixels.",
        pictures=[Picture(path, "Boxes before training (left) and after (right)")],
    )


def scenes_section(title: str, text: str, network: Any, scenes: list[tuple[Any, Any]], path: Path) -> Section:
    images, labels = zip(*scenes, strict=True)
    prediction_panel(images, labels, list(map(network.predict, images)), network.classes, path)
    return Section(title, text, pictures=[Picture(path, "Image, truth, prediction and errors")])


def photo_sections(photos: list[Any], path: Path) -> list[Section]:
    """Labels of the user's photos, by a packaged network: one trained on drawn scenes cannot label photos."""
    if not photos:
        return []
    trained = boxconv.open_network("boxenet-camvid")
    prediction_panel(photos, None, list(map(trained.predict, photos)), trained.classes, path)
    return [
        Section(
            "A network that comes trained",
            'boxconv.open_network("boxenet-camvid") has learned from photographs of streets (CamVid at 360 x 480 '
            "pixels). It labels yours.",
            pictures=[Picture(path, "Image and prediction")],
        )
    ]


def score_sections(boxenet: Trained, enet: Trained, out: Path) -> list[Section]:
    training_curves(boxenet.records, out / "curves.png")
    class_bars(boxenet.scores["iou"], boxenet.network.classes, out / "class_iou.png")
    both = [one.scores["iou"] for one in (boxenet, enet)]
    rows = [[name, *("absent" if iou[name] is None else percent(iou[name]) for iou in both)] for name in both[0]]
    config = boxenet.network.config
    return [
        Section(
            "Scores",
            f"{config.scenes_for_validation} validation scenes of {config.size[0]} x {config.size[1]} pixels, best "
            "checkpoints.",
            Table(["class", "IoU of BoxENet", "IoU of ENet"], rows),
        ),
        Section(
            "How BoxENet's training went",
            pictures=[
                Picture(out / "curves.png", "Loss and scores by epoch"),
                Picture(out / "class_iou.png", "IoU by class on validation scenes"),
            ],
        ),
    ]


def trained(name: str, folder: Path, epochs: int, scenes_per_epoch: int) -> Trained:
    """Train the network called ``name`` with the settings of the recipe scenes-NAME, but for size and length."""
    settings = dataclasses.replace(
        recipes.settings(f"scenes-{name}"), size=SIZE, epochs=epochs, scenes_per_epoch=scenes_per_epoch,
        scenes_for_validation=64, val_every=1,
    )  # fmt: skip
    config, create_network = network_for(settings)
    run = build_run(config, create_network)
    before = next((m.boxes.detach().clone() for m in run.model.modules() if isinstance(m, BoxConv2d)), None)
    started = time.monotonic()
    with RunFolder(folder, overwrite=True) as opened:
        records = train(run, opened)
    minutes = (time.monotonic() - started) / 60
    network = boxconv.open_network(folder)
    return Trained(network, records, validation_scores(network.model, network.classes, config), before, minutes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the report")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--scenes-per-epoch", type=int, default=240)
    parser.add_argument("--photo", type=Path, nargs="+", default=[], help="road scenes, for the trained network")
    args = parser.parse_args()
    photos = [open_image(path) for path in args.photo]  # a missing file fails here, not after minutes of training

    boxenet, enet = (trained(name, args.out / name, args.epochs, args.scenes_per_epoch) for name in ("boxenet", "enet"))
    scenes = RoadScenes(SHOWN, SIZE, split="val")
    pairs = [scenes[i] for i in range(SHOWN)]
    report = write_report(
        args.out,
        title="BoxENet and ENet on drawn road scenes",
        summary={
            "class IoU of BoxENet": percent(boxenet.scores["class_iou"]),
            "class IoU of ENet": percent(enet.scores["class_iou"]),
            "training": f"{args.epochs} epochs, {boxenet.minutes:.1f} and {enet.minutes:.1f} min",
            "hardware": f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}",
        },
        sections=[
            scenes_section(
                "What BoxENet predicts",
                "Scenes it never saw. Road and oncoming lane, road and pavement, driving and parked cars look the same "
                "from close by: only far context tells them apart.",
                boxenet.network, pairs, args.out / "predictions.png",
            ),
            scenes_section(
                "What ENet predicts",
                "The same scenes after the same training. ENet has dilated convolutions where BoxENet has boxes.",
                enet.network, pairs, args.out / "predictions_enet.png",
            ),
            boxes_section(boxenet, pairs[0][0], args.out / "boxes.png"),
            *photo_sections(photos, args.out / "trained.png"),
            *score_sections(boxenet, enet, args.out),
        ],
    )  # fmt: skip
    for name, one in (("BoxENet", boxenet), ("ENet", enet)):
        accuracy = percent(one.scores["pixel_accuracy"])
        print(f"{name}: class IoU {percent(one.scores['class_iou'])}, pixel accuracy {accuracy}; {one.minutes:.1f} min")
    print(f"report: {report}")


if __name__ == "__main__":
    main()
