"""Evaluation: every sample once, at the network's resolution or at the labels'."""

import torch
from torch import nn

from box_convolution.segmentation.classes import ClassTable
from box_convolution.segmentation.evaluate import PrepareImageOnly, evaluate, score_table
from box_convolution.segmentation.metrics import ConfusionMatrix
from box_convolution.segmentation.scenes import RoadScenes
from box_convolution.segmentation.transforms import Prepare

CPU = torch.device("cpu")
CLASSES = RoadScenes.classes


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, len(CLASSES), 1))


def test_equals_a_plain_loop_for_any_batch_size():
    model = network()
    data = RoadScenes(5, (16, 24), split="val", transform=Prepare((16, 24)))
    expected = ConfusionMatrix(len(CLASSES))
    model.eval()
    for image, label in (data[i] for i in range(5)):
        expected.update(model(image[None]).argmax(1), label[None])
    for batch_size in (1, 2, 5, 9):
        model.train()
        matrix = evaluate(model, data, CLASSES, device=CPU, batch_size=batch_size, progress=False)
        assert torch.equal(matrix.counts, expected.counts)
        assert model.training


def test_weights_and_statistics_stay_as_they_are():
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluate(model, RoadScenes(2, (16, 24), split="val", transform=Prepare()), CLASSES, device=CPU, progress=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_full_resolution_counts_every_pixel_of_the_label():
    data = RoadScenes(3, (40, 60), split="val", transform=PrepareImageOnly(Prepare((16, 24))))
    matrix = evaluate(network(), data, CLASSES, device=CPU, batch_size=1, progress=False)
    labelled = sum((label != 255).sum() for _, label in (data[i] for i in range(3)))
    assert data[0][1].shape == (40, 60)
    assert matrix.counts.sum() == labelled


def test_score_table_reads_well():
    classes = ClassTable(("road", "unicorn"), ((1, 2, 3), (4, 5, 6)))
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([0, 0]), torch.tensor([0, 0]))
    text = score_table(matrix.scores(classes))
    assert "road             100.0" in text
    assert "unicorn         absent" in text
    assert "pixel accuracy   100.0" in text
