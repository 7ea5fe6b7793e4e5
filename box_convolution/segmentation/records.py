"""What is told about an epoch: a line of text, and TensorBoard's events. (`RunFolder` writes the JSON lines.)"""

from pathlib import Path
from typing import Any


class Board:
    """TensorBoard events in ``folder``; events behind ``epochs`` finished ones, of a run that was cut off, are void."""

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


def one_line(record: dict[str, Any], better: bool) -> str:
    """An epoch for the terminal."""
    line = f"epoch {record['epoch']:4d}  loss {record['train_loss']:.4f}  train mIoU {record['train_class_iou']:.3f}"
    if "val_class_iou" in record:
        line += f"  val mIoU {record['val_class_iou']:.3f}  val pixels {record['val_pixel_accuracy']:.3f}"
        if "val_average_class_iou" in record:
            line += f"  of the average {record['val_average_class_iou']:.3f}"
        line += "  best" if better else ""
    rates = f"loader {record['loader_images_per_second']:.1f}, steps {record['step_images_per_second']:.1f} images/s"
    return f"{line}  ({record['train_seconds']:.0f} s; {rates})"
