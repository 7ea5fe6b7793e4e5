"""Settings of data: each bad value raises an error that names the option; settings can be stored as JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from boxconv.errors import UsageError
from boxconv.training.config import TrainConfig, from_plain, to_plain

ROOT = Path("somewhere")


@pytest.mark.parametrize(
    "values, words",
    [
        ({"border": 1}, "--border: got 1, but drawn scenes"),
        ({"data": "sunrgbd", "root": ROOT, "border": -1}, "--border: expected at least 0, got -1"),
        ({"data": "camvid", "root": ROOT, "palette": Path("p.csv")}, "--palette: got p.csv, but only --data folder"),
        ({"cache": Path("cache")}, "--cache: got cache, but drawn scenes have no files"),
        ({"data": "camvid", "root": ROOT, "cache": ROOT}, "--cache: somewhere is in the data folder"),
        ({"data": "camvid", "root": ROOT, "cache": ROOT / "images" / ".." / "c"}, "never written to"),
        ({"mean": (0.5, float("nan"), 0.5)}, "--mean: expected 3 numbers, as many as --in-channels, got 0.5 nan 0.5"),
        ({"std": (0.5, 0.0, 0.5)}, "--std: expected 3 numbers above 0"),
        ({"milestones": (5, 5)}, "--milestones: expected ascending epochs, got 5 5"),
        ({"milestones": (0, 5)}, "--milestones: expected ascending epochs, got 0 5"),
        ({"ema": 1.0}, "--ema: expected a decay between 0 and 1, got 1.0"),
        ({"ema": 0}, "--ema: expected a decay between 0 and 1, got 0"),
        ({"rotate": -1.0}, "--rotate: expected 0 to 45 degrees, got -1.0"),
        ({"rotate": float("nan")}, "--rotate"),
        ({"balanced_crops": -0.1}, "--balanced-crops: expected a probability from 0 to 1, got -0.1"),
        ({"balanced_crops": float("nan")}, "--balanced-crops: expected a probability"),
        ({"clip": -1.0}, "--clip: expected a positive number, got -1.0"),
        ({"clip": 0.0}, "--clip: expected a positive number, got 0.0"),
        ({"clip": float("nan")}, "--clip: expected a positive number, got nan"),
        ({"optimizer": "adagrad"}, "--optimizer: expected adam or adamw or sgd, got 'adagrad'"),
        ({"loss": "mse"}, "--loss: expected weighted or cross-entropy or focal or dice, got 'mse'"),
        ({"patience": 0}, "--patience: expected at least 1, got 0"),
        ({"report_every": 0}, "--report-every: expected at least 1, got 0"),
        ({"blur": 1.5}, "--blur: expected a probability from 0 to 1, got 1.5"),
    ],
)
def test_bad_values(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        TrainConfig(**values).check()


def test_settings_survive_json() -> None:
    config = TrainConfig(
        data="folder", root=ROOT, palette=Path("p.csv"), cache=Path("c"), classes=Path("k.csv"), border=1,
        milestones=(3, 7), rotate=7.5, blur=0.5, mean=(0.1, 0.2, 0.3), crop=(32, 64),
        optimizer="sgd", clip=0.5, loss="dice", patience=3, balanced_crops=0.5, report_every=2,
    )  # fmt: skip
    assert from_plain(json.loads(json.dumps(to_plain(config)))) == config
