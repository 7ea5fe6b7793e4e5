"""`boxconv check-data`."""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class CheckData:
    """Look for everything in a data set that training would stumble over. Changes nothing."""

    root: tyro.conf.Positional[Path]
    """Folder with images/SPLIT/* and labels/SPLIT/*.png."""
    classes: str | None = None
    """CSV file of the classes, or `camvid`; ROOT/classes.csv if left out."""
    quiet: bool = False


def run(args: CheckData) -> int:
    from ..segmentation.check_data import check
    from ..segmentation.classes import CAMVID, read_classes

    if args.classes == "camvid":
        classes = CAMVID
    else:
        classes = read_classes(args.classes or args.root / "classes.csv")
    report = check(args.root, classes, progress=not args.quiet)
    print(report.text())
    return 0 if report.ok else 1
