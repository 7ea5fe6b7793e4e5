"""Random damage to checkpoint files, and hostile files, given to `checkpoint.load`."""

import contextlib
import os
import random
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from faults import hostile

from boxconv.training import checkpoint
from boxconv.training.checkpoint import CheckpointError
from boxconv.training.checkpoint_integrity import sealed
from boxconv.training.config import TrainConfig, to_plain


@dataclass
class Tally:
    """How often a fault was tried, and how often the outcome was right."""

    tried: int = 0
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    """A description of each wrong outcome."""


def honest() -> dict[str, object]:
    """The content of a small checkpoint with all kinds of values that a large one has."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 2, 1))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    return {
        "network": {"name": "boxenet", "num_classes": 2, "input_size": [32, 32], "options": {}},
        "classes": {"names": ["a", "b"], "colours": [[0, 0, 0], [1, 1, 1]]},
        "config": to_plain(TrainConfig()),
        "model": model.state_dict(),
        "scores": {"class_iou": 0.5},
        "training": {"optimizer": optimizer.state_dict(), "state": {"epoch": 1, "records": [{"epoch": 1}]}},
    }


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Damage data at random: flip one to eight bits, cut it off, or lose, repeat, zero, add or swap bytes."""
    damaged = bytearray(data)
    place = chance.randrange(len(data))
    size = chance.choice((1, 2, 16, 512))
    kind = chance.choice(("flip", "flip", "flip", "cut", "lose", "double", "zero", "add", "swap"))
    if kind == "flip":
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del damaged[place:]
    elif kind == "lose":
        del damaged[place : place + size]
    elif kind == "double":
        damaged[place:place] = damaged[place : place + size]
    elif kind == "zero":
        damaged[place : place + size] = bytes(len(damaged[place : place + size]))
    elif kind == "add":
        damaged += chance.randbytes(size)
    else:
        other = chance.randrange(len(data))
        damaged[place], damaged[other] = damaged[other], damaged[place]
    return bytes(damaged)


def damaged(folder: Path, count: int) -> Tally:
    """Damage checkpoints at random: each must be refused."""
    path = folder / "a.pt"
    checkpoint.save(path, honest())
    whole, chance, tally = path.read_bytes(), random.Random(1), Tally()
    while tally.tried < count:
        data = mutate(whole, chance)
        if data == whole:
            continue
        tally.tried += 1
        path.write_bytes(data)
        try:
            checkpoint.load(path)
            tally.wrong.append(f"mutant {tally.tried} was loaded")
        except CheckpointError:
            tally.right += 1
    return tally


def tampered(folder: Path, count: int) -> Tally:
    """Damage checkpoints at random and add a correct checksum, so that the checks after the checksum are tested.

    Each must be refused with CheckpointError or loaded as plain values. ``right`` counts only the refused ones.
    """
    path = folder / "a.pt"
    checkpoint.save(path, honest())
    whole, chance, tally = path.read_bytes()[:-71], random.Random(2), Tally()
    whole = whole[:-2] + b"\0\0"
    while tally.tried < count:
        tally.tried += 1
        data = mutate(whole, chance)
        with contextlib.suppress(ValueError):  # its end is damaged, so it gets no checksum
            data = sealed(data)
        path.write_bytes(data)
        try:
            checkpoint.load(path)
        except CheckpointError:
            tally.right += 1
        except Exception as error:
            tally.wrong.append(f"mutant {tally.tried}: {type(error).__name__}: {error}")
    return tally


def hostile_files(folder: Path) -> Tally:
    """Every file of the hostile corpus must be refused, without code run, in little memory and time."""
    target = folder / "code-ran"
    os.environ[hostile.CODE_RAN] = str(target)
    tally = Tally()
    (folder / "files").mkdir()
    for name, path in hostile.corpus(folder / "files"):
        tally.tried += 1
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        try:
            checkpoint.load(path)
            tally.wrong.append(f"{name}: loaded")
        except CheckpointError:
            tally.right += 1
        except BaseException as error:
            tally.wrong.append(f"{name}: {type(error).__name__}: {error}")
        if target.exists():
            tally.wrong.append(f"{name}: its code was run")
            target.rmdir()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        if grown > 64:
            tally.wrong.append(f"{name}: took {grown:.0f} MiB")
        if time.monotonic() - started > 10:
            tally.wrong.append(f"{name}: took {time.monotonic() - started:.0f} s")
    return tally
