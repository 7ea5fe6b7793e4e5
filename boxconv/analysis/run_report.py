"""The report on a trained network: pictures, tables, and sentences about the numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from box_convolution.drawing import draw_boxes

from ..reports.html import write_report
from ..reports.tables import Picture, Section, Table, rounded
from .box_statistics import MIN_AREA_FOR_SYMMETRY, area, symmetry
from .evolution import animation, snapshots
from .plots import area_against_importance, energy_curves, symmetry_histogram
from .run_numbers import SHARES, RunAnalysis, numbers_of, write_numbers

SIDES = {"left and right": (2, 3), "top and bottom": (0, 1)}


def report_on(analysis: RunAnalysis, folder: Path, summary: Mapping[str, str]) -> Path:
    """Write `folder`/report.html, and beside it its pictures and all numbers (JSON, CSV); returns the report's path."""
    files = write_numbers(analysis, folder)
    numbers = numbers_of(analysis)
    sections: list[Section] = []
    if analysis.layers:
        sections += [
            _what_boxes_are(analysis, folder),
            _importance(analysis, numbers, folder),
            _evolution(analysis, numbers, folder),
            _symmetry(analysis, numbers, folder),
            _limits(numbers),
        ]
    if analysis.fields:
        sections.append(_receptive_field(analysis, numbers, folder))
    sections.append(_definitions(analysis, [path.name for path in files]))
    facts = dict(summary)
    if boxes := numbers["boxes"]:
        facts |= {"boxes": f"{boxes['boxes']:,} in {boxes['layers']} layers"}
    title = f"What the boxes of {analysis.network} learned" if analysis.layers else f"How far {analysis.network} sees"
    return write_report(folder, title=title, summary=facts, sections=sections)


def _what_boxes_are(analysis: RunAnalysis, folder: Path) -> Section:
    first = analysis.layers[0]
    draw_boxes(
        first.boxes.numpy(),
        folder / "boxes.png",
        map_size=first.map_size,
        image=analysis.image,
        importance=first.importance.numpy() if first.importance.isfinite().any() else None,
        title=f"Boxes of {first.name}, the first box layer",
    )
    h, w = first.map_size
    return Section(
        "What a box is",
        "A convolution looks at a small window around every pixel. A box layer instead averages each of its input "
        "channels over rectangles, and training moves the four edges of every rectangle as it pleases: far away, "
        "across half of the image, or down to a single pixel. The same boxes are laid around every output pixel. The "
        f"picture shows them around one, marked +. This layer works on maps of {h} x {w} pixels; a box that reaches "
        "beyond the map sees zeros there.",
        pictures=[Picture(folder / "boxes.png", f"The most important boxes of {first.name} around one output pixel")],
    )


def _importance(analysis: RunAnalysis, numbers: dict[str, Any], folder: Path) -> Section:
    marked = [layer.name for layer in analysis.layers if layer.remark]
    boxes = numbers["boxes"]
    pictures = []
    if any(layer.importance.isfinite().any() for layer in analysis.layers):
        area_against_importance(
            {layer.name: area(layer.boxes).numpy() for layer in analysis.layers},
            {layer.name: layer.importance.numpy() for layer in analysis.layers},
            folder / "area_importance.png",
            title="Area and importance of the boxes",
            marked=marked,
        )
        caption = "One mark per box, a colour per layer (in the order of the network); dashed: the area of a 3x3 kernel"
        pictures.append(Picture(folder / "area_importance.png", caption))
    remarks = [f"{layer.name} is {layer.remark}." for layer in analysis.layers if layer.remark and layer.following]
    remarks += [f"{layer.name}: {layer.remark}." for layer in analysis.layers if layer.following is None]
    header = [
        "layer",
        "map",
        "boxes",
        "median area",
        "largest",
        "> 3x3, %",
        "importance in them, %",
        "rank correlation",
    ]
    rows = [
        [
            row["layer"],
            f"{row['map_h']} x {row['map_w']}",
            rounded(row["boxes"]),
            rounded(row["median_area"], 1),
            rounded(row["largest_area"], 0),
            _percent(row["larger_than_3x3"]),
            _percent(row["importance_in_larger_than_3x3"]),
            rounded(row["area_importance_rank_correlation"]),
        ]
        for row in numbers["layers"]
    ]
    return Section(
        "Are large boxes important?",
        "The importance of a box is the mean absolute weight with which the next 1x1 convolution reads its output, "
        "times the largest absolute weight with which the convolution before it writes its input. It compares boxes of "
        "one layer; between layers the scale of the weights differs.\n\n"
        f"The median box covers {rounded(boxes['median_area'], 1)} pixels of its layer's map, the largest one "
        f"{rounded(boxes['largest_area'], 0)}. {_percent(boxes['larger_than_3x3'])} % are larger than a 3x3 kernel of "
        f"an ordinary convolution, {_percent(boxes['larger_than_100_px'])} % larger than 100 pixels. "
        + _large_and_important(boxes)
        + "The paper, on images of 512 x 1024 pixels, reports boxes of more than 10,000 pixels, and that most of the "
        "very large ones are important." + ("\n\n" + " ".join(remarks) if remarks else ""),
        Table(header, rows),
        pictures,
    )


