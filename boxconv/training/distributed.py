"""Training in several processes: their ranks, the messages between them, and their orderly end.

`torchrun` (or another launcher that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT) starts the processes. PyTorch's
own collectives are enough. The library accelerate would not help with the parts that are particular to this project:
sampling, the store, and checkpoints.
"""

import atexit
import gc
import json
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

# Imported before a process group exists: functions in this module bind the group of that moment as their default
# argument, and keep it alive. Otherwise DistributedDataParallel would import the module later.
import torch.distributed.nn
from torch import Tensor

from ..errors import UsageError


class DistributedError(RuntimeError):
    """Another process of the run is dead, hung or has failed; the message says what is known."""


@dataclass(frozen=True)
class DistributedContext:
    """The processes of a run. By default there is one process; then the methods below return at once."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Number of this process on its machine, and of the GPU that it uses."""
    restart: int = 0
    """How often torchrun has restarted the processes."""
    job: Any = None
    """Key-value store that outlives a restart; None without a launcher."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the process that writes files and prints."""
        return self.rank == 0

    def all_gather(self, *numbers: float) -> list[list[float]]:
        """The numbers of every process, by rank. Raises DistributedError if one does not answer in time."""
        if self.world_size == 1:
            return [list(numbers)]
        mine = torch.tensor(numbers, dtype=torch.float64)
        every = [torch.empty_like(mine) for _ in range(self.world_size)]
        with explained():
            dist.all_gather(every, mine)
        return [row.tolist() for row in every]

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum of a tensor over the processes, which all get it. Raises DistributedError like `all_gather`."""
        if self.world_size == 1:
            return tensor
        total = tensor.clone()
        with explained():
            dist.all_reduce(total)
        return total

    def broadcast(self, tensors: Iterator[Tensor]) -> None:
        """Overwrite the tensors with those of rank 0. Raises DistributedError like `all_gather`."""
        if self.world_size > 1:
            with explained():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def require_equal(self, what: str, fingerprint: str) -> None:
        """Raise DistributedError, naming the ranks, unless ``fingerprint`` is the same in all processes."""
        if self.world_size == 1:
            return
        every: list[str] = [""] * self.world_size
        with explained():
            dist.all_gather_object(every, fingerprint)
        odd = [rank for rank, other in enumerate(every) if other != every[0]]
        if odd:
            ranks = ", ".join(map(str, odd))
            raise DistributedError(
                f"{what} of rank {ranks} differs from that of rank 0: start all processes in the same way"
            )

    def run_on_main(self, name: str, work: Callable[[], Any]) -> Any:
        """Run ``work`` in rank 0 alone, without a time limit, and return its result (plain JSON values) in every rank.

        ``name`` must be new for each call. If ``work`` raises an error, rank 0 raises that error and the others raise
        DistributedError.
        """
        if self.world_size == 1:
            return work()
        store = dist.PrefixStore(f"restart-{self.restart}", self.job)
        if self.is_main:
            try:
                result = work()
            except BaseException:
                store.set(name, "failed")
                raise
            store.set(name, "done" + json.dumps(result))
            return result
        with explained():
            while not store.check([name]):
                time.sleep(0.05)
            answer = store.get(name).decode()
        if answer == "failed":
            raise DistributedError("rank 0 failed; its message says why")
        return json.loads(answer.removeprefix("done"))

    def claim(self, folder: str) -> None:
        """Record that this job works in ``folder``, so that it recognises the folder after a restart."""
        if self.job is not None and self.is_main:
            self.job.set(f"folder {folder}", str(self.restart))

    def claimed_before(self, folder: str) -> bool:
        """Whether this job worked in ``folder`` before torchrun restarted it."""
        key = f"folder {folder}"
        if self.job is None or self.restart == 0 or not self.job.check([key]):
            return False
        return int(self.job.get(key)) < self.restart


ALONE = DistributedContext()
"""A run of one process."""


@contextmanager
def explained() -> Iterator[None]:
    """Turn the errors of failed collectives inside the block into DistributedError with a message for users."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, DistributedError) or not is_peer_failure(error):
            raise
        raise DistributedError(
            "another process did not answer: it has ended, hangs, or, if it is rank 0, takes long to write a file; "
            f"--timeout sets how long to wait ({str(error).splitlines()[0][:150]})"
        ) from error


