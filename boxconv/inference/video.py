"""Label the frames of a video, and write the results as videos."""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..data.class_table import DataError
from ..data.image_files import shown
from ..data.video import Video, open_video, writing_video
from ..errors import plural
from ..progress_bar import progress_bar
from ..training.loading import ahead
from .predict import Job, Labels


@dataclass(frozen=True)
class LabelledVideo:
    """The number of labelled frames, the seconds that it took, and ffmpeg's messages about damaged parts."""

    video: Video
    frames: int
    seconds: float
    complaints: tuple[str, ...]

    def summary(self) -> str:
        """One line of text."""
        parts = [
            f"{plural(self.frames, 'frame')} labelled, {self.frames / self.seconds:.1f} a second",
            f"shown at {float(self.video.rate):.6g} frames a second, as before",
        ]
        if self.video.sound:
            parts.append("its sound is left out")
        if self.complaints:
            of = f", which should have about {self.video.expected} frames" if self.video.expected else ""
            parts.append(f"what is damaged in it is skipped{of} (ffmpeg: {self.complaints[0]})")
        return f"{shown(self.video.path)}: {'; '.join(parts)}"


def label_video(
    job: Job,
    label: Callable[[Any], Labels],
    pictures: Callable[[Image.Image, Labels], Sequence[npt.NDArray[np.uint8]]],
    *,
    progress: bool = True,
) -> LabelledVideo:
    """Write the outputs of ``job``: video files with the size and frame rate of its input.

    While the network computes, one thread decodes the next frames and one writes the last ones.

    Args:
        label: from a frame to its label map (h, w).
        pictures: from a frame and its label map to one frame (h, w, 3) for each output.

    Raises DataError if no frame can be decoded, OSError if an output cannot be written.
    """
    started = time.perf_counter()
    video = open_video(job.image)
    complaints: list[str] = []
    count = 0
    for output in job.outputs:
        output.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        outputs = [stack.enter_context(writing_video(path, video)) for path in job.outputs]
        writer = stack.enter_context(ThreadPoolExecutor(1))

        def write(frame: Image.Image, labels: Labels) -> None:
            for output, picture in zip(outputs, pictures(frame, labels), strict=True):
                output(picture)

        waiting: list[Future[None]] = []
        frames = ahead(video.frames(complaints))
        for frame in progress_bar(frames, desc=job.image.name, unit="frame", total=video.expected, shown=progress):
            waiting.append(writer.submit(write, frame, label(frame)))
            count += 1
            if len(waiting) > 2:
                waiting.pop(0).result()
        for writing in waiting:
            writing.result()
        if count == 0:
            raise DataError(f"{shown(job.image)}: no frame can be decoded: {'; '.join(complaints)}", "not a video")
    return LabelledVideo(video, count, time.perf_counter() - started, tuple(complaints))
