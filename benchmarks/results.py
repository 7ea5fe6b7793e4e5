"""The complete comparison of networks: trains all of them, then writes tables and pictures.

    python benchmarks/results.py --quick                        # ENet against BoxENet on drawn scenes, one seed
    python benchmarks/results.py                                # every network on drawn scenes
    python benchmarks/results.py --no-training                  # tables and pictures of the runs that are finished
    python benchmarks/results.py --data camvid --root CAMVID    # every network on real roads, at half resolution
    python benchmarks/results.py --only enet boxenet --runs runs/64 --out results/64 -- --size 64 128

A run is in RUNS/RECIPE-sSEED and has the settings of its recipe; options after -- are added to every training. Each run
has one thread, and two run at a time. Finished runs are not trained again, and interrupted ones are resumed, so the
script can be started again at any time.

On a GPU with 16 processor cores, the whole comparison takes some five minutes: one process per core, and the samples of
all runs are made first, in memory (`side_by_side.py`). Where CUDA's multi-process service may be started, it saves a
third of the time (nvidia-cuda-mps-control -d). The second command is for the size of the paper.

    python benchmarks/results.py --at-a-time 16 --samples /dev/shm/samples -- --device cuda
    python benchmarks/results.py --runs runs/large --out docs/scenes_large --at-a-time 3 -- \\
        --size 512 1024 --amp bf16 --workers 5 --device cuda
    python benchmarks/results.py --data camvid-full --root CAMVID --out docs/camvid_full --at-a-time 6 -- \\
        --device cuda --workers 2

The results in OUT are runs.json and distance.json, with all numbers for the tables and pictures, which can be drawn
again from them without the runs; curves.png, distance.png and distance.csv; and analysis/, with receptive fields and
the boxes of BoxENet.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from boxconv.training import recipes

ENET_FAMILY = ("enet", "boxenet", "boxenet-symmetric", "boxenet-frozen", "enet-minus", "boxonlyenet",
               "boxonlyenet-log-uniform")  # fmt: skip
ERFNET_FAMILY = ("erfnet", "boxerfnet", "boxerfnet-frozen", "erfnet-minus")
WITHOUT_BOXES = ("enet-long", "enet-wide")
"""Other ways to improve ENet: training for twice as long, or wider dilations. A comparison of their own (--only)."""
PICTURED = ("enet", "boxenet", "erfnet", "boxerfnet")
"""In the picture of accuracy by distance, which has a line for each seed, and in the analysis."""
QUICK = ("--epochs", "20")
ANALYSED = ("--images", "8", "--positions", "10")
"""Receptive fields need a backward pass for each position and channel; with these numbers they take minutes."""


@dataclass(frozen=True)
class Experiment:
    """One training run."""

    recipe: str
    seed: int
    folder: Path

    @property
    def network(self) -> str:
        return recipes.settings(self.recipe).network

    def finished(self) -> bool:
        config, metrics = self.folder / "config.json", self.folder / "metrics.jsonl"
        if not (config.exists() and metrics.exists()):
            return False
        epochs = int(json.loads(config.read_text(encoding="utf-8"))["config"]["epochs"])
        lines = metrics.read_text(encoding="utf-8").splitlines()
        return len(lines) >= epochs or (bool(lines) and "stopped_early" in json.loads(lines[-1]))


def experiments(
    data: str, quick: bool, runs: Path, only: Sequence[str] = (), number: int | None = None
) -> list[Experiment]:
    """All runs in the order of training, seed by seed: if the script is stopped early, every network has one seed.

    only: names of recipes, without the data's name; all but WITHOUT_BOXES if empty. number: of seeds of each.
    """
    known = {path.stem for path in recipes.FOLDER.glob("*.json")}
    seeds = dict.fromkeys(ENET_FAMILY, 3) | dict.fromkeys((*ERFNET_FAMILY, *WITHOUT_BOXES), 2)
    if quick:
        seeds = {"enet": 1, "boxenet": 1}
    chosen = only or [name for name in seeds if name not in WITHOUT_BOXES]
    seeds = {name: number or count for name, count in seeds.items() if name in chosen}
    return [
        Experiment(f"{data}-{name}", seed, runs / f"{data}-{name}-s{seed}")
        for seed in range(max(seeds.values()))
        for name, count in seeds.items()
        if seed < count and f"{data}-{name}" in known
    ]


def boxconv(*arguments: object) -> int:
    """Run a command of boxconv in its own process, with one thread; returns the exit status."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "boxconv", *map(str, arguments)]
    return subprocess.run(command, env=environment, check=False).returncode


def train(experiment: Experiment, options: Sequence[str]) -> int:
    began = time.monotonic()
    given = ["--resume"] if (experiment.folder / "last.pt").exists() else ["--recipe", experiment.recipe, *options]
    seed = [] if given == ["--resume"] else ["--seed", experiment.seed]
    status = boxconv("train", *given, *seed, "--out", experiment.folder, "--quiet")
    minutes = (time.monotonic() - began) / 60
    print(f"{experiment.folder.name}: exit status {status} after {minutes:.1f} minutes", flush=True)
    return status


