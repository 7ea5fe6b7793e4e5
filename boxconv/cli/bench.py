"""`boxconv bench`."""

import os
from dataclasses import dataclass
from pathlib import Path

import tyro

from ..data.config import at_least, expect
from ..errors import UsageError
from .outputs import check_page, write_page

TABLE_3 = ("enet", "boxenet", "enet_minus", "boxonlyenet", "erfnet", "boxerfnet", "erfnet_minus")
NAME = "boxconv bench"


@dataclass(frozen=True)
class Bench:
    """Time the deployed networks of the paper side by side: BatchNorm folded, boxes snapped, blocks fused.

    The networks or blocks of a table take turns in one process. Compare ratios: milliseconds depend on the machine.
    """

    networks: tyro.conf.Positional[tuple[str, ...]] = TABLE_3
    """Networks to time."""
    size: tuple[int, int] = (512, 1024)
    """Height and width of the image, in pixels."""
    rounds: int = 21
    """How often each is timed; the median and the quartiles are reported."""
    threads: tuple[int, ...] = tuple(sorted({1, os.cpu_count() or 1}))
    """Numbers of threads on the CPU. With 1, processor time is measured, else wall time."""
    device: str = "auto"
    """cpu, cuda, or auto: the CPU, and a GPU where there is one."""
    compile: bool = False
    """Also each network under torch.compile. Needs a C++ compiler; takes minutes."""
    blocks: bool = True
    """Also the box block against the blocks that it replaces."""
    train: bool = True
    """Also a training step: 176 x 240, batch 8, Adam."""
    write: Path | None = None
    """Markdown file: its section between the comments of `boxconv bench` is replaced, or appended if missing."""


def run(args: Bench) -> None:
    import torch

    from box_convolution.deploy import keep_freed_memory

    from ..profiling import network_speed

    _check(args)
    check_page(args.write, NAME)
    devices = _devices(args.device, torch.cuda.is_available())
    keeps_memory = keep_freed_memory()
    text = [network_speed.about(args, keeps_memory)]
    for device in devices:
        for threads in args.threads if device == "cpu" else (torch.get_num_threads(),):
            torch.set_num_threads(threads)
            for section in network_speed.measured(args, torch.device(device), threads):
                print(section.plain(), flush=True)
                text.append(section)
    write_page(args.write, NAME, text)


def _check(args: Bench) -> None:
    from box_convolution import networks

    unknown = [name for name in args.networks if name not in networks.names()]
    if unknown:
        raise UsageError(f"NETWORKS: expected some of {', '.join(networks.names())}, got {', '.join(unknown)}")
    at_least("size", min(args.size), 1)
    at_least("rounds", args.rounds, 1)
    at_least("threads", min(args.threads, default=0), 1)


def _devices(wanted: str, cuda: bool) -> list[str]:
    expect("device", wanted in ("auto", "cpu", "cuda"), "auto, cpu or cuda", wanted)
    if wanted == "cuda" and not cuda:
        raise UsageError("--device cuda: not available here")
    return ["cpu", *(["cuda"] if cuda else [])] if wanted == "auto" else [wanted]
