"""`boxconv check-data`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from ..data.config import DataConfig, OnDisk, at_least
from ..errors import plural
from ..files import write_atomic
from .outputs import check_outputs


@dataclass(frozen=True)
class CheckData:
    """Check every file of a data set for faults that would stop or spoil a training. Changes nothing."""

    root: tyro.conf.Positional[Path]
    """Folder of the data set."""
    data: Literal["auto", OnDisk] = "auto"
    """Kind of data set. auto recognises it by its folders; folder means images/SPLIT/* and labels/SPLIT/*.png."""
    classes: Path | None = None
    """CSV file of the classes; by default ROOT/classes.csv."""
    palette: Path | None = None
    """CSV file of the labels' colours, for a folder; by default ROOT/palette.csv, if it exists."""
    val_share: float | None = None
    """Share of the images that is kept for validation, as in boxconv train."""
    in_channels: int = 3
    """Channels that images must have, as in boxconv train."""
    white: float | None = None
    """The value that is white in files of more than 8 bits, as in boxconv train."""
    split: tuple[str, ...] = ()
    """Splits to check; by default all."""
    decode: bool = True
    """Decode every file; --no-decode checks only the names."""
    workers: int = 0
    """Threads that decode; 0: one per core."""
    limit: int = 5
    """How many faults of each kind to show."""
    json: Path | None = None
    """Also write all faults and warnings to this file."""
    write_classes: Path | None = None
    """Only draft a class table for --data folder from its labels (their values, colours or names), and write it to
    this file, which may be ROOT/classes.csv if there is none."""
    overwrite: bool = False
    """Replace files that are there already."""
    quiet: bool = False


def run(args: CheckData) -> int:
    from ..data.checks.check import check
    from ..data.class_table import DataError
    from ..data.registry import classes_of, detect, layout_of, reader_of

    at_least("workers", args.workers, 0)
    at_least("limit", args.limit, 1)
    if not args.root.is_dir():
        raise DataError(f"{args.root}: no such folder")
    outputs, drafted = {"--json": args.json, "--write-classes": args.write_classes}, args.write_classes
    if drafted is not None and drafted.resolve() == (args.root / "classes.csv").resolve() and not drafted.exists():
        del outputs["--write-classes"]  # the one file that may be added to a data set
    check_outputs(outputs, overwrite=args.overwrite, inputs=(args.classes, args.palette), root=args.root)
    if args.write_classes is not None:
        _draft(args.root, args.write_classes)
        return 0
    data = detect(args.root) if args.data == "auto" else args.data
    options: dict[str, Any] = {
        name: getattr(args, name) for name in ("root", "classes", "palette", "val_share", "in_channels", "white")
    }
    config = DataConfig(data=data, **options)  # type: ignore[arg-type]
    config.check_new()
    report = check(
        args.root,
        classes_of(config),
        args.split or None,
        layout=layout_of(config),
        reader=reader_of(config),
        decode=args.decode,
        workers=args.workers or None,
        progress=not args.quiet,
    )
    print(report.text(args.limit))
    if args.json is not None:
        write_atomic(args.json, json.dumps({"data": data, **report.to_dict()}, indent=2) + "\n")
    return 0 if report.ok else 1


def _draft(root: Path, path: Path) -> None:
    from ..data.checks.draft import draft_classes, labels_of
    from ..data.class_table import write_classes
    from ..data.layouts.folder import POLYGONS, FolderLayout
    from ..data.polygons import BACKGROUND

    layout = FolderLayout(val_share=0.5)  # all labels, whether they are sorted into splits or not
    table = draft_classes(root, layout)
    polygons = any(path.suffix.lower() in POLYGONS for path in labels_of(root, layout))
    write_classes(path, table)
    print(f"{path}: drafted from the labels of {root}, {plural(len(table), 'class')}:")
    print(path.read_text(encoding="utf-8"), end="")
    if polygons and not BACKGROUND.intersection(map(str.lower, table.names)):
        print("Pixels that no shape covers are void, neither learned nor scored: a row named background changes that.")
    kept = path.resolve() == (root / "classes.csv").resolve()
    then = "" if kept else f"; then give it as --classes, or keep it as {root / 'classes.csv'}"
    print(f"Name the classes, and name void what is not to be scored{then}.")
    print("For labels in colours it is the palette too: --palette, or palette.csv.")
