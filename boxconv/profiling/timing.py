"""Times calls side by side: in every round each call runs once, in a new order, so that all meet the same noise."""

import ctypes
import gc
import random
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple, TypeVar

import torch

Call = Callable[[], object]
Key = TypeVar("Key", bound=Hashable)


class Timing(NamedTuple):
    """Of one call, in milliseconds: median, quartiles, fastest, and how many times it was called."""

    median: float
    low: float
    high: float
    least: float
    calls: int

    @property
    def spread(self) -> float:
        """Distance between the quartiles as a part of the median."""
        return (self.high - self.low) / self.median


class Repeats(NamedTuple):
    """For each call: at most ``rounds``, as many as fit into ``seconds``, but 3 at least if one fits."""

    rounds: int
    seconds: float


def interleaved(calls: Mapping[Key, Call], repeats: Repeats, *, wall: bool = False) -> dict[Key, Timing]:
    """Times of ``calls``.

    A call that alone takes longer than ``repeats.seconds`` is timed once. The time includes allocating and freeing the
    results. Calls that work on a GPU must wait for it (`waiting`), and be timed by the clock on the wall. Nothing
    is repeated back to back: what a call reads has been pushed out of the near caches by the others,
    as it is in a network.
    """
    clock = time.perf_counter_ns if wall else processor_or_wall_clock()
    samples: dict[Key, list[float]] = {}
    counts: dict[Key, int] = {}
    rounds, limit = repeats.rounds, 1e3 * repeats.seconds
    for name, call in calls.items():
        first = _milliseconds(call, clock)
        estimate = first if first > limit else _milliseconds(call, clock)
        counts[name] = 0 if estimate > limit else max(3, min(rounds, int(limit / estimate)))
        samples[name] = [] if counts[name] else [estimate]
    order = random.Random(0)
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            # Fewer repeats are spread evenly over the rounds.
            due = [name for name, n in counts.items() if (turn + 1) * n // rounds > turn * n // rounds]
            order.shuffle(due)
            for name in due:
                samples[name].append(_milliseconds(calls[name], clock))
    finally:
        gc.enable()
    return {name: _summary(times) for name, times in samples.items()}


def waiting(call: Call, device: torch.device) -> Call:
    """``call`` that returns when ``device`` has done the work."""
    if device.type != "cuda":
        return call

    def waited() -> None:
        call()
        torch.cuda.synchronize(device)

    return waited


def keep_freed_memory() -> bool:
    """Tells the C library to keep freed memory for re-use; False where it has no such setting (other than glibc).

    Else it depends on what the process has allocated before whether a large result is fresh memory from the system,
    which is mapped page by page as it is written. That can cost several times the work itself, of any contender: two
    copies of 40 MB took 21 ms so, and 4 ms in memory that had been kept.
    """
    trim_threshold, mmap_max = -1, -4  # glibc's malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(trim_threshold, 2**31 - 1) and mallopt(mmap_max, 0))


def processor_or_wall_clock() -> Callable[[], int]:
    """Nanoseconds of processor time for one thread, where that clock is fine enough; wall time for several, or else.

    For one thread the two are the same on an idle machine. On a busy one processor time leaves out the turns of other
    programs, which come in steps of milliseconds and would hit the slow contenders more often than the fast.
    """
    fine = time.get_clock_info("process_time").resolution <= 1e-6
    return time.process_time_ns if fine and torch.get_num_threads() == 1 else time.perf_counter_ns


def _milliseconds(call: Call, clock: Callable[[], int]) -> float:
    start = clock()
    call()
    return (clock() - start) / 1e6


def _summary(times: list[float]) -> Timing:
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (median, median, median)
    return Timing(median, low, high, min(times), len(times))
