"""Reading, network and writing at the same time: results in order, separate errors, and a clean stop."""

import threading

import numpy as np
import pytest
from PIL import Image

from boxconv.data.class_table import DataError
from boxconv.data.large_images import LargeImage
from boxconv.files import write_png
from boxconv.inference.predict import Job, Prediction, predict

LONG = 60  # seconds, after which a test has failed


@pytest.fixture
def jobs(tmp_path):
    return [Job(tmp_path / f"{i}.jpg", (tmp_path / "out" / f"{i}.png",)) for i in range(8)]


def run(jobs, label, reader, **options):
    return predict(jobs, lambda image: Prediction(label(image)), write, reader=reader, progress=False, **options)


def write(job, image, found):
    job.outputs[0].parent.mkdir(exist_ok=True)
    write_png(job.outputs[0], Image.fromarray(found.labels))


def labels_of(image):
    return np.asarray(image)[..., 0]


def picture(path):
    return Image.new("RGB", (6, 4), (int(path.stem), 0, 0))


def test_three_images_are_worked_on_at_the_same_time(jobs):
    """The network waits, in each image, until the next image is being read and the previous one has been written."""
    reading = [threading.Event() for _ in jobs]

    def reader(path):
        reading[int(path.stem)].set()
        return picture(path)

    def label(image):
        i = image.getpixel((0, 0))[0]
        if i + 1 < len(jobs):
            assert reading[i + 1].wait(LONG)
        written = threading.Event()
        for _ in range(LONG * 100):
            if i == 0 or jobs[i - 1].done():
                return labels_of(image)
            written.wait(0.01)
        raise AssertionError("the last image was not written meanwhile")

    results = list(run(jobs, label, reader))
    assert [result.job for result in results] == jobs
    assert [np.asarray(Image.open(job.outputs[0])).max() for job in jobs] == list(range(8))


def damaged(path):
    """A file whose first rows are intact, so that the damage is found only while the network is running."""

    def rows(top, bottom):
        if top > 100:
            raise DataError(f"{path}: the file is damaged")
        return Image.new("RGB", (40, bottom - top))

    return LargeImage((40, 500), rows)


def test_damage_that_is_found_late_does_not_lose_the_others(jobs):
    def reader(path):
        return damaged(path) if path.stem in "25" else picture(path)

    def label(image):
        if isinstance(image, LargeImage):
            return np.concatenate([labels_of(image.crop((0, top, 40, top + 50))) for top in range(0, 500, 50)])
        return labels_of(image)

    results = list(run(jobs, label, reader, keep_going=True))
    assert [result.job for result in results] == jobs
    assert [result.job.image.stem for result in results if result.error is not None] == ["2", "5"]
    assert "2.jpg: the file is damaged" in results[2].error
    assert [job.done() for job in jobs] == [stem not in "25" for stem in "01234567"]
    with pytest.raises(DataError, match=r"2\.jpg"):
        list(run(jobs, label, reader))


def test_stopped_by_the_user_every_file_is_whole(jobs, tmp_path):
    def label(image):
        if image.getpixel((0, 0))[0] == 5:
            raise KeyboardInterrupt
        return labels_of(image)

    with pytest.raises(KeyboardInterrupt):
        list(run(jobs, label, picture))
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == [f"{i}.png" for i in range(5)], "no temporary file is left"
    for i in range(5):
        assert np.asarray(Image.open(tmp_path / "out" / f"{i}.png")).max() == i
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name and thread.is_alive()
                and thread.join(LONG)]  # fmt: skip
