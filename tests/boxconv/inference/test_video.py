"""Labelling videos: sizes, frame rates, sound, damage and hostile files."""

import os
import re
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from command import boxconv
from PIL import Image

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

from boxconv.data.class_table import DataError  # noqa: E402
from boxconv.data.video import open_video, writing_video  # noqa: E402
from boxconv.inference.predict import Job  # noqa: E402
from boxconv.inference.video import label_video  # noqa: E402

SOUND = ("-f", "lavfi", "-i", "sine=duration=1")


def make(path, *arguments, size="48x32", rate="12", seconds=1, source="testsrc"):
    """A video drawn by ffmpeg."""
    drawn = f"{source}=size={size}:rate={rate}:duration={seconds}"
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "lavfi", "-i", drawn, *arguments, f"file:{path}"],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return path


def bright(frame):
    return (np.asarray(frame).mean(2) > 127).astype(np.uint8)


def grey(frame, labels):
    return [np.repeat(labels[..., None] * np.uint8(200), 3, 2)]


def labelled(path, out, label=bright):
    return label_video(Job(path, (out,)), label, grey, progress=False)


def frames(path):
    return [np.asarray(frame) for frame in open_video(path).frames([])]


def test_every_frame_is_labelled(tmp_path):
    source = make(tmp_path / "drive.mp4", *SOUND, rate="30000/1001")
    found = labelled(source, tmp_path / "out" / "drive.mp4")
    assert (found.frames, found.video.rate, found.video.sound) == (30, Fraction(30000, 1001), True)
    summary = (
        rf"{re.escape(str(source))}: 30 frames labelled, [\d.]+ a second; shown at 29.97 .*; its sound is left out"
    )
    assert re.fullmatch(summary, found.summary())
    written = open_video(tmp_path / "out" / "drive.mp4")
    assert (written.width, written.height, written.rate, written.sound) == (48, 32, Fraction(30000, 1001), False)
    pairs = list(zip(frames(source), frames(written.path), strict=True))
    assert len(pairs) == 30
    for before, after in pairs:  # H.264 blurs borders
        assert (bright(after * np.uint8(1)) == bright(before)).mean() > 0.9


@pytest.mark.parametrize("size, written", [("47x31", (48, 32)), ("48x33", (48, 34)), ("2x2", (2, 2))])
def test_odd_sizes_get_a_row_or_column_more(tmp_path, size, written):
    labelled(make(tmp_path / "a.mkv", "-pix_fmt", "yuv444p", size=size), tmp_path / "out.mp4")
    video = open_video(tmp_path / "out.mp4")
    assert (video.width, video.height) == written


def test_turned_videos_are_upright(tmp_path):
    flat = make(tmp_path / "flat.mp4")
    turned = tmp_path / "turned.mp4"
    exe = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([exe, "-v", "error", "-display_rotation", "90", "-i", flat, "-c", "copy", turned], check=True)
    video = open_video(turned)
    assert (video.width, video.height) == (32, 48)
    assert (frames(turned)[0] == np.rot90(frames(flat)[0])).mean() > 0.9


def test_a_size_that_changes(tmp_path):
    """Every frame has the size of the first one."""
    parts = [make(tmp_path / f"{size}.ts", size=size).read_bytes() for size in ("48x32", "96x64")]
    (tmp_path / "both.mts").write_bytes(b"".join(parts))
    assert {frame.shape for frame in frames(tmp_path / "both.mts")} == {(32, 48, 3)}
    assert len(frames(tmp_path / "both.mts")) > 12


def test_colours_stay(tmp_path):
    video = open_video(make(tmp_path / "a.mp4"))
    colours = [(128, 0, 0), (64, 0, 128), (0, 128, 192), (192, 192, 128)]
    with writing_video(tmp_path / "out.mp4", video) as add:
        for colour in colours:
            add(np.full((32, 48, 3), colour, np.uint8))
    for frame, colour in zip(frames(tmp_path / "out.mp4"), colours, strict=True):
        assert abs(frame.astype(int) - colour).max() <= 5


