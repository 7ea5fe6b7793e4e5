"""Peak memory of `boxconv predict` on a large TIFF file, which is created for this and removed afterwards.

    python benchmarks/large_image.py --tile 512 --overlap 128  # 20,000 x 20,000 pixels, 1.2 GB
    python benchmarks/large_image.py --pixels 20000 20000      # no tiles: the network sees the image at its own size

The prediction runs in a separate process, which prints its peak resident memory at the end (Linux only).
"""

import argparse
import os
import resource
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from memory import resident
from PIL.PngImagePlugin import PngImageFile

from boxconv.cli import main as boxconv
from boxconv.data.scenes.dataset import draw_scene


def draw_tiff(path: Path, height: int, width: int) -> None:
    """Write an uncompressed RGB file in strips of 16 rows that repeats one drawn road scene."""
    image, _ = draw_scene(0, 512, 1024)
    band = np.tile(image, (1, -(-width // 1024), 1))[:, :width]
    starts = range(0, height, 16)
    with path.open("wb") as file:
        file.write(struct.pack("<2sHL", b"II", 42, 8 + 3 * height * width))
        for top in range(0, height, 512):
            file.write(band[: height - top].tobytes())
        offsets = [8 + 3 * width * top for top in starts]
        lengths = [3 * width * min(16, height - top) for top in starts]
        tags = {256: [width], 257: [height], 258: [8, 8, 8], 259: [1], 262: [2], 273: offsets, 277: [3], 278: [16],
                279: lengths}  # fmt: skip
        entries, values, after = b"", b"", file.tell() + 2 + 12 * len(tags) + 4
        for tag, numbers in tags.items():
            packed = struct.pack(f"<{len(numbers)}L", *numbers)
            place = packed if len(packed) == 4 else struct.pack("<L", after + len(values))
            values += b"" if len(packed) == 4 else packed
            entries += struct.pack("<HHL", tag, 4, len(numbers)) + place
        file.write(struct.pack("<H", len(tags)) + entries + bytes(4) + values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, nargs=2, default=(20_000, 20_000), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--network", default="boxenet-camvid")
    args, options = parser.parse_known_args()
    height, width = args.pixels
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_tiff(folder / "large.tif", height, width)
        command = ["predict", args.network, str(folder / "large.tif"), "--out", str(folder / "out"), *options]
        done = subprocess.run([sys.executable, __file__, "--in-this-process", *command], check=True, text=True,
                              stdout=subprocess.PIPE, env=os.environ | {"TMPDIR": name})  # fmt: skip
        peak = int(done.stdout.splitlines()[-1])
        size = (folder / "large.tif").stat().st_size
        for path in sorted((folder / "out").iterdir()):
            with PngImageFile(path) as written:
                print(f"{path.name}: {written.width} x {written.height}, {path.stat().st_size / 2**20:.1f} MiB")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    what = " ".join(["boxconv predict", args.network, "large.tif", *options])
    print(f"{what}: {height} x {width} pixels, {size / 2**30:.2f} GiB")
    minutes = (used.ru_utime + used.ru_stime) / 60
    print(f"peak resident memory {peak / 2**30:.2f} GiB, {minutes:.1f} minutes of processor time")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-this-process"]:
        status = boxconv(sys.argv[2:])
        print(resident("VmHWM"))
        sys.exit(status)
    main()
