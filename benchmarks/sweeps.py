"""Cost of the box convolution as a function of the size of boxes, the size of planes and the number of channels."""

from collections.abc import Callable

from contenders import CLONE, Problem, Shape, clone, ours
from correctness import centred

from boxconv.profiling.timing import Repeats, interleaved

FORWARD, TRAIN = "forward", "forward + backward"

# Row of the table -> column -> nanoseconds per output.
Sweep = dict[str, dict[str, float]]


def box_sizes(shape: Shape, repeats: Repeats) -> Sweep:
    """All boxes have the same size, from one pixel to twice the image; the cost should not depend on it."""
    h, w = shape.h, shape.w
    sizes = [(1, 1), (3, 3), (9, 9), (31, 31), (h // 4, w // 4), (h // 2, w // 2), (h, w), (2 * h, 2 * w)]
    problems = {f"{height} x {width}": Problem.draw(shape, centred(height, width)) for height, width in sizes}
    return _measure(problems, repeats)


def plane_sizes(planes: list[tuple[int, int]], repeats: Repeats) -> Sweep:
    """Every problem has about as many pixels as the largest plane, by more channels; the cost per output should not
    change.
    """
    total = max(h * w for h, w in planes)
    shapes = [Shape(1, round(total / (h * w)), 4, h, w) for h, w in planes]
    return _measure({f"{s.channels} of {s.h} x {s.w}": Problem.draw(s) for s in shapes}, repeats, clones=True)


def channel_counts(counts: list[int], repeats: Repeats) -> Sweep:
    problems = {str(count): Problem.draw(Shape(1, count, 4, 64, 128)) for count in counts}
    return _measure(problems, repeats, clones=True)


def _measure(problems: dict[str, Problem], repeats: Repeats, *, clones: bool = False) -> Sweep:
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    for row, problem in problems.items():
        forward, train = ours(problem)
        copy, _ = clone(problem)
        for column, call in ((FORWARD, forward), (TRAIN, train), (CLONE, copy if clones else None)):
            if call is not None:
                calls[row, column] = call
    sweep: Sweep = {row: {} for row in problems}
    for (row, column), timing in interleaved(calls, repeats).items():
        sweep[row][column] = 1e6 * timing.median / problems[row].shape.outputs
    return sweep


def largest_ratio(sweep: Sweep, column: str) -> float:
    """Time of the slowest row divided by that of the fastest."""
    costs = [row[column] for row in sweep.values()]
    return max(costs) / min(costs)
