"""The sections of the report, made from the measurements."""

from collections.abc import Mapping

from contenders import CLONE, CLONES, KERNELS, OURS, Shape
from correctness import Errors, limits
from goals import Measured, goal_table
from sweeps import FORWARD, TRAIN, Sweep, largest_ratio

from boxconv.errors import plural
from boxconv.profiling.timing import Timing
from boxconv.reports.tables import Section, Table, number

FEW = 5  # medians over fewer calls are marked with a star
NO_PEERS = (OURS, KERNELS, CLONE, CLONES)
_SHORT = {FORWARD: "fwd", TRAIN: "fwd+bwd", CLONE: "clone"}

# Bytes a training step needs, by contender.
Memory = dict[str, int]
# Plane -> box -> image.
Accuracy = dict[tuple[int, int], dict[str, dict[str, Errors]]]


def summary_section(measured: Mapping[int, Measured]) -> Section:
    """For each peer, the smallest and the largest ratio of its time to ours, over all shapes."""
    columns = [(mode, threads) for mode in (FORWARD, TRAIN) for threads in measured]
    everything = [column for mode, threads in columns for column in measured[threads].speeds[mode].values()]
    peers = dict.fromkeys(name for column in everything for name in column if name not in NO_PEERS)
    rows = [[name, *(_extremes(name, measured[threads].speeds[mode]) for mode, threads in columns)] for name in peers]
    text = (
        f"Time of each contender divided by the time of {OURS}: the lowest ... the highest ratio over the shapes "
        "below. `conv` is a depthwise convolution with as many outputs, the layer that box convolutions replace. "
        f"{OURS} takes about the same time for boxes of any size."
    )
    header = ["", *(f"{mode}, {plural(threads, 'thread')}" for mode, threads in columns)]
    return Section("Time beside the usual choices", text, Table(header, rows))


def _extremes(name: str, timings: Mapping[str, Mapping[str, Timing]]) -> str:
    ratios = [column[name].median / column[OURS].median for column in timings.values() if name in column]
    return " ... ".join(number(ratio, digits=2) for ratio in (min(ratios), max(ratios))) if ratios else ""


def shape_section(shapes: Mapping[str, Shape], missing: list[str]) -> Section:
    rows = [[name, *map(str, shape), f"{4 * shape.outputs / 1e6:.1f}"] for name, shape in shapes.items()]
    text = (
        "float32, `(B, C, H, W)` in, `(B, C*M, H, W)` out, boxes initialised as in a new layer. `conv` is a depthwise "
        "`conv2d` from C to `C*M` channels. `avg_pool2d` and OpenCV work on `C*M` planes. The copies (`clone`) show "
        "how long it takes only to move the results through memory."
    )
    if missing:
        text += f" Not measured: {', '.join(missing)}."
    return Section("Shapes and contenders", text, Table(["shape", "B", "C", "M", "H", "W", "output MB"], rows))


def goal_section(measured: Mapping[int, Measured], shapes: Mapping[str, Shape]) -> Section:
    table = goal_table(measured, shapes)
    met = [name for name, *cells in table.rows if "yes" in cells and "no" not in cells]
    text = (
        f"{len(met)} of {len(table.rows)} goals are met; the missed ones come first. Each figure is a ratio of median "
        "times, the worst over all shapes below. For the two size goals it is the worse of forward and forward + "
        "backward."
    )
    return Section("Goals", text, table)


def speed_sections(measured: Mapping[int, Measured]) -> list[Section]:
    """One section for each mode and number of threads."""
    sections = []
    for mode, how in ((FORWARD, "without gradients"), (TRAIN, "through autograd, with all gradients")):
        for threads, result in measured.items():
            title = f"{mode.capitalize()}, {plural(threads, 'thread')}"
            sections.append(_speed_section(title, how, result.speeds[mode]))
    return sections


def _speed_section(title: str, how: str, timings: Mapping[str, Mapping[str, Timing]]) -> Section:
    rows = []
    for name in dict.fromkeys(name for column in timings.values() for name in column):
        row = [name]
        for column in timings.values():
            row += _speed_cells(column[name], column[OURS]) if name in column else ["", ""]
        rows.append(row)
    header = [""]
    for shape in timings:
        header += [f"{shape} ms", "ratio"]
    calls = [timing.calls for column in timings.values() for timing in column.values()]
    text = f"Median milliseconds, {how}; ratios are to {OURS}. Medians of up to {max(calls)} calls"
    text += f"; `*`: fewer than {FEW}." if min(calls) < FEW else "."
    spreads = [column[OURS].spread for column in timings.values() if column[OURS].calls >= FEW]
    if spreads:
        text += f" The quartiles of {OURS} are at most {100 * max(spreads):.0f} % apart."
    return Section(title, text, Table(header, rows))


