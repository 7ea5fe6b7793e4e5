"""Start two processes like torchrun, but without the seconds that it takes: the caller runs their store."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


@contextmanager
def pair(command: list[Any], **options: Any) -> Iterator[list[subprocess.Popen[str]]]:
    """Run ``command`` in two processes; yields them by rank, and kills them at the end."""
    # Port 0: the system chooses a free port and reserves it for this store.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]),
    }
    processes = [
        subprocess.Popen(
            [str(word) for word in command],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        for rank in range(2)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def results_of_two(script: Path, folder: Path) -> list[dict[str, Any]]:
    """What the script saves in each of two processes, by rank: rank0.pt and rank1.pt in ``folder``, its argument."""
    with pair([sys.executable, script, folder]) as processes:
        for process in processes:
            _, errors = process.communicate(timeout=600)
            assert process.returncode == 0, errors
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
