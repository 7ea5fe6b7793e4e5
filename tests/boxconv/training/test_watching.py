"""Watching a run: pictures in TensorBoard and on a page during training, which do not change its weights."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import CLASSES, SIZE, Signals, config, network, same, train
from small_runs import run as build
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

from boxconv.cli.train import show_progress
from boxconv.data.scenes.dataset import RoadScenes
from boxconv.training.preview import VOID_COLOUR, Preview, previews
from boxconv.training.stop_signals import Interrupted


def pictures(path):
    """TensorBoard's pictures by epoch: (name, array)."""
    events = EventAccumulator(str(path / "tensorboard"), size_guidance={IMAGES: 0})
    events.Reload()
    found = {}
    for tag in events.Tags()["images"]:
        for event in events.Images(tag):
            found.setdefault(event.step, []).append(
                (tag, np.asarray(Image.open(io.BytesIO(event.encoded_image_string))))
            )
    return found


def test_a_strip_shows_image_labels_and_prediction_in_the_colours_of_the_classes():
    image = np.full((2, 3, 3), 7, np.uint8)
    truth = np.array([[0, 1, 255], [0, 1, 255]], np.uint8)
    strip = Preview("x", image, truth, np.ones((2, 3), np.uint8)).strip(CLASSES)
    assert strip.shape == (2, 9, 3)
    assert (strip[:, :3] == 7).all()
    assert [tuple(pixel) for pixel in strip[0, 3:6].tolist()] == [*CLASSES.colours[:2], VOID_COLOUR]
    assert {tuple(pixel) for pixel in strip[:, 6:].reshape(-1, 3).tolist()} == {CLASSES.colours[1]}


def test_previews_are_the_networks_answers_and_leave_it_as_it_was(tmp_path):
    model = network(dropout=torch.nn.Sequential(torch.nn.BatchNorm2d(16), torch.nn.Dropout2d(0.5)))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    it = build(config(), model.train())
    first, second = previews(it, model), previews(it, model)
    assert [preview.name for preview in first] == [it.val_data.name(index) for index in range(3)]
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        assert (one.prediction == other.prediction).all(), "no dropout"
        image, label = it.val_data[index]
        assert (one.truth == label.numpy()).all()
        with torch.no_grad():
            assert (one.prediction == model.eval()(image[None])[0].argmax(0).numpy()).all()
            model.train()
    plain = RoadScenes(3, SIZE, split="val")
    assert np.abs(first[0].image.astype(int) - np.asarray(plain[0][0].resize(SIZE[::-1]))).max() <= 1
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_watched_run_has_the_same_bits_and_its_pictures_at_the_epochs_asked_for(tmp_path):
    plain = train(tmp_path / "plain", config(epochs=5, ema=0.9))
    seen = []
    watched = train(tmp_path / "run", config(epochs=5, ema=0.9, report_every=2), watch=seen.append)
    assert same(plain, watched)
    assert [len(progress.records) for progress in seen] == [2, 4, 5]
    assert [progress.seconds_left > 0 for progress in seen] == [True, True, False]
    found = pictures(tmp_path / "run")
    assert sorted(found) == [2, 4, 5]
    names = [f"predictions/{preview.name}" for preview in seen[-1].previews]
    assert sorted(name for name, _ in found[5]) == sorted(names)
    for name, array in found[5]:
        (preview,) = (preview for preview in seen[-1].previews if name.endswith(preview.name))
        assert (array == preview.strip(CLASSES)).all()
    assert pictures(tmp_path / "plain") == {}


def test_an_early_end_is_pictured_and_a_resumed_run_goes_on_with_its_pictures(tmp_path):
    still = config(epochs=9, lr=1e-12, patience=2, report_every=5)
    train(tmp_path / "early", still)
    assert sorted(pictures(tmp_path / "early")) == [3]
    settings = config(epochs=3, report_every=1)
    with pytest.raises(Interrupted):
        train(tmp_path / "run", settings, data=Signals(7))
    train(tmp_path / "run", settings, resume=True)
    assert sorted(pictures(tmp_path / "run")) == [1, 2, 3]


def test_the_page_says_how_the_run_stands(tmp_path):
    pages = []

    def watch(progress):
        show_progress(progress)
        pages.append((progress.folder / "report.html").read_text())

    train(tmp_path / "run", config(epochs=3, report_every=2, val_every=2), watch=watch)
    assert {path.name for path in (tmp_path / "run" / "progress").iterdir()} == {
        "report.html", "curves.png", "predictions.png"
    }  # fmt: skip
    first, last = pages
    assert "<dd>2 of 3</dd>" in first
    assert 'http-equiv="refresh"' in first
    assert "<dd>3 of 3</dd>" in last
    assert 'http-equiv="refresh"' not in last
    assert all(page.count("data:image/png;base64,") == 2 and "road" in page for page in pages)
    iou = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["val_class_iou"]
    assert f"<dd>{100 * iou:.1f} %</dd>" in last


def test_a_page_without_a_validation_yet(tmp_path):
    train(tmp_path / "run", config(epochs=2, report_every=1, val_every=2), watch=show_progress)
    assert (tmp_path / "run" / "progress" / "report.html").exists()
