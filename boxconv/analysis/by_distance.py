"""Accuracy between two look-alike classes, as a function of the distance to the evidence that tells them apart.

A pixel is right if the score of its class is larger than that of the look-alike; scores of other classes are ignored.
The accuracy in a range of distances is the share of right pixels of each class, averaged over the two. So a network
that ignores the evidence has 50 %, even if one class has more pixels.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..bootstrap import RESAMPLES, interval
from ..data.scenes.dataset import SCENE_CLASSES, RoadScenes
from ..data.scenes.evidence import QUESTIONS, ask
from ..errors import UsageError
from ..progress_bar import progress_bar
from ..reports.run_comparison import Experiment, RunError, settings_of
from ..reports.tables import Section, Table

RANGES = 32
"""Number of ranges of distances in one width of the image."""
RARE = 0.01
"""Ranges with a smaller share of a question's pixels are left out: too few scenes have such distances."""
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """How well a network answers one question, in each of n ranges of the distance.

    start, end: (n,) limits of the ranges, as shares of the image's width.
    accuracy: (n,) from 0 to 1. low, high: (n,) its confidence interval, by bootstrap over scenes.
    pixels: (n, 2) number of pixels of either side.
    overall: accuracy over all distances.
    """

    start: list[float]
    end: list[float]
    accuracy: list[float]
    low: list[float]
    high: list[float]
    pixels: list[list[int]]
    overall: float


@dataclass(frozen=True)
class Measured(Experiment):
    """A trained network and its answers, by the name of the question.

    `noted_by` is as in `run_comparison.FinishedRun`. `scenes`: number of scenes that it was asked about.
    """

    scenes: int
    answers: dict[str, Answers]
    noted_by: str

    @property
    def identity(self) -> str:
        """Equal for two runs whose results must be equal."""
        return json.dumps([self.network, self.seed, self.decisive], sort_keys=True)

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> "Measured":
        answers = {name: Answers(**entry) for name, entry in values["answers"].items()}
        return cls(**{**values, "answers": answers})


def read_kept(path: Path | None, defaults: Mapping[str, Any]) -> list[Measured]:
    """Read results from a file with the result of `run_comparison.kept`; none if there is no file.

    defaults: values of settings that are newer than the file. Raises RunError for a file with other content.
    """
    if path is None or not path.exists():
        return []
    try:
        runs = [Measured.from_plain(values) for values in json.loads(path.read_text(encoding="utf-8"))]
        return [replace(run, settings=settings_of(run.settings, defaults)) for run in runs]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: holds nothing that was measured: {type(error).__name__}: {error}") from error


@torch.inference_mode()
def answers_on_scenes(
    networks: Sequence[Any], lengths: Sequence[int], device: torch.device, *, progress: bool = True
) -> list[dict[str, Answers]]:
    """The answers of each of ``networks``, by question, on its first validation scenes.

    networks: from `boxconv.open_network`, trained on drawn scenes, with their models on ``device``.
    lengths: number of scenes for each of them.

    All networks see a scene before the next one is drawn, so each scene is drawn only once for each image size.
    """
    sides: dict[str, Any] = {
        question.name: tuple([SCENE_CLASSES.names.index(name) for name in side] for side in question.sides)
        for question in QUESTIONS
    }
    counts: list[dict[str, list[Counts]]] = [{question.name: [] for question in QUESTIONS} for _ in networks]
    for size in sorted({network.config.size for network in networks}):
        members = [k for k, network in enumerate(networks) if network.config.size == size]
        scenes = RoadScenes(max(lengths[k] for k in members), size, split="val")
        for index in progress_bar(range(len(scenes)), desc="scenes", shown=progress):
            image, _ = scenes[index]
            asked = ask(scenes.scene_seed(0, index), *size)
            for k in members:
                if index >= lengths[k]:
                    continue
                scores = networks[k].model(networks[k].transform.image(image)[None].to(device))[0]
                for name, question in asked.items():
                    counts[k][name].append(count_right(scores, sides[name], question.side, question.distance))
    return [{name: answers_of(np.stack(of_scenes)) for name, of_scenes in found.items()} for found in counts]


