"""Timing calls on a GPU side by side: they take turns, and the caches are flushed before each call."""

import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TypeVar

import torch

Call = Callable[[], object]
Key = TypeVar("Key", bound=Hashable)
WARM_UP = 3
IN_A_ROW = 20


def captured(call: Call) -> Call:
    """``call`` as a CUDA graph, so that the time is that of the GPU's work, without Python's overhead."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()

    def replay(kept: Call = call) -> None:  # the graph reads the tensors of ``call``, which must stay alive
        graph.replay()

    return replay


def interleaved(calls: Mapping[Key, Call], rounds: int) -> dict[Key, float]:
    """Median microseconds of each call, by the GPU's own clock."""
    flush = torch.ones(2**26, device="cuda")  # more bytes than the largest cache
    events: dict[Key, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {name: [] for name in calls}
    for name in _turns(calls, rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        flush.sum()  # reading only: cache lines that are written would be written back during the timed call
        start.record()
        calls[name]()
        end.record()
        events[name].append((start, end))
    torch.cuda.synchronize()
    return {
        name: statistics.median(1e3 * start.elapsed_time(end) for start, end in pairs) for name, pairs in events.items()
    }


def back_to_back(calls: Mapping[Key, Call], rounds: int) -> dict[Key, float]:
    """Median microseconds of each call where many follow each other: the longer of the host's time and the GPU's."""
    taken: dict[Key, list[float]] = {name: [] for name in calls}
    for name in _turns(calls, rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(IN_A_ROW):
            calls[name]()
        torch.cuda.synchronize()
        taken[name].append((time.perf_counter() - start) / IN_A_ROW)
    return {name: 1e6 * statistics.median(seconds) for name, seconds in taken.items()}


def _turns(calls: Mapping[Key, Call], rounds: int) -> Iterator[Key]:
    """Warm up all calls; then yield their names, in every round in another order."""
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    order, shuffled = list(calls), random.Random(0)
    for _ in range(rounds):
        shuffled.shuffle(order)
        yield from order
