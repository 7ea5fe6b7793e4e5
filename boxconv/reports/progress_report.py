"""The page about a run during training: its curves, scores by class and predictions so far."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..data.class_table import ClassTable
from .html import write_report
from .prediction_picture import prediction_panel
from .tables import Picture, Section, Table
from .training_pictures import training_curves

REFRESH = 30  # seconds


class Pictured(Protocol):
    """An image (h, w, 3), and its true and predicted labels (h, w)."""

    @property
    def name(self) -> str: ...
    @property
    def image(self) -> npt.NDArray[np.uint8]: ...
    @property
    def truth(self) -> npt.NDArray[np.uint8]: ...
    @property
    def prediction(self) -> npt.NDArray[np.uint8]: ...


def write_progress(
    folder: Path,
    *,
    title: str,
    records: Sequence[Mapping[str, Any]],
    epochs: int,
    left: str,
    classes: ClassTable,
    pictures: Sequence[Pictured],
) -> Path:
    """Write `folder`/report.html, and its pictures beside it; returns the path of the report.

    records: one for each epoch, as in `metrics.jsonl`.
    epochs: number of epochs of the run.
    left: time until the run ends, in words; "" at its end. Until then, a browser reloads the page every `REFRESH` s.
    """
    training_curves(records, folder / "curves.png")
    prediction_panel(
        [each.image for each in pictures],
        [each.truth for each in pictures],
        [each.prediction for each in pictures],
        classes,
        folder / "predictions.png",
        titles=[each.name for each in pictures],
    )
    scored = [record for record in records if "val_class_iou" in record]
    facts = {"epoch": f"{records[-1]['epoch']} of {epochs}", "training loss": f"{records[-1]['train_loss']:.3f}"}
    if scored:
        last, best = scored[-1], max(scored, key=lambda record: _of(record, "class_iou"))
        facts["class IoU now"] = f"{_percent(_of(last, 'class_iou'))} %"
        facts["best class IoU"] = f"{_percent(_of(best, 'class_iou'))} % after epoch {best['epoch']}"
    facts["time left"] = left or "none, it has ended"
    sections = [
        Section("How training goes", pictures=[Picture(folder / "curves.png", "Loss, scores and learning rate")]),
        Section(
            "What it predicts",
            f"Validation images, after epoch {records[-1]['epoch']}.",
            pictures=[Picture(folder / "predictions.png", "Image, truth, prediction and errors")],
        ),
    ]
    if scored:
        sections.append(_classes(last, best))
    return write_report(folder, title=title, summary=facts, sections=sections, refresh=REFRESH if left else None)


def _classes(last: Mapping[str, Any], best: Mapping[str, Any]) -> Section:
    """IoU of every class at the last validation and at the best one, from their records."""
    shown = {"last": last, "best": best}
    header = ["class", *(f"IoU, %, {name}: epoch {record['epoch']}" for name, record in shown.items())]
    names = _of(last, "iou")
    rows = [[name, *(_percent(_of(record, "iou")[name]) for record in shown.values())] for name in names]
    rows.append(["mean", *(_percent(_of(record, "class_iou")) for record in shown.values())])
    text = "Of the averaged weights." if "val_average_class_iou" in last else ""
    return Section("Scores by class", text, Table(header, rows))


def _of(record: Mapping[str, Any], score: str) -> Any:
    """A validation score, that of the averaged weights if there are any."""
    return record.get(f"val_average_{score}", record[f"val_{score}"])


def _percent(share: float | None) -> str:
    return "absent" if share is None else f"{100 * share:.1f}"
