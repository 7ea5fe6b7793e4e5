"""Evaluation: every sample once, at the resolution of the network or of the labels."""

import torch
from torch import nn

from boxconv.data.class_table import ClassTable
from boxconv.data.scenes.dataset import RoadScenes
from boxconv.data.transforms import EvalTransform
from boxconv.training.evaluation import ImageTransform, Patch, evaluate, score_table
from boxconv.training.metrics import ConfusionMatrix, score_intervals

CLASSES = RoadScenes.classes


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, len(CLASSES), 1))


def test_equals_a_plain_loop_for_any_batch_size():
    model = network()
    data = RoadScenes(5, (16, 24), split="val", transform=EvalTransform((16, 24)))
    expected = ConfusionMatrix(len(CLASSES))
    model.eval()
    for image, label in (data[i] for i in range(5)):
        expected.update(model(image[None]).argmax(1), label[None])
    for batch_size in (1, 2, 5, 9):
        model.train()
        matrix = evaluate(model, data, CLASSES, batch_size=batch_size, progress=False)
        assert torch.equal(matrix.counts, expected.counts)
        assert model.training


def test_weights_and_statistics_stay_as_they_are():
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluate(model, RoadScenes(2, (16, 24), split="val", transform=EvalTransform()), CLASSES, progress=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_full_resolution_counts_every_pixel_of_the_label():
    data = RoadScenes(3, (40, 60), split="val", transform=ImageTransform(EvalTransform((16, 24))))
    matrix = evaluate(network(), data, CLASSES, batch_size=1, progress=False)
    labelled = sum((label != 255).sum() for _, label in (data[i] for i in range(3)))
    assert data[0][1].shape == (40, 60)
    assert matrix.counts.sum() == labelled


def test_scores_may_come_in_patches():
    data = RoadScenes(3, (16, 24), split="val", transform=EvalTransform((16, 24)))

    def quarters(model, images, size):
        scores = model(images)
        for top in (0, 10):
            for left in (0, 7):
                rows, columns = slice(top, 10 if top == 0 else 16), slice(left, 7 if left == 0 else 24)
                yield Patch(top, left, scores[:, :, rows, columns])

    found = []
    for options in ({}, {"scores": quarters}):
        by_image = torch.zeros(3, len(CLASSES), len(CLASSES), dtype=torch.int64)
        matrix = evaluate(network(), data, CLASSES, progress=False, by_image=by_image, **options)
        found.append((matrix.counts, by_image))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_intervals_are_those_of_resampled_images():
    data = RoadScenes(6, (16, 24), split="val", transform=EvalTransform((16, 24)))
    by_image = torch.zeros(6, len(CLASSES), len(CLASSES), dtype=torch.int64)
    matrix = evaluate(network(), data, CLASSES, batch_size=4, progress=False, by_image=by_image)
    assert torch.equal(by_image.sum(0), matrix.counts)
    alone = evaluate(network(), torch.utils.data.Subset(data, [5]), CLASSES, progress=False)
    assert torch.equal(by_image[5], alone.counts)
    intervals = score_intervals(by_image, CLASSES)
    assert intervals == score_intervals(by_image, CLASSES), "the same every time"
    for name, (low, high) in intervals.items():
        assert low < matrix.scores(CLASSES)[name] < high
    same = score_intervals(by_image[:1].expand(6, -1, -1), CLASSES)["class_iou"]
    assert same[0] == same[1], "images that are all alike leave no doubt"


def test_intervals_of_known_spread():
    """Half of 100 images are right and half are wrong: the standard deviation of the accuracy is 0.05."""
    right, wrong = torch.tensor([[10, 0], [0, 0]]), torch.tensor([[0, 10], [0, 0]])
    by_image = torch.stack([right] * 50 + [wrong] * 50 + [torch.zeros(2, 2, dtype=torch.int64)] * 9)
    classes = ClassTable(("a", "b"), ((1, 2, 3), (4, 5, 6)))
    low, high = score_intervals(by_image, classes)["pixel_accuracy"]
    assert abs(low - 0.402) < 0.02
    assert abs(high - 0.598) < 0.02
    assert score_intervals(torch.zeros(3, 2, 2, dtype=torch.int64), classes) == {}


def test_score_table_reads_well():
    classes = ClassTable(("road", "unicorn"), ((1, 2, 3), (4, 5, 6)))
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([0, 0]), torch.tensor([0, 0]))
    text = score_table(matrix.scores(classes))
    assert "road             100.0" in text
    assert "unicorn         absent" in text
    assert "pixel accuracy   100.0" in text
    text = score_table(matrix.scores(classes), {"pixel_accuracy": (0.9, 1.0)})
    assert "pixel accuracy   100.0  90.0 to 100.0" in text
