"""Looking through a whole data set before hours are spent on training with it: every fault, not just the first."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .classes import VOID, ClassTable, DataError
from .datasets import LAYOUT, Fault, describe, find_pairs, splits_of
from .image_files import (
    SUFFIXES,
    check_regular,
    check_sizes,
    entries,
    open_image,
    open_label,
    shown,
)


@dataclass
class Report:
    """What `check` found. `faults` keep a split from being used as it is, `warnings` do not.

    pairs: image-label pairs per split. pixels: label pixels per split, of the K classes and then of void, in the labels
    that could be read. sizes: how many images are (height, width) pixels large, over all splits.
    """

    root: Path
    classes: ClassTable
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    pairs: dict[str, int] = field(default_factory=dict)
    pixels: dict[str, list[int]] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        return not self.faults

    def text(self, limit: int = 5) -> str:
        """A summary to read: sizes, shares of the classes, and by kind the number of faults and the first `limit`."""
        found = ", ".join(f"{count} pairs in {shown(split)}" for split, count in self.pairs.items())
        parts = [f"{shown(self.root)}: {found or 'no splits'}"]
        if self.sizes:
            common = [f"{h} x {w} ({count})" for (h, w), count in self.sizes.most_common(limit)]
            more = [f"and {len(self.sizes) - limit} more sizes"] if len(self.sizes) > limit else []
            parts[0] += f"\nimages, height x width: {', '.join(common + more)}"
        if any(map(any, self.pixels.values())):
            parts.append(self._shares())
        if self.warnings:
            parts.append("WARNINGS\n" + describe(self.warnings, self.root, limit))
        if self.faults:
            parts.append(f"FAULTS ({LAYOUT})\n" + describe(self.faults, self.root, limit))
        parts.append(f"{_counted(self.faults, 'fault')}, {_counted(self.warnings, 'warning')}")
        return "\n\n".join(parts)

    def _shares(self) -> str:
        splits = {shown(split): counts for split, counts in self.pixels.items() if any(counts)}
        names = [*(f"{label:3} {name}" for label, name in enumerate(self.classes.names)), "    void"]
        width = max(map(len, ("share of pixels", *names)))
        lines = ["share of pixels".ljust(width) + "".join(f"  {split:>7}" for split in splits)]
        for i, name in enumerate(names):
            lines.append(name.ljust(width))
            for split, counts in splits.items():
                share = f"{counts[i] / sum(counts):.4f}" if counts[i] else "none"
                lines[-1] += f"  {share:>{max(7, len(split))}}"
        return "\n".join(lines)


def check(
    root: str | Path,
    classes: ClassTable,
    splits: Sequence[str] | None = None,
    *,
    decode: bool = True,
    workers: int | None = None,
    progress: bool = False,
) -> Report:
    """Finds everything in the folder tree `root` (see `SegmentationFolder`) that training would stumble over.

    splits: which ones to look at; None means all that exist. decode=False looks at names only and opens no file.
    workers: threads, by default one per core. progress: shows a bar. Nothing on disk is changed.
    """
    report = Report(Path(root), classes)
    jobs: list[_Job] = []
    for split in splits_of(root) if splits is None else splits:
        pairs, faults = find_pairs(root, split)
        report.faults += faults
        report.pairs[split] = len(pairs)
        report.pixels[split] = [0] * (len(classes) + 1)
        jobs += [_Job(split, *pair) for pair in pairs]
        alone, ignored = _other_files(Path(root), split, {path for pair in pairs for path in pair})
        jobs += alone
        report.warnings += ignored
    if not report.pairs:
        what = "no split in this folder" if os.path.isdir(root) else "no such folder"
        report.faults.append(Fault(Path(root), "missing folder", f"{shown(root)}: {what}"))
    if decode:
        _decode_all(report, jobs, workers or os.cpu_count() or 1, progress)
        report.warnings += _images_in_two_splits(jobs)
        report.warnings += _masks(report)
    return report


@dataclass(frozen=True)
class _Job:
    """Files to decode: a pair, or an image or a label that has no partner."""

    split: str
    image: Path | None
    label: Path | None


@dataclass
class _Result:
    faults: list[Fault]
    size: tuple[int, int] | None = None
    pixels: list[int] | None = None


def _other_files(root: Path, split: str, paired: set[Path]) -> tuple[list[_Job], list[Fault]]:
    """Files without a partner, which are decoded as well, and warnings about entries that are ignored."""
    jobs, ignored = [], []
    for kind in ("images", "labels"):
        folder = root / kind / split
        for path in entries(folder) if os.path.isdir(folder) else ():
            if path.suffix.lower() not in SUFFIXES:
                what = "sub-folders are not searched" if path.is_dir() else "not the suffix of an image"
                ignored.append(Fault(path, "ignored", f"{shown(path)}: {what}"))
            elif path not in paired and _is_regular(path):
                jobs.append(_Job(split, path, None) if kind == "images" else _Job(split, None, path))
    return jobs, ignored


def _decode_all(report: Report, jobs: list[_Job], workers: int, progress: bool) -> None:
    pool = ThreadPoolExecutor(workers)
    try:
        results = pool.map(lambda job: _inspect(job, report.classes), jobs)
        for job, result in zip(jobs, _with_bar(results, len(jobs), progress), strict=True):
            report.faults += result.faults
            if result.size:
                report.sizes[result.size] += 1
            if result.pixels:
                sums = report.pixels[job.split]
                report.pixels[job.split] = [a + b for a, b in zip(sums, result.pixels, strict=True)]
    finally:
        pool.shutdown(cancel_futures=True)


def _inspect(job: _Job, classes: ClassTable) -> _Result:
    """Decodes one job's files just as training does."""
    result = _Result([])
    image = label = None
    if job.image is not None:
        try:
            image = open_image(job.image)
            result.size = (image.height, image.width)
        except DataError as error:
            result.faults.append(Fault(job.image, error.kind, str(error)))
    if job.label is not None:
        try:
            label = open_label(job.label, classes)
            histogram = label.histogram()
            result.pixels = [*histogram[: len(classes)], histogram[VOID]]
            if not any(histogram[:VOID]):
                message = f"{shown(job.label)}: every pixel is void, there is nothing to learn from"
                result.faults.append(Fault(job.label, "label all void", message))
        except DataError as error:
            result.faults.append(Fault(job.label, error.kind, str(error)))
    if image and label and job.image and job.label:
        try:
            check_sizes(image, label, job.image, job.label)
        except DataError as error:
            result.faults.append(Fault(job.label, error.kind, str(error)))
    return result


