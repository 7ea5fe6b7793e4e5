"""Importing small versions of the official archives of SUN RGB-D: the right pairs in the right splits."""

from pathlib import Path

import data_trees
import numpy as np
import pytest
from data_trees import noise, pick

from boxconv.data.checks.check import check
from boxconv.data.class_table import DataError
from boxconv.data.datasets import SegmentationFolder
from boxconv.data.layouts.sunrgbd import SUNRGBD, SunRgbdLayout
from boxconv.data.layouts.sunrgbd_import import LABELS, META, SPLITS, plan, write

h5py = pytest.importorskip("h5py")
scipy_io = pytest.importorskip("scipy.io")

SCENES = {
    "kv2/kinect2data/000065_2014-05-16_20-14-38-resize": "test",
    "kv1/NYUdata/NYU0001": "train",
    "realsense/lg/2014_10_21-18_16_30-1311000041": "test",
    "xtion/sun3ddata/mit_32_d507/d507_2/0004646": "train",
    "kv1/b3dodata/img_0063": "train",
}
SIZE = (12, 20)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The archives as unzipped; paths in the MATLAB files are those of the machine where they were made."""
    root = tmp_path / "official"
    server = "/n/fs/sun3d/data/SUNRGBD/"
    for path in (META, SPLITS):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
    kinds = [("sequenceName", object), ("rgbname", object), ("rgbpath", object)]
    meta = np.zeros((1, len(SCENES)), kinds)
    for i, folder in enumerate(SCENES):
        name = f"{Path(folder).name}.jpg"
        data_trees.save(root / "SUNRGBD" / folder / "image" / name, noise(folder, SIZE))
        meta[0, i] = (f"SUNRGBD/{folder}/", name, f"{server}{folder}/image/{name}")
    scipy_io.savemat(root / META, {"SUNRGBDMeta": meta})
    lists = {
        name: np.array([[server + folder for folder, split in SCENES.items() if name == f"all{split}"]], object)
        for name in ("alltrain", "alltest")
    }
    scipy_io.savemat(root / SPLITS, lists)
    with h5py.File(root / LABELS, "w") as file:
        references = file.create_group("SUNRGBD2Dseg").create_dataset("seglabel", (len(SCENES), 1), h5py.ref_dtype)
        for i, folder in enumerate(SCENES):
            stored = file.create_dataset(f"#refs#/{i}", data=pick(folder, range(38), SIZE).T.astype(np.uint16))
            references[i, 0] = stored.ref
    return root


def test_pairs_and_splits(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert len(list(write(root, plan(root, out)))) == 5
    for split in ("train", "test"):
        data = SegmentationFolder(out, split, SUNRGBD, layout=SunRgbdLayout())
        folders = [folder for folder, of in SCENES.items() if of == split]
        assert len(data) == len(folders)
        for pair, (_, label), folder in zip(data.pairs, data, folders, strict=True):
            source = root / "SUNRGBD" / folder / "image" / f"{Path(folder).name}.jpg"
            assert pair.image.read_bytes() == source.read_bytes()
            expected = pick(folder, range(38), SIZE).astype(int) - 1
            assert np.array_equal(np.asarray(label), np.where(expected < 0, 255, expected))
    assert check(out, SUNRGBD, layout=SunRgbdLayout()).ok


def test_resuming_after_an_interruption(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    writing = write(root, plan(root, out))
    next(writing), next(writing)
    writing.close()
    with pytest.raises(DataError, match="holds files; choose a new --out, or give --resume"):
        plan(root, out)
    rest = plan(root, out, resume=True)
    assert [scene.number for scene in rest] == [2, 3, 4]
    assert len(list(write(root, rest))) == 3
    assert plan(root, out, resume=True) == []


def test_what_is_missing_or_damaged_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="never written to"):
        plan(root, root / "out")
    (root / "SUNRGBD/kv1/NYUdata/NYU0001/image/NYU0001.jpg").unlink()
    with pytest.raises(DataError, match=r"NYU0001\.jpg: no such image; 1 of 5 are missing"):
        plan(root, tmp_path / "out")
    for path, variable in ((META, "SUNRGBDMeta"), (SPLITS, "alltrain")):
        content = (root / path).read_bytes()
        (root / path).write_bytes(content[:200])
        with pytest.raises(DataError, match=rf"{path.name}: no variable {variable} can be read"):
            plan(root, tmp_path / "out")
        (root / path).unlink()
        with pytest.raises(DataError, match=rf"{path.name}: cannot be read: No such file"):
            plan(root, tmp_path / "out")
        (root / path).write_bytes(content)


def test_damaged_labels(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with h5py.File(root / LABELS, "a") as file:
        file["#refs#/0"][3, 4] = 38
    with pytest.raises(DataError, match=r"SUNRGBD2Dseg\.mat: scene 1: expected a map of labels 0 to 37"):
        next(write(root, plan(root, out)))
    with h5py.File(root / LABELS, "a") as file:
        del file["SUNRGBD2Dseg/seglabel"]
    with pytest.raises(DataError, match=r"SUNRGBD2Dseg\.mat: no label of scene 1"):
        next(write(root, plan(root, out)))
    (root / LABELS).write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(DataError, match=r"SUNRGBD2Dseg\.mat: cannot be read as HDF5"):
        next(write(root, plan(root, out)))
    assert not out.exists()


def test_a_label_of_another_size(root: Path, tmp_path: Path) -> None:
    folder = "kv2/kinect2data/000065_2014-05-16_20-14-38-resize"
    data_trees.save(root / "SUNRGBD" / folder / "image" / f"{Path(folder).name}.jpg", noise("a", (13, 20)))
    with pytest.raises(DataError, match=r"SUNRGBD2Dseg\.mat: the label is 20 x 12 pixels"):
        list(write(root, plan(root, tmp_path / "out")))
    assert not (tmp_path / "out").exists()
