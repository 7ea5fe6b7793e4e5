"""Speed of our deployed networks and of the networks of the paper's authors, side by side, in evaluation mode.

    python benchmarks/authors_networks.py SOURCE

SOURCE: a checkout of github.com/shrubb/box-convolutions whose extension was built in place (build/lib.*); it needs
patches to build with a current PyTorch. One thread, 512 x 1024, batch 1. The networks take turns in one process; the
table has medians of processor time.
"""

import argparse
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch

from box_convolution import networks
from box_convolution.deploy import deploy, keep_freed_memory
from boxconv.profiling.timing import Repeats, interleaved
from boxconv.reports.tables import Table

# For the name of each of our networks, the authors' file and class.
THEIRS = {
    "enet": ("ENet", "ENet"),
    "boxenet": ("ENet", "BoxENet"),
    "boxonlyenet": ("ENet", "BoxOnlyENet"),
    "enet_minus": ("ENet", "ENetMinus"),
    "erfnet": ("ERFNet", "ERFNet"),
    "boxerfnet": ("ERFNet", "BoxERFNet"),
}
SIZE, CLASSES = (512, 1024), 19


def authors_modules(source: Path) -> dict[str, ModuleType]:
    """Import the authors' ENet.py and ERFNet.py. Their package has the same name as ours, which is hidden meanwhile."""
    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "box_convolution"}
    extra = [str(source / "examples" / "Cityscapes" / "models"), *map(str, source.glob("build/lib.*"))]
    sys.path[:0] = extra
    try:
        # Import it by path: an editable installation of our package would be found first by name.
        folder = source / "box_convolution"
        spec = importlib.util.spec_from_file_location(
            folder.name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[folder.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[folder.name])
        return {name: importlib.import_module(name) for name in ("ENet", "ERFNet")}
    finally:
        del sys.path[: len(extra)]
        for name in [name for name in sys.modules if name.split(".")[0] == "box_convolution"]:
            del sys.modules[name]
        sys.modules.update(ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--rounds", type=int, default=11)
    args = parser.parse_args()
    theirs = authors_modules(args.source.resolve())
    torch.set_num_threads(1)
    keep_freed_memory()
    image = torch.rand(1, 3, *SIZE)
    calls = {}
    with torch.inference_mode():
        for name, (file, kind) in THEIRS.items():
            ours = deploy(networks.create(name, CLASSES, SIZE).eval(), snap=True)
            other = getattr(theirs[file], kind)(CLASSES - 1).eval()  # their networks add a class for void
            assert ours(image).shape == other(image).shape == (1, CLASSES, *SIZE)
            calls[name, "ours"] = lambda network=ours: network(image)
            calls[name, "theirs"] = lambda network=other: network(image)
        times = interleaved(calls, Repeats(args.rounds, 60))
    rows = []
    for name in THEIRS:
        ours_ms, theirs_ms = times[name, "ours"].median, times[name, "theirs"].median
        rows.append([name, f"{ours_ms:.1f}", f"{theirs_ms:.1f}", f"{theirs_ms / ours_ms:.2f}"])
    print(Table(["network", "ours, deployed, ms", "the authors', ms", "authors' / ours"], rows).markdown())


if __name__ == "__main__":
    main()
