"""`boxconv cost`."""

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import tyro

from ..data.config import at_least
from ..errors import UsageError, plural

if TYPE_CHECKING:
    from ..profiling.cost import Cost
    from ..reports.tables import Table

_EXPLANATION = """\
parameters: all that training changes, with BatchNorm's, without the biases that a following BatchNorm cancels.
paper: the convention of the paper's Table 3, without BatchNorm; a transposed convolution counts at its output's size.
MAC: multiply-adds of convolutions. box: operations of box convolutions.
MB: peak memory of results of operations, without weights.
ms: median time of a forward pass in evaluation mode of the training form, with nothing folded or fused."""


@dataclass(frozen=True)
class CostOf:
    """Count parameters and operations of networks, by the usual convention and the paper's; measure memory and time."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Networks; all by default."""
    size: tuple[int, int] = (512, 1024)
    """Height and width of the image, in pixels."""
    num_classes: int = 19
    """Classes that the network tells apart."""
    in_channels: int = 3
    """Channels of the image."""
    batch_size: int = 1
    """Images in a forward pass."""
    blocks: bool = False
    """Also show each block."""
    rounds: int = 5
    """How many forward passes to time; with 0, none is timed."""
    threads: int = 1
    """Threads of the timed passes. With 1, processor time is measured, which does not grow if other programs run."""
    device: str = "auto"
    format: Literal["text", "json", "markdown"] = "text"
    """How the tables are printed."""


def run(args: CostOf) -> None:
    import torch

    from box_convolution import networks

    from ..profiling.cost import cost, forward_times
    from ..progress_bar import progress_bar
    from ..training.device import choose_device

    names = args.names or tuple(networks.names())
    _check(args, names, networks.names())
    device = choose_device(args.device)
    torch.set_num_threads(args.threads)
    shape = (args.batch_size, args.in_channels, *args.size)
    rows: list[tuple[str, Cost, float | None]] = []
    blocks: dict[str, list[tuple[str, Cost, float | None]]] = {}
    for name in progress_bar(names, desc="measuring", unit="network"):
        network = networks.create(name, args.num_classes, args.size, in_channels=args.in_channels)
        counted = cost(network, shape, name)
        times = forward_times(network.to(device), torch.rand(shape, device=device), rounds=args.rounds)
        rows.append((name, counted.total, times.get("")))
        blocks[name] = [(f"{block.name} {block.kind}", block, times.get(block.name)) for block in counted.blocks]
    about: dict[str, Any] = {
        "image": list(shape),
        "num_classes": args.num_classes,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": args.threads,
        "torch": torch.__version__,
    }
    if args.format == "json":
        records = [
            {**_record(total, ms), "blocks": [_record(block, t) for _, block, t in blocks[name]]}
            for name, total, ms in rows
        ]
        print(json.dumps({**about, "networks": records}, indent=2))
        return
    tables = {"network": rows, **(blocks if args.blocks else {})}
    for title, lines in tables.items():
        table = _table(title, lines)
        print((table.markdown() if args.format == "markdown" else table.plain()) + "\n")
    image = f"{args.size[0]} x {args.size[1]}, batch {args.batch_size}, {plural(args.num_classes, 'class')}"
    where = f"{about['device']}, {plural(about['threads'], 'thread')}, torch {about['torch']}"
    print(f"{image}; {where}.\n{_EXPLANATION}")


def _check(args: CostOf, names: tuple[str, ...], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise UsageError(f"NAMES: expected some of {', '.join(known)}, got {name!r}")
    at_least("size", min(args.size), 1)
    for name in ("num_classes", "in_channels", "batch_size", "threads"):
        at_least(name, getattr(args, name), 1)
    at_least("rounds", args.rounds, 0)


def _record(cost: "Cost", milliseconds: float | None) -> dict[str, Any]:
    return {
        "name": cost.name,
        "kind": cost.kind,
        "parameters": dataclasses.asdict(cost.parameters),
        "operations": cost.operations._asdict(),
        "memory_bytes": cost.memory,
        "milliseconds": milliseconds,
    }


def _table(title: str, lines: "list[tuple[str, Cost, float | None]]") -> "Table":
    from ..reports.tables import Table

    large = title == "network"
    unit, divisor, digits = ("G", 1e9, 3) if large else ("M", 1e6, 1)
    header = [
        title, "paper: params", f"paper: {unit}", "parameters", "of BatchNorm", "of boxes", "trainable",
        f"{unit} MAC", f"{unit} box", "MB", "ms",
    ]  # fmt: skip
    rows = []
    for name, cost, milliseconds in lines:
        parameters, operations = cost.parameters, cost.operations
        counts = (parameters.standard, parameters.norm, parameters.boxes, parameters.trainable)
        rows.append(
            [
                name,
                f"{parameters.paper:,}",
                f"{operations.paper / divisor:.{digits}f}",
                *(f"{count:,}" for count in counts),
                f"{operations.macs / divisor:.{digits}f}",
                f"{operations.box / divisor:.{digits}f}",
                f"{cost.memory / 1e6:.1f}",
                "" if milliseconds is None else f"{milliseconds:.4g}",
            ]
        )
    return Table(header, rows)
