"""Timing calls side by side: in every round each call runs once, in random order, so that noise affects all alike."""

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
    """Times of one call in milliseconds: median, lower and upper quartile, and all of them in order of the turns."""

    median: float
    low: float
    high: float
    all: tuple[float, ...]

    @property
    def calls(self) -> int:
        return len(self.all)

    @property
    def spread(self) -> float:
        """Difference between the quartiles, divided by the median."""
        return (self.high - self.low) / self.median

    def over(self, base: "Timing") -> float:
        """Ratio of the times to those of ``base``: the median over the turns of the ratios in one turn.

        What slows down a machine for seconds affects both times of a turn, so that their ratio stays. If the two were
        not called equally often, it is the ratio of the medians.
        """
        if self.calls != base.calls:
            return self.median / base.median
        return statistics.median(time / other for time, other in zip(self.all, base.all, strict=True))


class Repeats(NamedTuple):
    """How often to time each call: as often as fits into ``seconds``, but at least 3 and at most ``rounds`` times.

    If not even one call fits, it is timed once.
    """

    rounds: int
    seconds: float


def interleaved(calls: Mapping[Key, Call], repeats: Repeats, *, wall: bool = False) -> dict[Key, Timing]:
    """Times of ``calls``, which take turns.

    The times include allocating and freeing the results. A call that runs on a GPU must wait for it (`waiting`), and
    needs wall time (``wall``). No call is repeated back to back, so other calls have displaced its data from the inner
    caches, as in a network.
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
            # A call with fewer repeats than rounds is spread evenly over the rounds.
            due = [name for name, n in counts.items() if (turn + 1) * n // rounds > turn * n // rounds]
            order.shuffle(due)
            for name in due:
                samples[name].append(_milliseconds(calls[name], clock))
    finally:
        gc.enable()
    return {name: _summary(times) for name, times in samples.items()}


def waiting(call: Call, device: torch.device) -> Call:
    """A call like ``call`` that returns only when ``device`` has finished the work."""
    if device.type != "cuda":
        return call

    def waited() -> None:
        call()
        torch.cuda.synchronize(device)

    return waited


def processor_or_wall_clock() -> Callable[[], int]:
    """A clock in nanoseconds: processor time if torch has one thread and that clock is fine enough, else wall time.

    On an idle machine the two are the same for one thread. On a busy machine, processor time excludes the time slices
    of other programs. They last milliseconds, so in wall time they would hit slow calls more often than fast ones.
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
    return Timing(median, low, high, tuple(times))
