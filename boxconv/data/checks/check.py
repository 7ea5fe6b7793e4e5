"""Check a whole data set before training, and report every fault, not only the first one."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import plural
from ...progress_bar import progress_bar
from ..class_table import VOID, ClassTable, DataError
from ..image_files import shown
from ..image_reader import RGB, ImageReader
from ..label_encoding import LabelEncoding
from ..layouts.base import DataIssue, Layout
from ..layouts.folder import FOLDER, FolderLayout
from ..layouts.pairing import describe, pair_up, split_files, splits_of, where_expected
from .inspect import Sample, inspect, odd_names


@dataclass
class Report:
    """The result of `check`. A data set with `faults` cannot be used for training; one with only `warnings` can.

    pairs: number of image-label pairs of each split.
    border: pixels to cut off at every side of image and label.
    pixels: for each split, label pixels of the K classes and then of void, in the labels that could be read.
    sizes: number of images of each (height, width), over all splits.
    """

    root: Path
    classes: ClassTable
    layout: Layout = FOLDER
    reader: ImageReader = RGB
    border: int = 0
    faults: list[DataIssue] = field(default_factory=list)
    warnings: list[DataIssue] = field(default_factory=list)
    pairs: dict[str, int] = field(default_factory=dict)
    pixels: dict[str, list[int]] = field(default_factory=dict)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        return not self.faults

    def text(self, limit: int = 5) -> str:
        """Summary for people: sizes, shares of the classes, and for each kind of fault the number and first `limit`."""
        found = ", ".join(map(self._counted_pairs, self.pairs))
        parts = [f"{shown(self.root)}: {found or 'no splits'}"]
        if self.sizes:
            common = [f"{h} x {w} ({count})" for (h, w), count in self.sizes.most_common(limit)]
            more = [f"and {plural(len(self.sizes) - limit, 'more size')}"] if len(self.sizes) > limit else []
            parts[0] += f"\nimages, height x width: {', '.join(common + more)}"
        if any(map(any, self.pixels.values())):
            parts.append(self._shares())
        if self.warnings:
            parts.append("WARNINGS\n" + describe(self.warnings, self.root, limit))
        if self.faults:
            expected = where_expected(self.faults, self.layout)
            header = f"FAULTS ({expected})" if expected else "FAULTS"
            parts.append(f"{header}\n" + describe(self.faults, self.root, limit))
        parts.append(f"{plural(len(self.faults), 'fault')}, {plural(len(self.warnings), 'warning')}")
        return "\n\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Everything that was found, as plain values for JSON. Paths are relative to the root."""
        listed = {
            name: [
                {"kind": fault.kind, "file": self._relative(fault.file), "message": fault.message} for fault in faults
            ]
            for name, faults in (("faults", self.faults), ("warnings", self.warnings))
        }
        return {
            "root": str(self.root),
            "ok": self.ok,
            "pairs": self.pairs,
            "classes": list(self.classes.names),
            "pixels_of_classes_and_void": self.pixels,
            "sizes": [{"height": h, "width": w, "images": count} for (h, w), count in self.sizes.most_common()],
            **listed,
        }

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)

    def _counted_pairs(self, split: str) -> str:
        count, published = self.pairs[split], self.layout.published.get(split)
        of = f" (of {published} published)" if published not in (None, count) else ""
        return f"{plural(count, 'pair')} in {shown(split)}{of}"

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
    layout: Layout = FOLDER,
    reader: ImageReader = RGB,
    border: int = 0,
    decode: bool = True,
    workers: int | None = None,
    progress: bool = False,
) -> Report:
    """Find everything in the data set at `root` that would make training fail or is odd. Nothing is written.

    Args:
        splits: names of the splits to check; None is all that exist.
        layout: where the files are and what their pixels mean.
        reader: opens the images.
        border: pixels that training cuts off at every side of image and label; they are not counted.
        decode: decode every file; if False, only names are checked.
        workers: threads that decode; by default one for each core.
        progress: show a progress bar.

    Raises DataError for a split whose name is not that of a folder.
    """
    report = Report(Path(root), classes, layout, reader, border)
    samples: list[Sample] = []
    for split in splits_of(root, layout) if splits is None else dict.fromkeys(splits):
        samples += _samples_of(report, split)
    if not report.pairs:
        what = f"no split in this folder{layout.instead(Path(root))}" if os.path.isdir(root) else "no such folder"
        report.faults.append(DataIssue(Path(root), "missing folder", f"{shown(root)}: {what}"))
    if decode:
        _decode_all(report, samples, workers or os.cpu_count() or 1, progress)
        report.warnings += _images_twice(samples)
        report.faults += _masks(report, samples)
        report.warnings += _without_pixels(report, samples)
    # Splits that share folders and files report the same issue twice.
    report.faults, report.warnings = list(dict.fromkeys(report.faults)), list(dict.fromkeys(report.warnings))
    return report


