"""An epoch as a line of text and as TensorBoard events. (`RunFolder` writes the JSON lines.)"""

from pathlib import Path
from typing import Any


class TensorBoardLogger:
    """TensorBoard events in ``folder``. An interrupted run's events after ``epochs`` are ignored."""

    def __init__(self, folder: Path, epochs: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=epochs + 1)

    def write(self, record: dict[str, Any]) -> None:
        for name, value in record.items():
            if isinstance(value, float):
                self._writer.add_scalar(name.replace("_", "/", 1), value, record["epoch"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def percent(share: float) -> str:
    """A score in per cent, for people; files have fractions of 1."""
    return f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """Seconds as text, in a suitable unit."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def one_line(record: dict[str, Any], better: bool, seconds_left: float) -> str:
    """An epoch as one line, with the time that is left."""
    line = (
        f"epoch {record['epoch']:4d}  loss {record['train_loss']:.4f}  train mIoU {percent(record['train_class_iou'])}"
    )
    if "val_class_iou" in record:
        line += f"  val mIoU {percent(record['val_class_iou'])}  val pixels {percent(record['val_pixel_accuracy'])}"
        if "val_average_class_iou" in record:
            line += f"  of the average {percent(record['val_average_class_iou'])}"
        line += "  best" if better else ""
    rates = f"loader {record['loader_images_per_second']:.1f}, steps {record['step_images_per_second']:.1f} images/s"
    left = f"; about {duration(seconds_left)} left" if seconds_left else ""
    return f"{line}  ({record['train_seconds']:.0f} s; {rates}{left})"