def _images_in_two_splits(jobs: Iterable[_Job]) -> list[Fault]:
    """Warnings about images whose bytes occur in another split too. Only files of equal size are read and compared."""
    by_size: dict[int, list[_Job]] = defaultdict(list)
    for job in jobs:
        if job.image is not None and _is_regular(job.image):
            by_size[os.path.getsize(job.image)].append(job)
    found = []
    for group in by_size.values():
        if len({job.split for job in group}) < 2:
            continue
        first: dict[bytes, _Job] = {}
        for job in group:
            try:
                content = hashlib.sha256(job.image.read_bytes() if job.image else b"").digest()
            except OSError:  # reported when it could not be decoded
                continue
            other = first.setdefault(content, job)
            if job.image and other.image and other.split != job.split:
                message = f"{shown(job.image)}: the same image as {shown(other.image)}, in another split"
                found.append(Fault(job.image, "image in two splits", message))
    return found


def _masks(report: Report) -> list[Fault]:
    """Warnings about splits whose labels look like black-and-white masks: legal, as 255 is void, but hardly meant."""
    found = []
    for split, counts in report.pixels.items():
        if len(counts) > 2 and counts[0] and counts[-1] and not any(counts[1:-1]):
            folder = report.root / "labels" / split
            hint = "if these are masks of 0 and 255, change 255 to 1, for 255 means void"
            found.append(Fault(folder, "class 0 only", f"{shown(folder)}: nothing but class 0 and void; {hint}"))
    return found


def _is_regular(path: Path) -> bool:
    try:
        check_regular(path)
    except DataError:
        return False
    return True


def _with_bar(results: Iterator[Any], total: int, progress: bool) -> Iterable[Any]:
    if not progress:
        return results
    from tqdm import tqdm

    return tqdm(results, total=total, desc="decoding", unit="pair", leave=False)


def _counted(items: Sequence[Fault], what: str) -> str:
    return f"{len(items)} {what}{'' if len(items) == 1 else 's'}"
