"""Start a training run in a folder: a new run, one that replaces another, or the continuation of the one in it."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..data.data_folder import check_outside_data
from ..data.registry import classes_of
from ..errors import UsageError
from ..files import Existing
from . import checkpoint
from .config import TrainConfig, resumed
from .distributed import ALONE, DistributedContext
from .loop import train
from .metrics import about_absent
from .recorder import Watch
from .run_folder import RunFolder, check_folder
from .setup import CreateNetwork, Run, build_run
from .stop_signals import second_signal_ends_at_once

NetworkFor = Callable[..., tuple[TrainConfig, CreateNetwork]]
"""`boxconv.inference.new_network.network_for`, or a function like it; training does not import it."""


def built(
    config: TrainConfig,
    network_for: NetworkFor,
    *,
    resume: bool = False,
    progress: bool = True,
    **options: Any,
) -> Run:
    """Build the run of ``config`` with its network. Arguments, prints and errors: `build_run` and ``network_for``."""
    config, create_network = network_for(config, resume=resume, quiet=not progress)
    return build_run(config, create_network, progress=progress, **options)


def train_into(
    out: Path,
    config: TrainConfig,
    network_for: NetworkFor,
    *,
    existing: Existing = "refuse",
    check_files: bool = True,
    progress: bool = True,
    provenance: str = "",
    context: DistributedContext = ALONE,
    before: Callable[[], None] | None = None,
    watch: Watch | None = None,
) -> list[dict[str, Any]]:
    """Build the run of ``config``, train it in the folder ``out``, and return its records.

    Args:
        existing: what to do with a run that is in the folder already. With "resume", ``config`` may differ from the
            settings of that run only as `resumed` allows.
        check_files: as in `build_run`.
        provenance: software and machine, for ``config.json``.
        before: work that precedes a new run, done by rank 0 when the folder is known to be free.
        watch: as in `train`.

    Raises what `RunFolder`, `build_run` and `train` raise; CheckpointError for a ``last.pt`` that cannot be resumed;
    UsageError for settings or classes that do not fit it. Nothing is deleted before the new run has been built.
    """
    job = str(out.absolute())

    folder: RunFolder | None = None
    with second_signal_ends_at_once(), ExitStack() as stack:

        def open_folder() -> None:
            nonlocal folder
            folder = stack.enter_context(RunFolder(out, resume=mode == "resume", overwrite=mode == "overwrite"))
            context.claim(job)

        saved: dict[str, Any] | None = None
        mode = context.run_on_main("how to open the folder", lambda: _how_to_open(out, existing, context, job))
        if mode == "resume":
            context.run_on_main("folder", open_folder)
            saved = checkpoint.load(out / "last.pt")
            of_run = checkpoint.settings(saved, out / "last.pt")
            config = resumed(config, of_run) if existing == "resume" else of_run
            _compare_classes(saved["classes"], classes_of(config).to_dict(), told=progress and context.is_main)
        else:
            start = config.start_from
            if mode == "overwrite" and start and start.exists() and start.resolve().is_relative_to(out.resolve()):
                raise UsageError(f"--overwrite: would delete {start}, which --start-from reads")
            context.run_on_main("new folder", lambda: check_new_run(out, config, overwrite=mode == "overwrite"))
            if before is not None:
                context.run_on_main("before", before)
        progress = progress and context.is_main
        run = built(
            config, network_for, resume=saved is not None, context=context, check_files=check_files, progress=progress
        )
        if mode != "resume":
            context.run_on_main("folder", open_folder)
        if progress:
            print(f"{run}; writing to {out}")
        records = train(run, folder, resume=saved, provenance=provenance, progress=progress, watch=watch)
        for split, absent in run.unscored.items():
            print(about_absent(f"the labels of {split}", absent))
        return records


def _compare_classes(before: dict[str, Any], now: dict[str, Any], *, told: bool) -> None:
    """UsageError if a resumed run has got other classes; with ``told``, print which of them have other names."""
    if before.get("values", now["values"]) != now["values"]:
        old, new = (", ".join(map(str, values)) for values in (before["values"], now["values"]))
        raise UsageError(f"--resume: the run's classes have the labels {old}; now the class table has {new}")
    pairs = (pair for part in ("names", "categories") for pair in zip(before.get(part, ()), now[part], strict=False))
    renamed = dict.fromkeys(f"{old} is now {new}" for old, new in pairs if old != new)
    if renamed and told:
        print(f"note: the class table has changed since the run was saved: {', '.join(renamed)}")


def _how_to_open(out: Path, existing: Existing, context: DistributedContext, job: str) -> Existing:
    """``existing``; but where torchrun has restarted this job, its own run goes on."""
    if not context.claimed_before(job):
        return existing
    return "resume" if (out / "last.pt").exists() else "overwrite"


def check_new_run(out: Path, config: TrainConfig, *, overwrite: bool) -> None:
    """Raise an error if a new run with the settings ``config`` may not be written to ``out``. Call this before work."""
    check_outside_data({"--out": out}, config.root)
    check_folder(out, overwrite=overwrite)


def settings_in(out: Path) -> TrainConfig:
    """The settings of the run in a folder, for resuming it. Raises CheckpointError if its ``last.pt`` is unusable."""
    path = out / "last.pt"
    return checkpoint.settings(checkpoint.load(path), path)
