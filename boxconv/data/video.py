"""Reading and writing video files with the ffmpeg program from the package imageio-ffmpeg."""

import contextlib
import itertools
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image

from box_convolution.extras import MissingPackageError, require

from ..files import replacing
from .class_table import DataError
from .image_files import PIXEL_LIMIT, check_regular, shown

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".mts", ".m2ts"})

# The colour space that players expect of high-definition video. H.264 needs even sizes, so odd ones are padded.
_ENCODE = (
    *("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2,scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"),
    *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"),
    *("-c:v", "libx264", "-crf", "18", "-movflags", "+faststart"),
)
_SPEAKER = re.compile(r"^(\[[^]]*\] *)+")  # begins a line of ffmpeg: the module that wrote it, and a memory address


@dataclass(frozen=True)
class Video:
    """A video file.

    width, height: of its frames, in pixels.
    rate: frames per second; if the rate of the file varies, the constant rate to which `frames` converts it.
    seconds: length according to the file; None if the file does not say.
    sound: whether there is a sound track.
    """

    path: Path
    width: int
    height: int
    rate: Fraction
    seconds: float | None
    sound: bool

    @property
    def expected(self) -> int | None:
        """Approximate number of frames; None if the file does not tell its length."""
        return None if self.seconds is None else round(self.seconds * self.rate)

    def frames(self, complaints: list[str]) -> Iterator[Image.Image]:
        """Every frame that can be decoded, upright, at the size of the first one, as images of mode RGB.

        ffmpeg skips damaged parts; its messages about them are added to ``complaints`` after the last frame. Raises
        DataError if something ends ffmpeg before that.
        """
        size = 3 * self.width * self.height
        with _running(*_reading(self.path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-") as (process, said):
            assert process.stdout is not None
            while len(pixels := process.stdout.read(size)) == size:
                yield Image.frombuffer("RGB", (self.width, self.height), pixels, "raw", "RGB", 0, 1)
            if process.wait() < 0:  # by a signal: frames that were there to be read were not
                raise DataError(f"{shown(self.path)}: ffmpeg was stopped by signal {-process.returncode}", "not read")
            complaints += said()


def open_video(path: Path) -> Video:
    """Open a video file. Raises DataError if it contains no video, MissingPackageError without imageio-ffmpeg."""
    ffmpeg = _ffmpeg()
    check_regular(path)
    first = (*_reading(path), "-frames:v", "1", "-f", "yuv4mpegpipe", "-pix_fmt", "yuv444p", "-")
    done = subprocess.run([ffmpeg, "-hide_banner", *first], stdin=subprocess.DEVNULL, capture_output=True)
    said = done.stderr.decode(errors="replace")
    header = re.match(rb"YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+)", done.stdout)
    if header is None:
        reason = _reason(path, said) or f"ffmpeg says nothing, and ends with status {done.returncode}"
        raise DataError(f"{shown(path)}: no video can be read from it: {reason}", "not a video")
    width, height, frames, per = map(int, header.groups())
    if width * height > PIXEL_LIMIT:
        found = f"frames of {width} x {height} pixels"
        raise DataError(f"{shown(path)}: {found} are more than {PIXEL_LIMIT} pixels", "image too large")
    length = re.search(r"Duration: (\d+):(\d+):([\d.]+)", said)
    seconds = None if length is None else 3600 * int(length[1]) + 60 * int(length[2]) + float(length[3])
    return Video(path, width, height, Fraction(frames, per), seconds, ": Audio: " in said.partition("Output #")[0])


def _reason(path: Path, said: str) -> str:
    """Why ffmpeg, which ``said`` this, found no video in a file; "" if it does not say."""
    if path.stat().st_size == 0:
        return "the file is empty"
    if ": Audio: " in said and ": Video: " not in said:
        return "it has sound, but no pictures"
    lines = [_SPEAKER.sub("", line).strip() for line in said.splitlines()]
    # Where it gives up, the last lines only repeat that something failed.
    telling = list(itertools.takewhile(lambda line: not line.startswith("Error opening"), lines)) or lines
    return f"ffmpeg says {shown(telling[-1])}" if telling else ""


@contextlib.contextmanager
def writing_video(path: Path, like: Video) -> Iterator[Callable[[npt.NDArray[np.uint8]], None]]:
    """Yield a function that adds a frame (h, w, 3) to a video with the size and frame rate of ``like``.

    The video is H.264 without sound. When the block ends it replaces ``path`` (`replacing`). Raises OSError naming
    ``path``.
    """
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{like.width}x{like.height}", "-r", str(like.rate), "-i", "-")
    with replacing(path) as temporary, _running("-y", *raw, *_ENCODE, f"file:{temporary}", stdin=True) as (run, said):
        pipe = run.stdin
        assert pipe is not None

        def failed() -> OSError:
            reason = "; ".join(said()) or f"ffmpeg ended with status {run.wait()}"
            return OSError(None, f"cannot write: {reason}; what was there before is intact", str(path))

        def add(frame: npt.NDArray[np.uint8]) -> None:
            try:
                pipe.write(np.ascontiguousarray(frame).data)
            except BrokenPipeError:
                raise failed() from None

        yield add
        with contextlib.suppress(BrokenPipeError):
            pipe.close()
        if run.wait() != 0:
            raise failed()


def _reading(path: Path) -> tuple[str, ...]:
    """ffmpeg arguments that read the first video stream of a file.

    Only local files may be read: some formats refer to other files, also on the network.
    """
    return ("-protocol_whitelist", "file,pipe", "-i", f"file:{path}", "-map", "0:v:0", "-fps_mode", "cfr")


@contextlib.contextmanager
def _running(
    *arguments: str, stdin: bool = False
) -> Iterator[tuple["subprocess.Popen[bytes]", Callable[[], list[str]]]]:
    """Run ffmpeg until the block ends; yields the process and a function that returns its messages so far."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [_ffmpeg(), "-hide_banner", "-v", "error", *arguments],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if stdin else subprocess.PIPE,
            stderr=errors,
        )
        try:
            yield process, lambda: _lines(errors)
        finally:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.wait()


def _lines(file: IO[bytes]) -> list[str]:
    file.seek(0)
    lines = (_SPEAKER.sub("", line).strip() for line in file.read().decode(errors="replace").splitlines())
    return [shown(line) for line in lines if line]


def _ffmpeg() -> str:
    require("reading and writing videos", "imageio_ffmpeg")
    try:
        path: str = import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except RuntimeError as error:  # a package without the program, for an unusual platform
        raise MissingPackageError(f"reading and writing videos: {error}") from error
    return path
