"""The command line: the only place that wires networks, data and training together. One file a command.

Exit status: 0 done, 1 the run failed, 2 wrong usage, 130 / 143 stopped by a signal after saving, 141 nobody reads what
it prints.
"""

import os
import signal
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Any

import tyro

from ..segmentation.config import UsageError
from . import (
    analyze,
    bench,
    check_data,
    compare,
    cost,
    distance,
    draw,
    evaluate,
    export,
    finetune,
    import_sunrgbd,
    predict,
    recipes,
    submit,
    train,
)

# What each command's settings are, and what runs it. Modules import PyTorch and other large libraries only in ``run``.
COMMANDS: dict[type, Callable[[Any], int | None]] = {
    train.Train: train.run,
    evaluate.Evaluate: evaluate.run,
    predict.Predict: predict.run,
    submit.Submit: submit.run,
    finetune.Finetune: finetune.run,
    export.Export: export.run,
    check_data.CheckData: check_data.run,
    import_sunrgbd.ImportSunRgbd: import_sunrgbd.run,
    compare.Compare: compare.run,
    cost.CostOf: cost.run,
    bench.Bench: bench.run,
    analyze.Analyze: analyze.run,
    draw.Draw: draw.run,
    distance.Distance: distance.run,
}
OtherCommand = (
    Annotated[evaluate.Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[predict.Predict, tyro.conf.subcommand("predict")]
    | Annotated[submit.Submit, tyro.conf.subcommand("submit")]
    | Annotated[finetune.Finetune, tyro.conf.subcommand("finetune")]
    | Annotated[export.Export, tyro.conf.subcommand("export")]
    | Annotated[check_data.CheckData, tyro.conf.subcommand("check-data")]
    | Annotated[import_sunrgbd.ImportSunRgbd, tyro.conf.subcommand("import-sunrgbd")]
    | Annotated[compare.Compare, tyro.conf.subcommand("compare")]
    | Annotated[cost.CostOf, tyro.conf.subcommand("cost")]
    | Annotated[bench.Bench, tyro.conf.subcommand("bench")]
    | Annotated[analyze.Analyze, tyro.conf.subcommand("analyze")]
    | Annotated[draw.Draw, tyro.conf.subcommand("draw")]
    | Annotated[distance.Distance, tyro.conf.subcommand("distance")]
)


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status. Errors of the user's making are one message, never a traceback."""
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        print(end="", flush=True)  # here, where a closed pipe has an answer
        return status
    except UsageError as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        print("boxconv: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror or error}" if error.filename else error, 1)
    except Exception as error:
        return _explain(error)


def _run(argv: list[str]) -> int:
    if argv == ["--version"]:
        print(f"boxconv {metadata.version('box_convolution')}")
        return 0
    recipe = recipes.chosen(argv) if argv[:1] == ["train"] else None
    if recipe == "help":
        print(recipes.listing())
        return 0
    args: Any = tyro.cli(
        Annotated[train.Train, tyro.conf.subcommand("train", default=train.defaults(recipe))] | OtherCommand,
        prog="boxconv",
        description="Train, evaluate and use segmentation networks with box convolutions.",
        args=argv,
    )
    return COMMANDS[type(args)](args) or 0


def _explain(error: Exception) -> int:
    """Print what went wrong, return the exit status; an exception that nobody expects is raised again."""
    from ..analysis.run_comparison import RunError
    from ..deploy.export import ExportError
    from ..networks.weights import WeightsError
    from ..segmentation.checkpoint import CheckpointError
    from ..segmentation.classes import DataError
    from ..segmentation.distributed import PeerError, is_peer_failure
    from ..segmentation.interrupt import Interrupted
    from ..segmentation.run_folder import RunFolderError
    from ..segmentation.training_step import TrainingError, is_out_of_memory

    if isinstance(error, Interrupted):
        print(f"boxconv: stopped by {error}; the state is saved, go on with --resume", file=sys.stderr)
        return 128 + error.number
    if isinstance(error, RunFolderError):
        return _fail(error, 2)
    if isinstance(error, (DataError, CheckpointError, ExportError, WeightsError, RunError, TrainingError, PeerError)):
        return _fail(error, 1)
    if isinstance(error, ImportError) and "pip install" in str(error):
        return _fail(error, 1)
    first = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        # PyTorch raises this wherever the main process happens to be. A full /dev/shm shows as a bus error.
        return _fail(f"a process that loads images has died ({first}); the last checkpoint is intact", 1)
    if is_out_of_memory(error):
        return _fail(f"out of memory: {first}", 1)
    if is_peer_failure(error):
        return _fail(f"another process has ended or does not answer ({first})", 1)
    raise error


def _fail(message: object, status: int) -> int:
    rank = os.environ.get("RANK")
    print(f"boxconv: error: {f'rank {rank}: ' if rank else ''}{message}", file=sys.stderr)
    return status
