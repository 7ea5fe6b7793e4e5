"""Metrics compared with loops over single pixels."""

import json
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from boxconv.data.class_table import VOID, ClassTable
from boxconv.data.layouts.camvid import CAMVID
from boxconv.data.layouts.cityscapes import CITYSCAPES, LABEL_IDS
from boxconv.score_names import SCORES
from boxconv.training.metrics import ConfusionMatrix, about_absent, count_pixels

TABLE = ClassTable(tuple("abcde"), tuple((i, 0, 0) for i in range(5)), ("x", "x", "y", "z", "y"))


def brute_force(prediction: list[int], label: list[int], table: ClassTable) -> dict:
    """The same scores, one pixel and one class at a time."""
    pairs = [(p, t) for p, t in zip(prediction, label, strict=True) if t != VOID]

    def iou(same: list[str], name: str) -> float | None:
        found = sum(same[p] == name and same[t] == name for p, t in pairs)
        union = sum(same[p] == name or same[t] == name for p, t in pairs)
        return found / union if union else None

    def mean(values: list[float | None]) -> float:
        present = [value for value in values if value is not None]
        return sum(present) / len(present)

    ious = [iou(list(table.names), name) for name in table.names]
    accuracies = []
    for k in range(len(table)):
        truth = [p for p, t in pairs if t == k]
        accuracies.append(truth.count(k) / len(truth) if truth else None)
    return {
        "class_iou": mean(ious),
        "category_iou": mean([iou(list(table.categories), name) for name in sorted(set(table.categories))]),
        "class_accuracy": mean(accuracies),
        "pixel_accuracy": sum(p == t for p, t in pairs) / len(pairs),
        "iou": dict(zip(table.names, ious, strict=True)),
    }


@pytest.mark.parametrize("seed", range(20))
def test_scores_equal_brute_force(seed: int) -> None:
    draw = random.Random(seed)
    allowed = draw.sample(range(5), draw.randint(1, 5))
    label = [draw.choice([*allowed, VOID]) for _ in range(60)] + [allowed[0]]
    prediction = [draw.choice([*allowed, t if t != VOID else 0, draw.choice(allowed)]) for t in label]
    matrix = ConfusionMatrix(5)
    for part in (slice(0, 20), slice(20, 21), slice(21, 21), slice(21, None)):
        matrix.update(torch.tensor(prediction[part], dtype=torch.int64), torch.tensor(label[part], dtype=torch.int64))
    scores = matrix.scores(TABLE)
    expected = brute_force(prediction, label, TABLE)
    assert scores["iou"].keys() == expected["iou"].keys()
    for name, value in expected["iou"].items():
        assert scores["iou"][name] == (None if value is None else pytest.approx(value, abs=1e-12))
    for name in ("class_iou", "category_iou", "class_accuracy", "pixel_accuracy"):
        assert type(scores[name]) is float
        assert scores[name] == pytest.approx(expected[name], abs=1e-12)
    assert json.loads(json.dumps(scores)) == scores


def test_counts_are_rows_of_truth() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(torch.tensor([[2, 2], [1, 0]]), torch.tensor([[0, 0], [1, VOID]]))
    assert matrix.counts.dtype == torch.int64
    assert matrix.counts.tolist() == [[0, 0, 2], [0, 1, 0], [0, 0, 0]]


def test_shapes_strides_and_dtypes() -> None:
    prediction = torch.randint(0, 5, (2, 6, 7))
    label = torch.randint(0, 5, (2, 6, 7))
    plain, strided = ConfusionMatrix(5), ConfusionMatrix(5)
    plain.update(prediction, label)
    strided.update(prediction.transpose(1, 2).to(torch.uint8), label.to(torch.int32).transpose(1, 2))
    assert torch.equal(plain.counts, strided.counts)
    assert int(plain.counts.sum()) == 84


def test_parts_add_up() -> None:
    first, second, both = ConfusionMatrix(5), ConfusionMatrix(5), ConfusionMatrix(5)
    for matrix in (first, second):
        prediction, label = torch.randint(0, 5, (50,)), torch.randint(0, 5, (50,))
        matrix.update(prediction, label)
        both.update(prediction, label)
    assert torch.equal((first + second).counts, both.counts)
    assert int(first.counts.sum()) == 50
    copy = ConfusionMatrix.from_state(json.loads(json.dumps(both.state())))
    assert torch.equal(copy.counts, both.counts)
    with pytest.raises(ValueError, match="5 and 4 classes"):
        first + ConfusionMatrix(4)


def test_scores_have_the_same_names_everywhere() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([0]), torch.tensor([1]))
    scores = matrix.scores(ClassTable(("a", "b"), ((0, 0, 0), (1, 1, 1))))
    assert set(scores) == set(SCORES)


def test_counts_stay_exact_beyond_float_precision() -> None:
    matrix = ConfusionMatrix.from_state({"counts": [[2**60, 0], [1, 0]]})
    matrix.update(torch.tensor([0]), torch.tensor([0]))
    assert matrix.counts.tolist() == [[2**60 + 1, 0], [1, 0]]