def _large_and_important(boxes: Mapping[str, Any]) -> str:
    """Sentences on whether large boxes are important; "" if the numbers are not known."""
    text = ""
    if (correlation := boxes["area_importance_rank_correlation"]) is not None:
        text += (
            f"Within a layer, area and importance have a rank correlation of {correlation:.2f} on average (1: the "
            "larger the more important; 0: unrelated; -1: the reverse). "
        )
    if (percentile := boxes["importance_percentile_of_largest_tenth"]) is not None:
        text += (
            f"A box of a layer's largest tenth is more important than {percentile:.0%} of the layer's boxes on "
            "average; 50% would be chance. "
        )
    return text


def _evolution(analysis: RunAnalysis, numbers: dict[str, Any], folder: Path) -> Section:
    heading = "How training moved the boxes"
    evolution = analysis.evolution()
    if evolution is None:
        return Section(heading, "This run recorded no boxes while it trained (boxes.jsonl), so their way is not known.")
    first = analysis.layers[0].name
    title = f"Boxes of {first}, the first box layer, as training goes on"
    snapshots(evolution, folder / "evolution.png", title=title)
    animation(evolution, folder / "evolution.gif", title=f"Boxes of {first}")
    text = (
        "Every tile is one box around its output pixel, the dot; the line through it is the vertical axis. Boxes are "
        "ordered by their importance at the end."
    )
    if (drift := numbers["boxes"].get("mean_edge_drift")) is not None:
        before, after = (rounded(numbers["boxes"][key], 1) for key in ("initial_median_area", "median_area"))
        text += (
            f" In the whole network an edge moved {drift:.1f} pixels on average; the median area went from {before} to "
            f"{after} pixels."
        )
    return Section(
        heading,
        text,
        pictures=[
            Picture(folder / "evolution.png", "A row for each epoch shown, a column for each box"),
            Picture(folder / "evolution.gif", "The same as an animation, with more boxes and every recorded epoch"),
        ],
    )


def _symmetry(analysis: RunAnalysis, numbers: dict[str, Any], folder: Path) -> Section:
    boxes, initial = numbers["boxes"], analysis.initial
    before = None if initial is None else _scores(torch.cat([initial[layer.name] for layer in analysis.layers]))
    after = _scores(torch.cat([layer.boxes for layer in analysis.layers]))
    pictures = []
    text = (
        "The paper finds that boxes become symmetric about the vertical axis: what matters to the left matters to the "
        "right. The score is the shorter of the two sides over the longer one, 0 for a box that lies wholly on one "
        f"side; only boxes of at least {MIN_AREA_FOR_SYMMETRY:g} pixels are counted. Top and bottom serve as the "
        "control."
    )
    if boxes["symmetry_boxes"]:
        symmetry_histogram(after, before, folder / "symmetry.png", title="Symmetry of the boxes")
        pictures.append(Picture(folder / "symmetry.png", "How symmetric the boxes are, horizontally and vertically"))
        text += (
            f"\n\nOf {boxes['symmetry_boxes']} such boxes {_percent(boxes['horizontally_symmetric'])} % are symmetric "
            f"(score 0.8 or more) between left and right, {_percent(boxes['vertically_symmetric'])} % between top and "
            "bottom."
        )
        if before is not None:
            text += (
                f" Before training it was {_percent(boxes['initial_horizontally_symmetric'])} % and "
                f"{_percent(boxes['initial_vertically_symmetric'])} %."
            )
    header = ["layer", "boxes", "left-right symmetric, %", "by importance, %", "top-bottom symmetric, %"]
    keys = ("horizontally_symmetric", "horizontally_symmetric_by_importance", "vertically_symmetric")
    rows = [
        [row["layer"], rounded(row["symmetry_boxes"]), *(_percent(row[key]) for key in keys)]
        for row in numbers["layers"]
    ]
    return Section("Are boxes symmetric?", text, Table(header, rows), pictures)