def is_peer_failure(error: BaseException) -> bool:
    """Whether an error of PyTorch means that another process is gone or late."""
    if isinstance(error, dist.DistError):
        return True
    words = ("gloo", "Connection closed by peer", "Connection reset", "Timed out waiting", "NCCL", "TCPStore")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


@contextmanager
def init_distributed(timeout: float = 60.0) -> Iterator[DistributedContext]:
    """Join the processes that the launcher started, and leave them when the block ends; `ALONE` without a launcher.

    ``timeout`` is how many seconds a collective waits for the other processes. Raises UsageError if the environment
    variables contradict each other or are incomplete, DistributedError if the other processes cannot be reached.
    """
    if "RANK" not in os.environ and "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    rank, size, port = _number("RANK"), _number("WORLD_SIZE"), _number("MASTER_PORT")
    if not 0 <= rank < size:
        raise UsageError(f"environment: expected 0 <= RANK < WORLD_SIZE, got RANK={rank}, WORLD_SIZE={size}")
    host = os.environ.get("MASTER_ADDR")
    if not host:
        raise UsageError("environment: RANK is set, but not MASTER_ADDR: start the processes with torchrun")
    restart = _number("TORCHELASTIC_RESTART_COUNT", 0)
    _end_with_parent()
    limit = timedelta(seconds=timeout)
    hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun runs the store, it outlives us
    try:
        store = dist.TCPStore(host, port, None, rank == 0 and not hosted, limit, wait_for_workers=False)
        job = dist.PrefixStore(f"boxconv {os.environ.get('TORCHELASTIC_RUN_ID', '')}", store)
        # Every restart needs a store of its own: in torchrun's store, processes find the addresses of the dead ones.
        group = dist.PrefixStore(f"group-{restart}", job)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        if size > 1:
            dist.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=limit)
            assert dist.group.WORLD is not None
            atexit.register(_leave_at_exit, weakref.ref(dist.group.WORLD))
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise DistributedError(f"rank {rank} of {size} cannot meet the others at {host}:{port}: {reason}") from error
    yield DistributedContext(rank, size, _number("LOCAL_RANK", 0), restart, job)
    if size > 1:
        _leave()


def _leave() -> None:
    """Destroy the process group. Its threads end with it when nothing refers to it any more."""
    dist.destroy_process_group()
    gc.collect()  # DistributedDataParallel refers to the group from a reference cycle


def _leave_at_exit(group: "weakref.ref[dist.ProcessGroup]") -> None:
    """Destroy the group before Python shuts down: a gloo thread that frees a tensor during shutdown aborts the process.

    After an error, a traceback refers to the group, so it can be destroyed only here. With CUDA it is left alone: NCCL
    would wait for processes that have ended.
    """
    gc.collect()
    if dist.is_initialized() and dist.group.WORLD is group() and not torch.cuda.is_available():
        _leave()
    if group() is not None:  # the caller still refers to it; give its threads time to release their tensors
        time.sleep(0.1)


def shard(items: Sequence[Any]) -> Sequence[Any]:
    """This process's share of ``items``: every WORLD_SIZE-th one, or all without a launcher. Needs no process group."""
    if "RANK" not in os.environ:
        return items
    return items[_number("RANK") :: _number("WORLD_SIZE")]


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, "" if default is None else str(default))
    if not text.isdigit():
        found = f"{name}={text!r}" if text else f"no {name}"
        raise UsageError(f"environment: {found}: start the processes with torchrun, which sets RANK, WORLD_SIZE ...")
    return int(text)


def _end_with_parent() -> None:
    """End this process when its launcher is gone: it would run on and write into the folder of the next attempt."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        print(f"boxconv: error: the launcher (process {parent}) is gone, so this process ends", file=sys.stderr)
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()