@pytest.mark.parametrize(
    "prediction, label, words",
    [
        ([0, 5], [0, VOID], "prediction 5 is outside 0 to 4"),
        ([0, VOID], [0, VOID], "prediction 255 is outside"),
        ([0, -1], [0, 0], "prediction -1"),
        ([0, 0], [0, 5], "label 5 is not a class: expected 0 to 4 or 255"),
        ([0, 4], [0, 254], "label 254 is not a class"),
        ([0, 0], [0, -1], "label -1"),
        ([0, 0], [0, 256], "label 256"),
        ([0, 0], [0], "expected one shape"),
    ],
)
def test_bad_values_add_nothing(prediction: list[int], label: list[int], words: str) -> None:
    matrix = ConfusionMatrix(5)
    with pytest.raises(ValueError, match=words):
        matrix.update(torch.tensor(prediction), torch.tensor(label))
    assert int(matrix.counts.sum()) == 0


def test_other_misuse() -> None:
    matrix = ConfusionMatrix(5)
    with pytest.raises(TypeError, match="label must hold integers"):
        matrix.update(torch.tensor([0]), torch.tensor([0.0]))
    with pytest.raises(TypeError, match="prediction must hold integers"):
        matrix.update(torch.tensor([0.0]), torch.tensor([0]))
    with pytest.raises(ValueError, match="no pixel was counted"):
        matrix.scores(TABLE)
    with pytest.raises(ValueError, match="5 classes, the table 11"):
        matrix.scores(CAMVID)
    for count in (0, 256):
        with pytest.raises(ValueError, match=f"num_classes must be 1 to 255, found {count}"):
            ConfusionMatrix(count)
    with pytest.raises(ValueError, match="square"):
        ConfusionMatrix.from_state({"counts": [[1, 2]]})


class Labels:
    """A data set without the method `label`."""

    classes = TABLE

    def __init__(self) -> None:
        self.values = [torch.full((2, 3), i % 5) for i in range(10)]
        self.values[9][0] = VOID

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[None, Tensor]:
        return None, self.values[index]


class QuickLabels(Labels):
    def __getitem__(self, index: int) -> tuple[None, Tensor]:
        raise AssertionError("only labels are needed")

    def label(self, index: int) -> Image.Image:
        return Image.fromarray(self.values[index].byte().numpy())


def test_several_classes_without_pixels_are_named() -> None:
    said = "they have no pixel of a, b: the scores tell nothing of them; if they are predicted somewhere, an IoU of 0 "
    assert about_absent("they", ["a", "b"]).startswith(said)


def test_count_pixels() -> None:
    for labels in (Labels(), QuickLabels()):
        counts = count_pixels(labels)
        assert counts.dtype == torch.int64
        assert counts.tolist() == [12, 12, 12, 12, 9]
        assert count_pixels(labels, 100).tolist() == counts.tolist()
        assert count_pixels(labels, 5).tolist() == [6, 6, 6, 6, 6]


def test_the_scores_are_those_of_the_cityscapes_benchmark() -> None:
    """The benchmark's rules, ids 0 to 33: where the true id is ignored nothing is counted, not even a false positive;
    a category counts confusions within it as found; what does not occur is left out of the means."""
    rng = np.random.default_rng(0)
    evaluated = dict(zip(LABEL_IDS, CITYSCAPES.categories, strict=True))
    truth = rng.integers(0, 34, (60, 80))
    guess = np.where(rng.random((60, 80)) < 0.6, truth, rng.integers(0, 34, (60, 80)))
    guess = np.where(np.isin(guess, LABEL_IDS), guess, rng.choice(LABEL_IDS, (60, 80)))
    truth[truth == 31], guess[guess == 31] = 30, 32  # no train anywhere
    valid = np.isin(truth, LABEL_IDS)

    def iou(ids: list[int]) -> float:
        true, found = np.isin(truth, ids) & valid, np.isin(guess, ids) & valid
        union = int((true | found).sum())
        return int((true & found).sum()) / union if union else float("nan")

    per_class = [iou([value]) for value in LABEL_IDS]
    groups = {name: [value for value, of in evaluated.items() if of == name] for name in CITYSCAPES.categories}
    label = np.full(truth.shape, 255)
    predicted = np.zeros(truth.shape, int)
    for k, value in enumerate(LABEL_IDS):
        label[truth == value] = k
        predicted[guess == value] = k
    matrix = ConfusionMatrix(19)
    matrix.update(torch.from_numpy(predicted), torch.from_numpy(label))
    scores = matrix.scores(CITYSCAPES)
    assert scores["class_iou"] == pytest.approx(np.nanmean(per_class), abs=1e-12)
    assert scores["iou"]["train"] is None
    assert scores["category_iou"] == pytest.approx(np.mean([iou(ids) for ids in groups.values()]), abs=1e-12)
    assert len(groups) == 7
