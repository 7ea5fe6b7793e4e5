"""The image cache: the same results as without it; entries are written again after a change or damage."""

import os
import pickle
from pathlib import Path

import data_trees
import numpy as np
import pytest
import torch
from data_trees import THREE, noise, save
from torch.utils.data import DataLoader

from boxconv.data.datasets import SegmentationFolder
from boxconv.data.image_cache import ImageCache
from boxconv.data.transforms import Augment, EvalTransform

SIZE = (6, 10)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return data_trees.folder(tmp_path / "data")


class Counting(SegmentationFolder):
    """Counts how often files are decoded."""

    decoded = 0

    def read(self, index):
        self.decoded += 1
        return super().read(index)


def opened(root: Path, transform=None, size=SIZE, **options) -> Counting:
    cache = ImageCache(root.parent / "cache", size)
    return Counting(root, "train", THREE, transform=transform, cache=cache, **options)


def equal(first, second) -> bool:
    return all(map(torch.equal, first, second))


def test_evaluation_is_the_same_to_the_bit_and_decodes_once(root: Path) -> None:
    plain = SegmentationFolder(root, "train", THREE, transform=EvalTransform(SIZE))
    cached = opened(root, EvalTransform(SIZE))
    for _ in range(2):
        assert all(equal(cached[i], plain[i]) for i in range(4))
    assert cached.decoded == 4
    again = opened(root, EvalTransform(SIZE))
    assert equal(again[3], plain[3])
    assert again.decoded == 0


def test_augmentation_depends_on_the_sample_alone(root: Path) -> None:
    first = opened(root, Augment(SIZE), seed=3)
    expected = [first[2, i] for i in range(4)]
    assert not equal(first[1, 0], expected[0])
    loader = DataLoader(
        pickle.loads(pickle.dumps(first)), batch_size=None, sampler=[(2, i) for i in range(4)], num_workers=2
    )  # type: ignore[call-overload]
    assert all(map(equal, loader, expected))


def test_changes_are_noticed(root: Path) -> None:
    data = opened(root)
    pair = data.pairs[1]
    data[1]
    save(pair.image, noise("new"))
    assert np.array_equal(np.asarray(data[1][0]), np.asarray(opened(root, size=SIZE)[1][0]))
    assert data.decoded == 2
    os.utime(pair.label, ns=(1, 1))
    data[1]
    assert data.decoded == 3
    bordered = opened(root, border=1)
    bordered[1]
    assert bordered.decoded == 1
    assert opened(root, size=(5, 10))[1][0].size == (10, 5)
    data.pairs[1].image.unlink()
    with pytest.raises(ValueError, match=r"scene1\.png: cannot be read"):
        data[1]


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: c[:9], lambda c: b"", lambda c: c[:90] + b"?" + c[91:]])
def test_damaged_entries_are_made_anew(damage, root: Path) -> None:
    data = opened(root)
    expected = [np.asarray(part).copy() for part in data[0]]
    path = data.cache.path(data.pairs[0])
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert all(np.array_equal(np.asarray(part), old) for part, old in zip(data[0], expected, strict=True))
    assert data.decoded == 2
    assert path.read_bytes() == content


def test_a_damaged_image_leaves_nothing(root: Path) -> None:
    data = opened(root)
    data.pairs[0].image.write_bytes(b"")
    with pytest.raises(ValueError, match="empty"):
        data[0]
    assert not (root.parent / "cache").exists()