def train_each(waiting: Sequence[Experiment], options: Sequence[str], at_a_time: int) -> list[int]:
    """Train all of them in processes of `boxconv train`; returns their exit statuses."""
    with ThreadPoolExecutor(at_a_time) as pool:
        try:
            return list(pool.map(lambda experiment: train(experiment, options), waiting))
        except KeyboardInterrupt:  # the terminal sends it to the trainings too, which save and end
            pool.shutdown(cancel_futures=True)
            return [130]


def train_side_by_side(
    waiting: Sequence[Experiment], options: Sequence[str], samples: Path, at_a_time: int
) -> list[int]:
    """The same as `train` for all of them, for a machine with many cores; returns their exit statuses."""
    from side_by_side import Job, train_all

    os.environ |= {"OMP_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}  # no use of CUDA before the forks
    jobs = [Job(e.folder, ("--recipe", e.recipe, "--seed", str(e.seed), *options)) for e in waiting]
    statuses = train_all(jobs, samples, at_a_time)
    return [statuses.get(job.folder, 1) for job in jobs]


def write_results(
    finished: Sequence[Experiment], data: str, out: Path, page: Path, part: str, *, as_recipes: bool
) -> int:
    """Write the tables and pictures of finished runs; returns the largest exit status of the commands.

    part: name of the sections in ``page``. as_recipes: no option changed the settings of the recipes.
    """
    for folder in (out, page.parent):
        folder.mkdir(parents=True, exist_ok=True)
    page.touch()
    folders = [experiment.folder for experiment in finished]
    section = ("--write", page, "--part", part)
    commands: list[Sequence[object]] = [
        ("compare", *folders, "--kept", out / "runs.json", "--plot", out / "curves.png", *section, "--overwrite")
    ]
    first = {experiment.network: experiment.folder for experiment in reversed(finished)}
    shown = [name for name in PICTURED if name in first]
    if data == "scenes":
        kept = ("--kept", out / "distance.json")
        csv = ("--csv", out / "distance.csv", "--overwrite")
        commands.append(("distance", *folders, *kept, *csv, *section, "--quiet"))
        of = ("--networks", *(f"scenes-{name}" for name in PICTURED)) if as_recipes else ()
        commands.append(("distance", *kept, *of, "--plot", out / "distance.png", "--overwrite"))
    if "boxenet" in first and as_recipes:
        others = [first[name] for name in shown if name != "boxenet"]
        against = ("--against", *others) if others else ()
        into = ("--out", out / "analysis", "--overwrite", "--quiet")
        commands.append(("analyze", first["boxenet"], *against, *ANALYSED, *into))
    return max(boxconv(*command) for command in commands)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"ENet against BoxENet, one seed, {' '.join(QUICK)}")
    parser.add_argument("--data", choices=("scenes", "camvid", "camvid-full"), default="scenes")
    parser.add_argument("--root", type=Path, help="folder of the data set, for CamVid")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of what is written")
    parser.add_argument("--write", type=Path, help="Markdown file of the tables; OUT/results.md if left out")
    parser.add_argument("--part", help="name of the sections in that file; the name of the data if left out")
    parser.add_argument("--only", nargs="+", default=[], help="recipes to train, such as enet boxenet-symmetric")
    parser.add_argument("--seeds", type=int, help="number of seeds of each")
    parser.add_argument("--at-a-time", type=int, default=2, help="runs side by side")
    parser.add_argument(
        "--samples", type=Path, help="folder for the samples of all runs, which are then made only once"
    )
    parser.add_argument("--no-training", action="store_true", help="take the runs that are finished")
    parser.add_argument("options", nargs="*", help="after --: options of boxconv train, for every run")
    args = parser.parse_args()
    planned = experiments(args.data, args.quick, args.runs, args.only, args.seeds)
    if not args.no_training:
        waiting = [experiment for experiment in planned if not experiment.finished()]
        print(f"{len(waiting)} of {len(planned)} runs to train, {args.at_a_time} at a time", flush=True)
        root = ["--root", str(args.root)] if args.root else []
        options = [*root, *(QUICK if args.quick else ()), *args.options]
        if args.samples is not None:
            statuses = train_side_by_side(waiting, options, args.samples, args.at_a_time)
        else:
            statuses = train_each(waiting, options, args.at_a_time)
        if any(statuses):
            print("not all runs are finished: start the script again, and they go on", file=sys.stderr)
            return 1
    finished = [experiment for experiment in planned if experiment.finished()]
    if not finished:
        print(f"{args.runs}: no finished run", file=sys.stderr)
        return 1
    page, part = args.write or args.out / "results.md", args.part or args.data
    return write_results(finished, args.data, args.out, page, part, as_recipes=not (args.quick or args.options))


if __name__ == "__main__":
    raise SystemExit(main())