def _limits(numbers: dict[str, Any]) -> Section:
    boxes = numbers["boxes"]
    header = ["layer", "single pixels, %", "a pixel high, %", "a pixel wide, %", "edge at the image's size, %"]
    drift = any("mean_edge_drift" in row for row in numbers["layers"])
    header += ["mean drift", "largest drift"] if drift else []
    keys = ("single_pixels", "minimal_height", "minimal_width", "edge_at_limit")
    rows = [
        [row["layer"], *(_percent(row[key]) for key in keys)]
        + ([rounded(row.get("mean_edge_drift"), 1), rounded(row.get("largest_edge_drift"), 1)] if drift else [])
        for row in numbers["layers"]
    ]
    return Section(
        "Boxes at their limits",
        "Regularisation shrinks boxes that are of no use; none may become smaller than one pixel. A single pixel is no "
        "longer a box but a shifted copy of its channel, and could be removed. No edge may be farther away than the "
        f"size of the layer's map. {_percent(boxes['single_pixels'])} % of all boxes are single pixels, "
        f"{_percent(boxes['minimal_in_one_direction'])} % are one pixel high or wide.",
        table=Table(header, rows),
    )


def _receptive_field(analysis: RunAnalysis, numbers: dict[str, Any], folder: Path) -> Section:
    curves = {
        level: {name: measured.energy.numpy() for name, measured in networks.items()}
        for level, networks in analysis.fields.items()
    }
    energy_curves(curves, folder / "receptive_field.png", title="How far units see")
    header = ["level", "network", "channels", "positions", *(f"{share:.0%} within" for share in SHARES)]
    rows = [
        [
            row["level"],
            row["network"],
            rounded(row["channels"]),
            rounded(row["positions"]),
            *(f"{row[f'radius_{share:g}']} px" for share in SHARES),
        ]
        for row in numbers["receptive_fields"]
    ]
    dead = sum(row["positions_without_gradient"] for row in numbers["receptive_fields"])
    return Section(
        "How far does the network see?",
        "How much does the output at one position change when a pixel of the image changes? The gradient says so for "
        "every pixel. The curve E(r) is the share of all gradient within r pixels (of the image) to every side, "
        "averaged over images and positions. Where it reaches 1, nothing farther away has any influence: that is how "
        "far the network sees. The slower a curve rises, the more the network relies on what is far away."
        + (f"\n\n{dead} positions were left out because no unit there had any gradient." if dead else ""),
        Table(header, rows),
        [Picture(folder / "receptive_field.png", "Share of the gradient within r pixels, for each network and level")],
    )


def _definitions(analysis: RunAnalysis, files: list[str]) -> Section:
    text = f"Beside this report lie its numbers: {', '.join(files)}, and its pictures."
    if analysis.layers:
        text += (
            "\n\nImportance: of the convolutions that read a box's channel, the first one executed; a kernel larger "
            "than 1x1 counts with its largest tap. Areas are continuous and in pixels of the map that the layer reads. "
            "At the minimum: within 0.05 pixels of it."
        )
    if analysis.fields:
        text += (
            "\n\nReceptive field: the norm over red, green and blue is Euclidean; windows are squares about the "
            "position, clipped to the image; the maps of a level's channels are averaged first, as in the paper; "
            "BatchNorm and dropout are in evaluation mode; every network sees the same images and positions."
        )
    return Section("How the numbers are defined", text)


def _scores(boxes: torch.Tensor) -> dict[str, Any]:
    """Symmetry scores, by axis, of the boxes that are large enough."""
    large = boxes[area(boxes) >= MIN_AREA_FOR_SYMMETRY]
    return {name: symmetry(large[:, low], large[:, high]).numpy() for name, (low, high) in SIDES.items()}


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}" if share >= 0.095 or share == 0 else f"{100 * share:.1f}"
