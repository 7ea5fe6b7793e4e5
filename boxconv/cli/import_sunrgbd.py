"""`boxconv import-sunrgbd`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from ..errors import plural


@dataclass(frozen=True)
class ImportSunRgbd:
    """Convert the archives of SUN RGB-D's official site to folders of images and labels, for --data sunrgbd."""

    root: tyro.conf.Positional[Path]
    """Folder with SUNRGBD/ and SUNRGBDtoolbox/, as unzipped."""
    out: Path
    """Folder for the results: about 2 GB."""
    resume: bool = False
    """Write only the scenes that are not in --out yet."""
    quiet: bool = False


def run(args: ImportSunRgbd) -> None:
    from ..data.layouts import sunrgbd_import
    from ..progress_bar import progress_bar

    scenes = sunrgbd_import.plan(args.root, args.out, resume=args.resume)
    written = sunrgbd_import.write(args.root, scenes)
    bar = progress_bar(written, desc="importing", total=len(scenes), unit="scene", shown=not args.quiet)
    done = sum(1 for _ in bar)
    print(f"{plural(done, 'scene')} written to {args.out}")
