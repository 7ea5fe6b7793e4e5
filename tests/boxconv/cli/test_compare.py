"""Comparison of runs: rows, means over seeds, and runs that are kept after their folders are deleted."""

import json
from pathlib import Path
from typing import Any

import pytest
from command import printed

from boxconv.reports.run_comparison import Unfinished, grouped, kept, merged, read_kept, read_run, sections
from boxconv.reports.run_curves import draw_curves

ORDER = ["enet", "boxenet"]
DEFAULTS = {"lr": 0.002, "box_lr": 1.0}


def write_run(folder: Path, network: str, seed: int, ious: list[float], **settings: Any) -> Path:
    folder.mkdir(parents=True)
    config = {"network": network, "seed": seed, "epochs": len(ious), "data": "camvid", "size": [176, 240], "lr": 0.002,
              "root": "/somewhere", **settings}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"config": config}))
    scores = {"val_category_iou": 0.5, "val_class_accuracy": 0.6, "val_pixel_accuracy": 0.8}
    records = [
        {"epoch": k + 1, "train_class_iou": 0.4, "train_loss": 0.5, "train_seconds": 30.0}
        | ({"val_class_iou": iou, "val_iou": {"road": 0.9, "sign": None}, **scores} if iou else {})
        for k, iou in enumerate(ious)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [
        write_run(tmp_path / "b1", "boxenet", 1, [0.1, 0.0, 0.5]),
        write_run(tmp_path / "b0", "boxenet", 0, [0.2, 0.9, 0.4]),
        write_run(tmp_path / "e0", "enet", 0, [0.3, 0.2, 0.3], workers=2),
    ]


def test_rows_are_experiments_and_scores_are_the_last_epochs(folders: list[Path]) -> None:
    groups = grouped([read_run(folder, DEFAULTS, "here") for folder in folders], ORDER, DEFAULTS)
    assert {label: [run.seed for run in runs] for label, runs in groups.items()} == {"enet": [0], "boxenet": [0, 1]}
    scores, curves, classes = sections(groups, {"enet": (59.4, 81.8)})
    assert [row[:3] for row in scores.table.rows] == [["enet", "1", "30.0"], ["boxenet", "2", "45.0 ± 7.1"]]
    assert [row[6:] for row in scores.table.rows] == [
        ["30.0", "40.0", "0.500", "2", "59.4", "81.8"],
        ["40.0 50.0", "40.0", "0.500", "2", "", ""],
    ]
    assert curves.table.header == ["network", "1", "3", "best epoch"], "epochs that all runs were validated after"
    assert curves.table.rows[1] == ["boxenet", "15.0", "45.0", "70.0 ± 28.3"]
    assert classes.table.rows[0] == ["enet", "90.0", "absent"]


def test_scores_of_averaged_weights_have_a_column(folders: list[Path], tmp_path: Path) -> None:
    folder = write_run(tmp_path / "ema", "enet", 0, [0.3, 0.4], ema=0.99)
    path = folder / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        record |= {name.replace("val_", "val_average_"): value for name, value in record.items() if "val_" in name}
        record["val_average_class_iou"] += 0.05
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    runs = [read_run(path, DEFAULTS | {"ema": None}, "here") for path in (*folders, folder)]
    (tmp_path / "kept.json").write_text(kept(runs))
    for each in (runs, read_kept(tmp_path / "kept.json", DEFAULTS)):
        table = sections(grouped(each, ORDER, DEFAULTS | {"ema": None}), {})[0].table
        column = table.header.index("of averaged weights")
        found = {row[0]: row[column] for row in table.rows}
        assert found == {"boxenet": "", "enet (epochs 3)": "", "enet (ema 0.99, epochs 2)": "45.0"}


def test_settings_that_differ_are_named(folders: list[Path], tmp_path: Path) -> None:
    write_run(tmp_path / "other", "enet", 0, [0.1], lr=0.1)
    groups = grouped(
        [read_run(folder, DEFAULTS, "here") for folder in (folders[2], tmp_path / "other")], ORDER, DEFAULTS
    )
    assert list(groups) == ["enet (epochs 3)", "enet (epochs 1, lr 0.1)"]
    names = [
        [part for part in (group.title, *group.table.header) if "epochs" in part] for group in sections(groups, {})
    ]
    assert names == [["epochs"], ["Class IoU over the epochs, 3 epochs"], ["Class IoU over the epochs, 1 epochs"], []]
    assert [row[:3] for row in sections(groups, {})[0].table.rows] == [
        ["enet (epochs 3)", "3", "1"],
        ["enet (epochs 1, lr 0.1)", "1", "1"],
    ]


def test_a_run_that_stopped_early_is_finished_and_one_with_epochs_added_is_another(tmp_path: Path) -> None:
    planned = write_run(tmp_path / "planned", "enet", 0, [0.1, 0.2, 0.3])
    early, longer = (write_run(tmp_path / name, "enet", 0, [0.1, 0.2, 0.3]) for name in ("early", "longer"))
    content = json.loads((early / "config.json").read_text())
    content["config"] |= {"epochs": 9, "patience": 2}
    (early / "config.json").write_text(json.dumps(content))
    with pytest.raises(Unfinished, match="epoch 3 of 9"):
        read_run(early, {}, "")
    lines = [json.loads(line) for line in (early / "metrics.jsonl").read_text().splitlines()]
    lines[-1]["stopped_early"] = True
    (early / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = json.loads((longer / "config.json").read_text())
    (longer / "config.json").write_text(json.dumps({**content, "extended": ["1 of 1"]}))
    runs = [read_run(folder, {}, "") for folder in (planned, early, longer)]
    assert [run.scores["class_iou"] for run in runs] == [0.3] * 3
    assert list(grouped(runs, ["enet"], {})) == [
        "enet (epochs 3)", "enet (epochs 3, extended after 1 of 1)", "enet (epochs 9, patience 2)"
    ]  # fmt: skip


def test_kept_runs_outlive_their_folders(folders: list[Path], tmp_path: Path) -> None:
    runs = [read_run(folder, DEFAULTS, "here") for folder in folders]
    file = tmp_path / "runs.json"
    file.write_text(kept(runs[:2]))
    known = read_kept(file, DEFAULTS)
    same = read_run(folders[0], DEFAULTS, "there")
    assert merged(known, [same, runs[2]]) == runs, "the same run, noted before"
    write_run(tmp_path / "again", "boxenet", 1, [0.1, 0.0, 0.6])
    again = read_run(tmp_path / "again", DEFAULTS, "there")
    assert merged(known, [again, runs[2]]) == [again, *runs[1:]], "the new one in the old one's place"


def test_a_run_knows_what_made_it(folders: list[Path]) -> None:
    config = json.loads((folders[0] / "config.json").read_text())
    for name in ("provenance", "made_by"):  # the latter in older folders
        (folders[0] / "config.json").write_text(json.dumps({**config, name: "another machine"}))
        assert [read_run(folder, DEFAULTS, "here").noted_by for folder in folders[:2]] == ["another machine", "here"]


def test_runs_of_an_earlier_version_had_the_defaults(folders: list[Path]) -> None:
    old, new = read_run(folders[0], {}, "then"), read_run(folders[0], DEFAULTS, "now")
    assert old.identity != new.identity
    assert read_run(folders[0], {"box_lr": 1.0}, "now").identity == new.identity


def test_other_folders_are_other_experiments(tmp_path: Path) -> None:
    one, other = (
        read_run(write_run(tmp_path / name, "enet", 0, [0.1], data="folder", root=f"/{name}"), DEFAULTS, "here")
        for name in ("a", "b")
    )
    assert len(merged([one], [other])) == 2
    assert list(grouped([one, other], ORDER, DEFAULTS)) == ["enet (root /a)", "enet (root /b)"]


def test_the_command(folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, plot, file = tmp_path / "page.md", tmp_path / "curves.png", tmp_path / "runs.json"
    page.write_text("# Results\n")
    options = ["--kept", file, "--write", page, "--plot", plot]
    status, text = printed(capsys, "compare", *folders[:2], *options)
    assert status == 0, text
    assert "boxenet" in text
    assert plot.stat().st_size > 1000
    status, text = printed(capsys, "compare", folders[2], *options, "--overwrite")
    assert status == 0, text
    written = page.read_text()
    assert written.startswith("# Results\n")
    assert written.count("boxconv compare: begin") == 1
    assert "| boxenet |     2 | 45.0 ± 7.1 |" in written
    assert "| enet" in written


def test_what_cannot_be_compared(folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "compare") == (
        2,
        "boxconv: error: RUNS: expected folders of finished runs, or --kept FILE with some\n",
    )
    status, text = printed(capsys, "compare", tmp_path / "none")
    assert status == 1
    assert "none: no folder of a training run" in text
    other = write_run(tmp_path / "large", "enet", 0, [0.1], size=[360, 480])
    assert "different data, image sizes or classes" in printed(capsys, "compare", folders[0], other)[1]
    status, text = printed(capsys, "compare", folders[0], "--plot", tmp_path / "curves.gif")
    assert (status, "--plot: expected a name that ends in .png or .svg" in text) == (2, True)
    status, text = printed(capsys, "compare", folders[0], write_run(tmp_path / "again", "boxenet", 1, [0.2] * 3))
    assert (status, "are the same experiment with the same seed: leave one of them out, or" in text) == (2, True)
    (folders[1] / "metrics.jsonl").write_bytes(b"\xff\xfe")
    status, text = printed(capsys, "compare", folders[1])
    assert (status, "no training run that can be read: UnicodeDecodeError" in text) == (1, True)
    (folders[1] / "last.pt").touch()
    again = f"boxconv train --out {folders[1]} --resume writes config.json and metrics.jsonl again from last.pt"
    assert again in printed(capsys, "compare", folders[1])[1]
    (folders[1] / "config.json").unlink()
    assert again in printed(capsys, "compare", folders[1])[1]
    (folders[0] / "metrics.jsonl").write_text("")
    status, text = printed(capsys, "compare", folders[0], folders[2])
    assert status == 0
    assert "left out: " in text
    assert "the run is not finished: epoch 0 of 3" in text
    bad = tmp_path / "bad.json"
    nameless = kept([read_run(folders[2], {}, "")]).replace('"data"', '"d"')
    for content in ('[{"network": "enet"}]', "{}{", '["enet"]', nameless):
        bad.write_text(content)
        status, text = printed(capsys, "compare", "--kept", bad)
        assert (status, "bad.json: holds no kept runs" in text) == (1, True)
        assert bad.read_text() == content


def test_the_picture_tells_groups_apart(folders: list[Path], tmp_path: Path) -> None:
    groups = grouped([read_run(folder, DEFAULTS, "here") for folder in folders], ORDER, DEFAULTS)
    draw_curves(groups, tmp_path / "curves.svg", title="Curves")
    drawn = (tmp_path / "curves.svg").read_text()
    assert "<!-- enet -->" in drawn
    assert "<!-- boxenet -->" in drawn


def test_a_panel_for_each_schedule(folders: list[Path], tmp_path: Path) -> None:
    write_run(tmp_path / "short", "enet", 0, [0.1], symmetric=True)
    runs = [read_run(folder, DEFAULTS, "here") for folder in (*folders, tmp_path / "short")]
    draw_curves(grouped(runs, ORDER, DEFAULTS), tmp_path / "curves.svg", title="Curves")
    drawn = (tmp_path / "curves.svg").read_text()
    assert all(f"<!-- {text} -->" in drawn for text in ("3 epochs", "1 epochs", "enet", "enet (symmetric)", "boxenet"))
    assert "<!-- enet (epochs" not in drawn
