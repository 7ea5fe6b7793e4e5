"""README: it is short, and its figures are those of the pages and commands that it names."""

import itertools
import re
from pathlib import Path

import pytest

from box_convolution import networks
from boxconv.profiling.cost import cost

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
SYMMETRIC = "symmetric boxes"


def rows_after(text: str, place: str) -> dict[str, dict[str, str]]:
    """The first table after ``place``: cells by the name of the row and the header of the column."""
    lines = itertools.dropwhile(lambda line: not line.startswith("|"), text[text.index(place) :].splitlines())
    table = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in itertools.takewhile(lambda line: line.startswith("|"), lines)
    ]
    return {cells[0]: dict(zip(table[0], cells, strict=True)) for cells in table[2:]}


NETWORKS = rows_after(README, "## Networks and weights")


def name_of(row: str) -> str:
    return re.match(r"`(\w+)`", row)[1]


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_badges_are_true() -> None:
    lowest = re.search(r'requires-python = ">=([\d.]+)"', PROJECT)[1]
    torch = re.search(r'dependencies = \["torch>=([\d.]+)"\]', PROJECT)[1]
    badges = re.findall(r"!\[([^\]]+)\]\(https://img\.shields\.io/", README)
    assert badges == [f"Python {lowest}+", f"PyTorch {torch}+", "Licence: Apache-2.0"]


@pytest.mark.parametrize("row", NETWORKS)
def test_costs_are_those_that_boxconv_cost_counts(row: str) -> None:
    options = {"symmetric": True} if SYMMETRIC in row else {}
    network = networks.create(name_of(row), 19, (512, 1024), **options)
    total = cost(network, (1, 3, 512, 1024)).total
    assert NETWORKS[row]["parameters"] == f"{total.parameters.standard:,}"
    assert NETWORKS[row]["10⁹ multiply-adds"] == f"{total.operations.macs / 1e9:.2f}"


@pytest.mark.parametrize("row", NETWORKS)
def test_scores_and_times_are_those_of_the_results(row: str) -> None:
    name = name_of(row)
    kind = f"{name} (symmetric)" if SYMMETRIC in row else name
    for column, place in (
        ("scenes", "<!-- boxconv compare scenes: begin -->"),
        ("CamVid", "<!-- boxconv compare: begin -->"),
    ):
        scores = rows_after(RESULTS, place)
        assert NETWORKS[row][column] == (scores[kind]["class IoU"].partition(" ±")[0] if kind in scores else "")
    times = rows_after(RESULTS, "## Networks, CPU, 1 thread")
    assert NETWORKS[row]["ms"] == times[name.removesuffix("_frozen")]["ms"]  # frozen boxes compute the same


@pytest.mark.parametrize("row", NETWORKS)
def test_weights_are_in_the_package(row: str) -> None:
    from box_convolution.networks import pretrained

    there = [f"`{data}`" for network, data in pretrained.available() if network == name_of(row) and "," not in row]
    assert NETWORKS[row]["weights"] == ", ".join(there)


def test_the_accuracy_is_that_of_the_results() -> None:
    by_distance = rows_after(RESULTS, "### Road or oncoming lane, by distance")
    with_boxes, without = [], []
    for name, row in by_distance.items():
        (with_boxes if name.startswith("box") else without).extend(map(float, row["all, seed by seed"].split()))
    read = [share for share in with_boxes if share > 75]
    scores = rows_after(RESULTS, "<!-- boxconv compare scenes: begin -->")
    iou = [scores[name]["class IoU"].split()[0] for name in ("boxenet", "enet")]
    assert (
        f"**{len(read)} of {len(with_boxes)}** trained networks with boxes read the signs "
        f"({min(read):.0f} to {max(read):.0f} % of the pixels are right), "
        f"**{sum(share > 75 for share in without)} of {len(without)}** without boxes"
    ) in README
    enet, boxenet = (int(NETWORKS[f"`{name}`"]["parameters"].replace(",", "")) for name in ("enet", "boxenet"))
    more = f"{100 * enet / boxenet - 100:.0f} % more parameters"
    assert f"BoxENet **{iou[0]} %**; ENet, which has {more}, {iou[1]} %" in README


def test_the_speed_is_that_of_the_performance_page() -> None:
    speeds = rows_after(PERFORMANCE, "## Time beside the usual choices")
    slower, faster = (
        speeds[name]["forward, 1 thread"].replace(" ... ", " to ") for name in ("conv 3x3", "conv 3x3, channels_last")
    )
    assert f"**{slower} times** as fast as a depthwise 3x3 convolution with as many outputs ({faster} times" in README
    times = RESULTS.partition("## Networks, CPU, 1 thread")[2]
    ratios = (re.search(rf"^\| {name} .*? ([01]\.\d+) \|", times, re.MULTILINE) for name in ("boxenet", "boxonlyenet"))
    boxenet, boxonlyenet = (float(ratio[1]) for ratio in ratios)
    assert f"BoxENet takes **{boxenet:.2f}** and BoxOnlyENet **{boxonlyenet:.2f}** of ENet's time" in README
