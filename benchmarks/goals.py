"""The goals for the operator's speed, and whether they are met."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from contenders import CLONE, CLONES, CONV, CONV_LAST, KERNELS, OURS, Shape
from sweeps import FORWARD, TRAIN, Sweep, largest_ratio

from boxconv.errors import plural
from boxconv.profiling.timing import Timing
from boxconv.reports.tables import Table, number

# From this number of bytes on, the time to copy an output is that of the memory, not that of starting the work.
LARGE = 8_000_000

# Mode -> shape -> contender.
Speeds = dict[str, dict[str, dict[str, Timing]]]

# Values, each with the shape or mode that it was measured for.
Reached = list[tuple[float, str]]


class Measured(NamedTuple):
    """Everything that was timed with one number of threads."""

    speeds: Speeds
    box_sizes: Sweep
    plane_sizes: Sweep
    channels: Sweep


class Goal(NamedTuple):
    text: str
    limit: float
    at_least: bool
    reached: Callable[[Measured], Reached]

    def verdict(self, measured: Measured) -> list[str]:
        """Two cells of the table: the worst value, and whether it meets the limit."""
        values = self.reached(measured)
        if not values:
            return ["not measured", ""]
        value, where = min(values) if self.at_least else max(values)
        met = value >= self.limit if self.at_least else value <= self.limit
        return [f"{number(value)} ({where})", "yes" if met else "no"]


def _ratios(mode: str, numerator: str, denominator: str, shapes: Mapping[str, Shape]) -> Callable[[Measured], Reached]:
    def reached(measured: Measured) -> Reached:
        return [
            (timings[numerator].median / timings[denominator].median, name)
            for name, timings in measured.speeds[mode].items()
            if name in shapes and numerator in timings and denominator in timings
        ]

    return reached


def _sweep_ratios(sweep: Callable[[Measured], Sweep]) -> Callable[[Measured], Reached]:
    return lambda measured: [(largest_ratio(sweep(measured), column), column) for column in (FORWARD, TRAIN)]


def goal_table(measured: Mapping[int, Measured], shapes: Mapping[str, Shape]) -> Table:
    """One row for each goal, the missed ones first; two columns for each number of threads."""
    large = {name: shape for name, shape in shapes.items() if 4 * shape.outputs >= LARGE}
    goals = [
        Goal(f"forward: {CONV} / {OURS}", 3, True, _ratios(FORWARD, CONV, OURS, shapes)),
        Goal(f"forward: {CONV_LAST} / {OURS}", 1.5, True, _ratios(FORWARD, CONV_LAST, OURS, shapes)),
        Goal(f"forward + backward: {CONV} / {OURS}", 3.5, True, _ratios(TRAIN, CONV, OURS, shapes)),
        Goal(f"forward: {OURS} / {CLONE}, outputs of 8 MB or more", 1.5, False, _ratios(FORWARD, OURS, CLONE, large)),
        Goal(f"{KERNELS}: forward + backward / {CLONES}", 2.5, False, _ratios(TRAIN, KERNELS, CLONES, shapes)),
        Goal("slowest / fastest box size", 1.05, False, _sweep_ratios(lambda m: m.box_sizes)),
        Goal("slowest / fastest plane size, per output", 1.1, False, _sweep_ratios(lambda m: m.plane_sizes)),
    ]
    header = ["goal", ""]
    for count in measured:
        header += [plural(count, "thread"), "met"]
    rows = [
        [
            goal.text,
            f"{'at least' if goal.at_least else 'at most'} {goal.limit:g}",
            *(cell for result in measured.values() for cell in goal.verdict(result)),
        ]
        for goal in goals
    ]
    return Table(header, sorted(rows, key=lambda row: "no" not in row))