def _speed_cells(timing: Timing, ours: Timing) -> list[str]:
    few = "*" if timing.calls < FEW else ""
    return [f"{number(timing.median)}{few}", number(timing.median / ours.median, digits=2)]


def sweep_sections(measured: Mapping[int, Measured], box_shape: Shape) -> list[Section]:
    b, c, m, h, w = box_shape
    boxes = {threads: result.box_sizes for threads, result in measured.items()}
    planes = {threads: result.plane_sizes for threads, result in measured.items()}
    channels = {threads: result.channels for threads, result in measured.items()}
    of_boxes = f"B, C, M, H, W = {b}, {c}, {m}, {h}, {w}; all boxes have one size, with edges inside pixels."
    of_planes = "B = 1, M = 4; every row has about the same number of pixels. clone copies the output."
    of_channels = "B, M, H, W = 1, 4, 64, 128. clone copies the output."
    return [
        _sweep_section("Size of the boxes", "box", of_boxes, boxes, extremes=True),
        _sweep_section("Size of the planes", "planes", of_planes, planes, extremes=True),
        _sweep_section("Number of channels", "channels", of_channels, channels, extremes=False),
    ]


def _sweep_section(title: str, first: str, text: str, results: Mapping[int, Sweep], *, extremes: bool) -> Section:
    """One group of columns for each number of threads."""
    columns = [(threads, column) for threads, sweep in results.items() for column in next(iter(sweep.values()))]
    labels = next(iter(results.values()))
    rows = [[row, *(number(results[threads][row][column]) for threads, column in columns)] for row in labels]
    if extremes:
        rows.append(["max / min", *(f"{largest_ratio(results[threads], column):.2f}" for threads, column in columns)])
    header = [first, *(f"{_SHORT[column]}, {threads}t" for threads, column in columns)]
    return Section(title, f"Nanoseconds per output; 1t = 1 thread. {text}", Table(header, rows))


def memory_section(peaks: Memory, shape: Shape) -> Section:
    b, c, m, h, w = shape
    output = 4 * shape.outputs
    rows = [[name, number(peak / 1e6), number(peak / output)] for name, peak in peaks.items()]
    text = (
        f"Peak memory of forward and backward at B, C, M, H, W = {b}, {c}, {m}, {h}, {w} (output {output / 1e6:.1f} "
        "MB), without the inputs and the results (output and all gradients). Each contender runs in its own process; "
        "the peak is that of its resident set (Linux, VmHWM), so it includes the kernels' working memory."
    )
    return Section("Memory of a training step", text, Table(["", "MB", "outputs"], rows))


def accuracy_section(accuracy: Accuracy) -> Section:
    value_limit, edge_limit = limits()
    images = list(next(iter(next(iter(accuracy.values())).values())))
    rows = []
    for (h, w), boxes in accuracy.items():
        for box, errors in boxes.items():
            row = [f"{h} x {w}, {box}"]
            for image in images:
                row += [_error(errors[image].value), _error(errors[image].edges)]
            rows.append(row)
    header = ["plane, box"]
    for image in images:
        header += [image, "edges"]
    flat = [errors for boxes in accuracy.values() for images in boxes.values() for errors in images.values()]
    value, edges = [error.value for error in flat], [error.edges for error in flat]
    text = (
        "Under the name of an image: largest error of a float32 mean / largest |input|. Under `edges`, for the same "
        "image: largest error of the gradients for the four edges / largest of these gradients. The true values are "
        "float64 products of the image with overlap matrices. "
        f"Worst mean {_error(max(value))}, goal at most {value_limit:g}: {_met(value, value_limit)}. "
        f"Worst gradient {_error(max(edges))}, goal at most {edge_limit:g}: {_met(edges, edge_limit)}."
    )
    return Section("Rounding errors", text, Table(header, rows))


def _error(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def _met(values: list[float], limit: float) -> str:
    return "met" if all(value <= limit for value in values) else "missed"  # NaN misses
