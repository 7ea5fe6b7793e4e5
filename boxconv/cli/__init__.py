"""The command line: one file per command, which parses, calls and prints.

Exit status: 0 done, 1 the run failed, 2 wrong usage, 130 / 143 stopped by a signal after saving, 141 the output was
closed.
"""

import importlib
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import UsageError

STOPPED = "boxconv: stopped"


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit status. Errors that the user can fix are one message, without a traceback."""
    _print_anything()
    try:
        with _ctrl_c_ends_imports():
            status = _run(sys.argv[1:] if argv is None else argv)
        print(end="", flush=True)  # here, where a closed pipe has an answer
        return status
    except UsageError as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except UnicodeEncodeError as error:
        return _fail(f"{error.object!r}: a name that is not {error.encoding}, which a library needs: rename it", 1)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror or error}" if error.filename else error, 1)
    except ImportError as error:
        missing = _missing(error)
        if missing is None:
            raise
        return _fail(missing, 1)
    except Exception as error:
        return _explain(error)


@contextmanager
def _ctrl_c_ends_imports() -> Iterator[None]:
    """Inside the block, ctrl-C while PyTorch and what it needs load ends the process at once.

    They lose the KeyboardInterrupt that Python raises, or make another error of it. Later there may be files to remove.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        loaded = hasattr(sys.modules.get("torch"), "compile")  # defined late in PyTorch's first module
        if not loaded and any("importlib" in caller.f_code.co_filename for caller, _ in traceback.walk_stack(frame)):
            os.write(2, f"{STOPPED}\n".encode())
            os._exit(128 + number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _print_anything() -> None:
    """Let both streams accept any text: characters that they cannot encode are printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run(argv: list[str]) -> int:
    if argv == ["--version"]:
        from importlib import metadata

        print(f"boxconv {metadata.version('box_convolution')}")
        return 0
    if argv == ["doctor"]:  # whatever is missing, also what reads command lines
        from . import doctor

        return doctor.run(doctor.Doctor())
    from . import commands

    return commands.run(argv)


def _missing(error: ImportError) -> str | None:
    """Say what to install if an import failed because a package is missing; None for any other failure."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's, where NumPy is missing
            importlib.import_module("torch")
    except (ImportError, OSError) as failed:  # without it, nobody knows the packages' names
        return f"PyTorch cannot be imported ({failed}): pip install torch"
    from box_convolution import extras

    return extras.explain(error)


def _explain(error: Exception) -> int:
    """Print what went wrong and return the exit status; an unexpected exception is raised again."""
    from box_convolution.deploy.exported import ExportError
    from box_convolution.networks.weights import WeightsError

    from ..data.class_table import DataError
    from ..reports.run_comparison import RunError
    from ..training.checkpoint import CheckpointError
    from ..training.device import TrainingError, is_out_of_memory
    from ..training.distributed import DistributedError, is_peer_failure
    from ..training.run_folder import RunFolderError
    from ..training.stop_signals import Interrupted

    if isinstance(error, Interrupted):
        print(f"boxconv: stopped by {error}; the state is saved, go on with --resume", file=sys.stderr)
        return 128 + error.number
    if isinstance(error, RunFolderError):
        return _fail(error, 2)
    if isinstance(
        error, (DataError, CheckpointError, ExportError, WeightsError, RunError, TrainingError, DistributedError)
    ):
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
