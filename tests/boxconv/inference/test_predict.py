"""Prediction: files in, files out, nothing replaced."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from boxconv.data.class_table import ClassTable, DataError
from boxconv.data.image_files import left_out
from boxconv.data.transforms import EvalTransform
from boxconv.inference.predict import Job, pending, plan, predict, predict_image
from boxconv.reports.results import ResultWriter

CLASSES = ClassTable(("dark", "bright"), ((0, 0, 90), (255, 220, 0)))


class Brightness(nn.Module):
    """Class 1 where the image is brighter than the mean colour."""

    def forward(self, image):
        mean = image.mean(1, keepdim=True)
        return torch.cat((-mean, mean), 1)


def run(jobs, write=None, **options):
    """Predict with a network that compares brightness; returns the results."""
    writer = ResultWriter(["maps", "colours"], CLASSES)

    def label(image):
        return predict_image(Brightness(), image, EvalTransform())

    def both(job, image, found):
        writer.write(job.image, job.outputs, image, *found)

    return list(predict(jobs, label, write or both, progress=False, **options))


@pytest.fixture
def photo(tmp_path):
    """Left half dark, right half bright, 30 x 50."""
    pixels = np.zeros((30, 50, 3), np.uint8)
    pixels[:, 25:] = 255
    path = tmp_path / "photos" / "a photo.jpg"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path, quality=95)
    return path


@pytest.mark.parametrize("size", [None, (16, 24), (60, 100)])
def test_the_label_has_the_size_of_the_image(photo, size):
    label = predict_image(Brightness(), Image.open(photo), EvalTransform(size)).labels
    assert label.shape == (30, 50)
    assert label.dtype == np.uint8
    assert (label[:, :22] == 0).all()
    assert (label[:, 28:] == 1).all()


def test_probabilities_of_the_same_labels(photo):
    image = Image.open(photo)
    labels, probabilities = predict_image(Brightness(), image, EvalTransform((16, 24)), probabilities=True)
    assert (labels == predict_image(Brightness(), image, EvalTransform((16, 24))).labels).all()
    assert (probabilities.shape, probabilities.dtype) == ((2, 30, 50), np.float16)
    assert abs(probabilities.astype(np.float64).sum(0) - 1).max() <= 2 * 2**-12  # each is rounded by half of 2**-11
    clear = abs(probabilities[0] - probabilities[1]) > 2**-10
    assert clear.mean() > 0.9
    assert (probabilities.argmax(0) == labels)[clear].all()


def test_writes_indices_and_a_picture(photo, tmp_path):
    out = tmp_path / "out"
    jobs = plan([photo.parent], out)
    assert not out.exists()
    results = run(jobs)
    assert [(result.job.image, result.error) for result in results] == [(photo, None)]
    assert {path.name for path in out.iterdir()} == {"a photo.png", "a photo_colour.png"}
    label = np.asarray(Image.open(out / "a photo.png"))
    assert set(np.unique(label)) == {0, 1}
    assert tuple(np.asarray(Image.open(out / "a photo_colour.png"))[0, -1]) == (255, 220, 0)


@pytest.mark.parametrize(
    "inputs, out, message",
    [
        (["missing"], "out", "missing: no such file or folder, nor one of the package's networks, boxenet-camvid"),
        (["missing.png"], "out", "missing.png: no such file or folder$"),
        (["empty"], "out", "empty: no images in this folder"),
        (["photos", "same"], "out", r"would be written for both .*photos.*same.*give the folder that both are in"),
        (["photos/a photo.jpg", "photos/a photo.jpg"], "out", r"a photo\.jpg: given twice"),
        (["texts"], "out", r"texts: no images in this folder, only 2 \.txt, 1 without suffix"),
        (["labels"], "labels", r"labels: results would mix with the images in this folder"),
        (["labels/a.png"], "labels", r"would replace an input"),
        (["photos"], "photos/a photo.jpg", "a file is in the place of the output folder"),
        (["photos"], "done", r"1 of 2 outputs exists already, the first is .*a photo\.png; .*--overwrite"),
    ],
)
def test_refuses_before_anything_is_written(photo, tmp_path, inputs, out, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.TXT", "README"):
        (tmp_path / "texts" / name).touch()
    for name in ("same/a photo.jpg", "labels/a.png", "done/a photo.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=message):
        pending(plan([tmp_path / name for name in inputs], tmp_path / out), "refuse")
    assert sorted(tmp_path.rglob("*")) == before


def tree(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".txt", ".pdf"):
            path.touch()
        else:
            Image.new("RGB", (6, 4)).save(path)
    return root


def test_nested_folders_are_mirrored_and_names_never_collide(tmp_path):
    names = ("x.jpg", "a/x.jpg", "b/c/x.jpg", "b/x.png", "b/x.jpg", "a/.hidden.jpg", "a/x_colour.gif", "b/notes.txt")
    root = tree(tmp_path / "tree", *names)
    (root / "link").symlink_to(root / "a")
    out = root / "out"
    for _ in range(2):  # results of the first time, which lie in the folder, are no images of the second
        jobs = plan([root], out)
        run(jobs)
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.png"))
    assert written == [
        "a/x.jpg.png", "a/x.jpg_colour.png", "a/x_colour.gif.png", "a/x_colour.gif_colour.png",
        "b/c/x.png", "b/c/x_colour.png", "b/x.jpg.png", "b/x.jpg_colour.png", "b/x.png.png", "b/x.png_colour.png",
        "x.png", "x_colour.png",
    ]  # fmt: skip
    assert {job.image.relative_to(root).as_posix() for job in jobs} == set(names) - {"a/.hidden.jpg", "b/notes.txt"}
    assert left_out(root, out) == {".txt": 1, "folder": 1}


def test_overwrite_is_possible_when_asked(photo, tmp_path):
    for _ in range(2):
        jobs = pending(plan([photo], tmp_path / "out"), "overwrite")
        run(jobs)


def test_an_unreadable_image_is_named(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"broken\.png"):
        run(plan([broken], tmp_path / "out"))


def many(folder, count):
    folder.mkdir()
    for i in range(count):
        Image.new("RGB", (6, 4), (i, i, i)).save(folder / f"{i}.png")
    return folder


def test_resuming_skips_what_is_done_and_nothing_else(tmp_path):
    jobs, out = plan([many(tmp_path / "in", 5)], tmp_path / "out"), tmp_path / "out"
    run(jobs[:3])
    jobs[1].outputs[1].unlink()  # as if it had been killed between the two
    left = pending(jobs, "resume")
    assert left == [jobs[1], jobs[3], jobs[4]]
    run(left)
    assert pending(jobs, "resume") == []
    assert len(list(out.iterdir())) == 10


def test_bad_images_are_left_out_when_asked(tmp_path):
    folder = many(tmp_path / "in", 4)
    (folder / "2.png").write_bytes(b"no image")
    jobs = plan([folder], tmp_path / "out")
    with pytest.raises(DataError, match=r"2\.png"):
        run(jobs)
    results = run(jobs, keep_going=True)
    assert [result.job for result in results] == jobs
    assert [result.error is None for result in results] == [True, True, False, True]
    assert "2.png" in results[2].error
    assert not jobs[2].done()


def test_images_are_not_all_in_memory_at_once(tmp_path):
    """Images are opened only a few ahead of those that have been written."""
    opened, written, most = [], [], 0

    def reader(path):
        nonlocal most
        opened.append(path)
        most = max(most, len(opened) - len(written))
        return Image.new("RGB", (6, 4))

    jobs = [Job(Path(f"{i}.png"), (tmp_path / f"{i}.png",)) for i in range(50)]
    results = run(jobs, lambda job, image, found: written.append(job), reader=reader)
    assert [result.job for result in results] == jobs
    assert len(written) == 50
    assert most <= 8


def test_an_output_that_cannot_be_written_is_an_error_that_names_the_file(photo, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a photo.png").mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError, match="cannot write") as caught:
        run(plan([photo], tmp_path / "out"))
    assert caught.value.filename.endswith("a photo.png")


def test_the_longest_possible_names(tmp_path):
    image = tmp_path / ("n" * 240 + ".png")
    Image.new("RGB", (6, 4)).save(image)
    jobs = plan([image], tmp_path / "out")
    run(jobs)
    assert jobs[0].done()
