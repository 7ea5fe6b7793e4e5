"""Start two processes like torchrun, but without the seconds that it takes: the caller runs their store."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
