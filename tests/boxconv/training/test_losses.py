"""Losses: their formulas, void pixels, and batches in parts, whose losses must add up."""

import math
from typing import get_args

import pytest
import torch
from torch.nn.functional import cross_entropy

from boxconv.training.config import Loss
from boxconv.training.losses import BatchLoss, class_weights

WEIGHT = torch.tensor([1.0, 2.0, 0.5])
LOSSES = get_args(Loss)


def batch(count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(count, 3, 4, 5, generator=generator, dtype=torch.float32)
    label = torch.randint(3, (count, 4, 5), generator=generator)
    label[0, :2] = 255
    return logits.requires_grad_(), label


def test_cross_entropy_with_and_without_weights() -> None:
    logits, label = batch()
    weighted, plain = (BatchLoss(name, WEIGHT)(logits, label) for name in ("weighted", "cross-entropy"))
    torch.testing.assert_close(weighted, cross_entropy(logits, label, WEIGHT, ignore_index=255))
    torch.testing.assert_close(plain, cross_entropy(logits, label, ignore_index=255))


def test_focal_is_its_formula() -> None:
    logits, label = batch()
    total = weights = 0.0
    for scores, truth in zip(logits.movedim(1, -1).flatten(0, 2), label.flatten(), strict=True):
        if truth != 255:
            p = scores.softmax(0)[truth]
            total -= WEIGHT[truth] * (1 - p) ** 2 * p.log()
            weights += WEIGHT[truth]
    torch.testing.assert_close(BatchLoss("focal", WEIGHT)(logits, label), total / weights)


def test_dice_is_its_formula() -> None:
    logits, label = batch()
    label[2] = 255  # an image without labels counts nowhere
    label[3][label[3] == 1] = 0  # and a class that the labels lack not in the mean of its image
    coefficients = []
    for scores, truth in zip(logits, label, strict=True):
        if (truth != 255).any():
            p, valid = scores.softmax(0), truth != 255
            found = [
                2 * p[k][truth == k].sum() / (p[k][valid].sum() + (truth == k).sum())
                for k in range(3)
                if (truth == k).any()
            ]
            coefficients.append(torch.stack(found).mean())
    expected = 1 - torch.stack(coefficients).mean()
    both = BatchLoss("dice", WEIGHT)(logits, label)
    torch.testing.assert_close(both - BatchLoss("weighted", WEIGHT)(logits, label), expected)
    right = torch.nn.functional.one_hot(label.where(label != 255, 0), 3).movedim(-1, 1) * 50.0
    assert BatchLoss("dice", WEIGHT)(right, label) < 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_parts_add_up_to_the_batch(name: Loss) -> None:
    logits, label = batch()
    loss = BatchLoss(name, WEIGHT)
    whole = loss(logits, label)
    (expected,) = torch.autograd.grad(whole, logits)
    sizes = loss.sizes(label)
    parts = sum(loss(logits[part], label[part], sizes) for part in (slice(1), slice(1, 4)))
    (gradient,) = torch.autograd.grad(parts, logits)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("name", LOSSES)
def test_void_has_no_gradient(name: Loss) -> None:
    logits, label = batch()
    loss = BatchLoss(name, WEIGHT)
    (gradient,) = torch.autograd.grad(loss(logits, label), logits)
    assert torch.equal(gradient[0, :, :2], torch.zeros(3, 2, 5))
    assert gradient[0, :, 2:].abs().min() > 0
    nothing = loss(logits, torch.full_like(label, 255))
    assert nothing.item() == 0
    assert torch.equal(torch.autograd.grad(nothing, logits)[0], torch.zeros_like(logits))


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_descent_lowers_it(name: Loss) -> None:
    logits, label = batch()
    loss, start = BatchLoss(name, WEIGHT), logits
    for _ in range(20):
        (gradient,) = torch.autograd.grad(loss(logits, label), logits)
        logits = (logits - 20 * gradient).detach().requires_grad_()
    assert loss(logits, label) < 0.5 * loss(start, label)


def test_class_weights() -> None:
    weights = class_weights(torch.tensor([6, 3, 0]))
    expected = [1 / math.log(1.10 + share) for share in (6 / 9, 3 / 9, 0)]
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(expected)
    assert class_weights(torch.tensor([1, 1]), 1.02).tolist() == pytest.approx([1 / math.log(1.52)] * 2)
    for bad in (torch.zeros(3), torch.tensor([1, -1, 5]), torch.ones(2, 2)):
        with pytest.raises(ValueError, match="pixel counts"):
            class_weights(bad)
    with pytest.raises(ValueError, match="constant"):
        class_weights(torch.ones(2), 1.0)
