"""All measurements of a trained network, and files of their numbers, as JSON and CSV."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..files import write_atomic
from .box_statistics import box_table, layer_statistics, network_statistics
from .evolution import Evolution
from .importance import LayerImportance
from .receptive_field import ReceptiveField

SHARES = (0.5, 0.9, 0.99)


@dataclass(frozen=True)
class RunAnalysis:
    """All measurements of a trained network.

    Attributes:
        network: its name for display.
        layers: its box layers in the order of execution; empty for a network without boxes.
        epochs, history: the t epochs with recorded boxes, and for each layer the boxes (t, n, 4); may be empty.
        fields: from the title of a level, and the name of a network, to its receptive field; this network, and those
            that it is compared with.
        image: (h, w, 3) uint8, the background of drawn boxes; None for an empty map.
    """

    network: str
    layers: Sequence[LayerImportance]
    epochs: Sequence[int] = ()
    history: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, ReceptiveField]] = field(default_factory=dict)
    image: Any = None

    @property
    def initial(self) -> dict[str, Tensor] | None:
        """Boxes (n, 4) before training, by layer; None if they were not recorded."""
        if not self.epochs or self.epochs[0] != 0:
            return None
        return {name: torch.from_numpy(np.asarray(boxes[0], np.float64)) for name, boxes in self.history.items()}

    def evolution(self) -> Evolution | None:
        """The first layer's boxes during training; None unless they were recorded at least twice."""
        if not self.layers or len(self.epochs) < 2:
            return None
        first = self.layers[0]
        return Evolution.most_important(self.epochs, self.history[first.name], first.importance, first.map_size)


def with_history(epochs: Sequence[dict[str, Any]], layers: Sequence[LayerImportance]) -> dict[str, Any]:
    """The arguments ``epochs`` and ``history`` of `RunAnalysis` from the lines of a box history.

    Lines with other layers or other numbers of boxes are ignored.
    """
    shapes = {layer.name: tuple(layer.boxes.shape) for layer in layers}
    fitting = [
        line for line in epochs if {name: np.asarray(boxes).shape for name, boxes in line["boxes"].items()} == shapes
    ]
    return {
        "epochs": [line["epoch"] for line in fitting],
        "history": {name: np.asarray([line["boxes"][name] for line in fitting], np.float64) for name in shapes},
    }


def numbers_of(analysis: RunAnalysis) -> dict[str, Any]:
    """All numbers of the report, except the curves and the single boxes, as plain values."""
    initial = analysis.initial
    layers = [
        {
            "layer": layer.name,
            "preceding": list(layer.preceding),
            "following": layer.following[0] if layer.following else None,
            "remark": layer.remark,
            **layer_statistics(layer, None if initial is None else initial[layer.name]),
        }
        for layer in analysis.layers
    ]
    fields = [
        {
            "level": level,
            "module": measured.level,
            "network": network,
            "channels": measured.channels,
            "map_h": measured.size[0],
            "map_w": measured.size[1],
            "positions": measured.curves,
            "positions_without_gradient": measured.dead,
            **{f"radius_{share:g}": measured.radius(share) for share in SHARES},
        }
        for level, networks in analysis.fields.items()
        for network, measured in networks.items()
    ]
    return {
        "network": analysis.network,
        "boxes": network_statistics(analysis.layers, initial) if analysis.layers else None,
        "layers": layers,
        "receptive_fields": fields,
    }


def write_numbers(analysis: RunAnalysis, folder: Path) -> list[Path]:
    """Write numbers.json, and layers.csv, boxes.csv and receptive_fields.csv unless empty; returns their paths."""
    numbers = numbers_of(analysis)
    curves = [
        {"level": level, "network": network, "radius": r, "energy": float(energy), "spread": float(spread)}
        for level, networks in analysis.fields.items()
        for network, measured in networks.items()
        for r, (energy, spread) in enumerate(zip(measured.energy, measured.spread, strict=True))
    ]
    layers = [{**row, "preceding": " ".join(row["preceding"])} for row in numbers["layers"]]
    tables = {
        "layers.csv": layers,
        "boxes.csv": box_table(analysis.layers, analysis.initial),
        "receptive_fields.csv": curves,
    }
    written = [_write(folder / "numbers.json", json.dumps(_plain(numbers), indent=2, allow_nan=False) + "\n")]
    return written + [_write(folder / name, csv_text(rows)) for name, rows in tables.items() if rows]


def _plain(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Content of a CSV file; all ``rows`` have the same columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()})
    return text.getvalue()


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
    return path