def test_a_damaged_end(tmp_path):
    whole = make(tmp_path / "whole.mkv", "-g", "1").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    found = labelled(tmp_path / "cut.mkv", tmp_path / "out.mp4")
    assert 2 < found.frames < 12
    assert len(frames(tmp_path / "out.mp4")) == found.frames
    assert "what is damaged in it is skipped, which should have about 12 frames (ffmpeg: " in found.summary()
    assert "0x" not in found.summary()


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "the file is empty"),
        (b"no video", "ffmpeg says moov atom not found"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:secret.ts\n#EXT-X-ENDLIST\n", "ffmpeg says "),
    ],
)
def test_files_that_are_not_videos(tmp_path, content, reason):
    path = tmp_path / "bad\n.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\\n\.mp4: no video can be read from it: {reason}"):
        open_video(path)


def test_only_sound(tmp_path):
    make(tmp_path / "sound.mp4", *SOUND, "-map", "1:a")
    with pytest.raises(DataError, match="no video can be read from it: it has sound, but no pictures"):
        open_video(tmp_path / "sound.mp4")


def test_one_of_several_cannot_be_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.mp4").write_bytes(b"no video")
    make(Path("b.mp4"), seconds=0.25)
    line = ["predict", "boxonlyenet-camvid", "a.mp4", "b.mp4", "--quiet"]
    status, out, errors = boxconv(capsys, *line)
    assert (status, out) == (1, "")
    assert "a.mp4: no video can be read from it" in errors
    assert "; --keep-going skips such files, --resume keeps what is written already" in errors
    status, out, errors = boxconv(capsys, *line, "--keep-going")
    assert (status, "b.mp4: 3 frames labelled" in out) == (1, True)
    assert "1 left out:\n  a.mp4: no video can be read from it" in errors


def test_an_error_leaves_nothing_behind(tmp_path):
    def fail(frame):
        raise DataError("no label")

    source = make(tmp_path / "a.mp4")
    with pytest.raises(DataError, match="no label"):
        labelled(source, tmp_path / "out.mp4", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_video_of_which_only_a_part_was_read_is_not_taken_for_whole(tmp_path, monkeypatch):
    source = make(tmp_path / "a.mp4", size="640x480", seconds=2)
    video, started, popen = open_video(source), [], subprocess.Popen

    def recorded(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", recorded)
    reading = video.frames([])
    next(reading)
    started[0].kill()
    with pytest.raises(DataError, match=r"a\.mp4: ffmpeg was stopped by signal 9"):
        list(reading)


@pytest.mark.parametrize("failing", [0, 1])
def test_an_output_that_cannot_be_written_is_named(tmp_path, failing):
    source = make(tmp_path / "a.mp4", seconds=3)
    outputs = [tmp_path / "0.mp4", tmp_path / "1.mp4"]
    outputs[failing].mkdir()
    job = Job(source, tuple(outputs))
    with pytest.raises(OSError, match="cannot write: ") as caught:
        label_video(job, bright, lambda frame, labels: grey(frame, labels) * 2, progress=False)
    assert caught.value.filename == str(outputs[failing])
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["-y.mp4", "http:a.mp4", "%03d.mp4", os.fsdecode(b"\xff \n.mp4")])
def test_hostile_names(tmp_path, monkeypatch, name, capsys):
    monkeypatch.chdir(tmp_path)
    make(Path("plain.mp4"))
    os.rename("plain.mp4", name)
    assert labelled(Path(name), Path(f"out {name}")).frames == 12
    assert sorted(os.listdir()) == sorted((name, f"out {name}"))


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "drive.mp4", *SOUND, seconds=0.5)
    Image.new("RGB", (48, 32), "grey").save("photo.png")
    status, out, errors = boxconv(capsys, "predict", "boxonlyenet-camvid", "drive.mp4", "photo.png", "--quiet")
    assert (status, errors) == (0, "")
    assert "1 image labelled by boxonlyenet-camvid" in out
    assert "drive.mp4: 6 frames labelled" in out
    assert "predictions/drive_overlay.mp4" in out
    assert sorted(path.name for path in (tmp_path / "predictions").iterdir()) == [
        "drive_overlay.mp4", "photo.png", "photo_colour.png",
    ]  # fmt: skip
    again = ["predict", "boxonlyenet-camvid", "drive.mp4", "--quiet"]
    status, _, errors = boxconv(capsys, *again)
    assert (status, "1 of 1 outputs exists already, the first is predictions/drive_overlay.mp4;" in errors) == (1, True)
    status, out, _ = boxconv(capsys, *again, "--save", "overlay", "colours", "--resume")
    assert status == 0
    assert len(frames(tmp_path / "predictions" / "drive_colour.mp4")) == 6