def count_right(
    scores: Tensor,
    sides: tuple[Sequence[int], Sequence[int]],
    side: npt.NDArray[np.int8],
    distance: npt.NDArray[np.float32],
) -> Counts:
    """Pixels of one scene (ranges, 2, 2): for each range and side, the number of all pixels and of right ones.

    scores: (K, h, w). sides: the classes of either side, whose largest score is that of the side.
    side: (h, w), the right answer: 0, 1, or -1 at other pixels. distance: (h, w) in pixels.
    """
    first, second = (scores[list(classes)].amax(0).cpu().numpy() for classes in sides)
    right = np.where(side == 0, first > second, second > first)
    width = side.shape[1]
    last = 2 * RANGES - 1  # if the image is not higher than wide, no distance is longer than 1.5 widths
    asked = (side >= 0) & np.isfinite(distance)
    ranges = np.minimum((distance[asked] * RANGES / width).astype(np.int64), last)
    counts = np.zeros((last + 1, 2, 2), np.int64)
    np.add.at(counts[..., 0], (ranges, side[asked]), 1)
    np.add.at(counts[..., 1], (ranges, side[asked]), right[asked])
    return counts


def balanced_accuracy(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Accuracy (...) from counts (..., 2, 2) of `count_right`; NaN if one of the sides has no pixel."""
    asked, right = counts[..., 0], counts[..., 1]
    share = np.where(asked > 0, right / np.maximum(asked, 1), np.nan)
    return np.asarray(share.mean(-1), np.float64)


def answers_of(scenes: Counts) -> Answers:
    """Answers from the counts of all scenes (scenes, ranges, 2, 2). The bootstrap's random numbers never change.

    Raises UsageError if the scenes do not show both sides of the question.
    """
    total = scenes.sum(0)
    asked = total[..., 0].sum(-1)
    kept = np.flatnonzero((asked >= RARE * max(asked.sum(), 1)) & (total[..., 0] > 0).all(-1))
    if not len(kept):
        raise UsageError(f"--scenes: {len(scenes)} are too few: one of the look-alikes is nowhere to be seen")
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(len(scenes), np.full(len(scenes), 1 / len(scenes)), RESAMPLES)
    resampled = balanced_accuracy(np.tensordot(drawn, scenes[:, kept], 1))
    low, high = interval(resampled)

    def plain(values: npt.NDArray[np.float64]) -> list[float]:
        return [round(float(value), 5) for value in values]

    return Answers(
        plain(kept / RANGES),
        plain((kept + 1) / RANGES),
        plain(balanced_accuracy(total[kept])),
        plain(low),
        plain(high),
        total[kept, :, 0].tolist(),
        round(float(balanced_accuracy(total.sum(0))), 5),
    )


def sections(groups: dict[str, list[Measured]], evidence: dict[str, str], width: int) -> list[Section]:
    """A table for each question: accuracy by distance, mean over seeds.

    evidence: for each question, what the distance is measured to. width: of the images, in pixels.
    """
    return [_section(name, groups, text, width) for name, text in evidence.items()]


def _section(question: str, groups: dict[str, list[Measured]], evidence: str, width: int) -> Section:
    every = [run.answers[question] for runs in groups.values() for run in runs]
    starts = sorted(set.intersection(*(set(answers.start) for answers in every)))
    rows = []
    for label, runs in groups.items():
        curves = [dict(zip(a.start, a.accuracy, strict=True)) for a in (run.answers[question] for run in runs)]
        overall = [run.answers[question].overall for run in runs]
        cells = [f"{100 * statistics.mean(curve[start] for curve in curves):.0f}" for start in starts]
        each = " ".join(f"{100 * share:.1f}" for share in overall)
        rows.append([label, str(len(runs)), f"{100 * statistics.mean(overall):.1f}", each, *cells])
    ranges = [f"{start * width:.0f}-{(start + 1 / RANGES) * width:.0f}" for start in starts]
    text = (
        f"{question.capitalize()}: how often the network is right, in per cent, mean over seeds (chance: 50), by the "
        f"distance to the nearest {evidence}, in pixels. Images are {width} pixels wide."
    )
    header = ["network", "seeds", "all", "all, seed by seed", *ranges]
    return Section(f"{question.capitalize()}, by distance", text, Table(header, rows))


def rows_of(groups: dict[str, list[Measured]], width: int) -> list[dict[str, Any]]:
    """All numbers for a CSV file: a row for each network, seed, question and range."""
    return [
        {
            "network": label,
            "seed": run.seed,
            "question": question,
            "from_pixels": start * width,
            "to_pixels": end * width,
            "from_share_of_width": start,
            "to_share_of_width": end,
            "accuracy": accuracy,
            "low": low,
            "high": high,
            "pixels_of_first": pixels[0],
            "pixels_of_second": pixels[1],
        }
        for label, runs in groups.items()
        for run in runs
        for question, a in run.answers.items()
        for start, end, accuracy, low, high, pixels in zip(
            a.start, a.end, a.accuracy, a.low, a.high, a.pixels, strict=True
        )
    ]