def _samples_of(report: Report, split: str) -> list[Sample]:
    """The samples of a split to decode. Issues with its file names are added to the report."""
    found = split_files(report.root, split, report.layout)
    pairs, faults = pair_up(found)
    report.faults += faults
    report.pairs[split] = len(pairs)
    report.pixels[split] = [0] * (len(report.classes) + 1)
    for path in found.others:
        what = "sub-folders are not searched" if path.is_dir() else "not the suffix of an image"
        report.warnings.append(DataIssue(path, "ignored", f"{shown(path)}: {what}"))
    files = [path for _, path in (*found.images, *found.labels)]
    report.warnings += odd_names([*files, *found.others])
    try:
        encoding: LabelEncoding = report.layout.encoding(report.root, split, report.classes)
    except DataError as error:
        report.faults.append(DataIssue(report.root, error.kind, str(error)))
        return []
    paired = {path for pair in pairs for path in pair}
    images = [path for _, path in found.images if path not in paired and os.path.isfile(path)]
    labels = [path for _, path in found.labels if path not in paired and os.path.isfile(path)]
    return [
        *(Sample(split, *pair, encoding, found.needs_labels, report.reader, report.border) for pair in pairs),
        *(Sample(split, path, None, encoding, reader=report.reader) for path in images),
        *(Sample(split, None, path, encoding, found.needs_labels) for path in labels),
    ]


def _decode_all(report: Report, samples: list[Sample], workers: int, progress: bool) -> None:
    pool = ThreadPoolExecutor(workers)
    try:
        results = pool.map(lambda sample: inspect(sample, report.classes), samples)
        bar = progress_bar(results, desc="decoding", unit="pair", total=len(samples), shown=progress)
        for sample, found in zip(samples, bar, strict=True):
            report.faults += found.faults
            report.warnings += found.warnings
            if found.size:
                report.sizes[found.size] += 1
            if found.pixels:
                sums = report.pixels[sample.split]
                report.pixels[sample.split] = [a + b for a, b in zip(sums, found.pixels, strict=True)]
    finally:
        pool.shutdown(cancel_futures=True)


def _images_twice(samples: Iterable[Sample]) -> list[DataIssue]:
    """Warnings about images whose bytes occur twice. Only files of equal size are read and compared."""
    by_size: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.image is not None and os.path.isfile(sample.image):
            by_size[os.path.getsize(sample.image)].append(sample)
    found = []
    for group in by_size.values():
        if len(group) < 2:
            continue
        first: dict[bytes, Sample] = {}
        for sample in group:
            try:
                content = hashlib.sha256(sample.image.read_bytes() if sample.image else b"").digest()
            except OSError:  # already reported when the image was decoded
                continue
            other = first.setdefault(content, sample)
            if sample.image and other.image and other is not sample:
                elsewhere = other.split != sample.split
                kind = "image in two splits" if elsewhere else "image twice in a split"
                message = f"{shown(sample.image)}: the same image as {shown(other.image)}"
                found.append(DataIssue(sample.image, kind, message + (", in another split" if elsewhere else "")))
    return found


def _masks(report: Report, samples: Iterable[Sample]) -> list[DataIssue]:
    """Faults of splits whose labels look like masks of 0 and 255, if the class table does not define 255."""
    found = []
    classes = report.classes
    if not isinstance(report.layout, FolderLayout) or VOID in classes.values or VOID in classes.void:
        return []
    for split, folder in _label_folders(samples).items():
        counts = report.pixels[split]
        if len(counts) > 2 and counts[0] and counts[-1] and not any(counts[1:-1]):
            message = (
                f"{shown(folder)}: nothing but class {classes.names[0]} and void; if these are masks of "
                f"{classes.values[0]} and 255, write into classes.csv what 255 is: a row 255,{classes.names[1]},... "
                "or 255,void,0,0,0"
            )
            found.append(DataIssue(folder, "class 0 only", message))
    return found


def _without_pixels(report: Report, samples: Iterable[Sample]) -> list[DataIssue]:
    """Warnings about splits whose labels lack some classes: scores say nothing about those classes."""
    found = []
    for split, folder in _label_folders(samples).items():
        *counts, _ = report.pixels[split]
        absent = [name for name, count in zip(report.classes.names, counts, strict=True) if not count]
        if absent and any(counts):
            message = f"{shown(folder)}: the labels of {shown(split)} have no pixel of {', '.join(absent)}"
            found.append(DataIssue(folder, "class without a pixel", message))
    return found


def _label_folders(samples: Iterable[Sample]) -> dict[str, Path]:
    return {sample.split: sample.label.parent for sample in samples if sample.label is not None}
