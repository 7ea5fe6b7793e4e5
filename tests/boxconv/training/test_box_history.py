"""The history of boxes: exactly one line per epoch, also after a crash."""

import json

import pytest
import torch
from torch import nn

from box_convolution import BoxConv2d
from boxconv.training.box_history import BoxHistory, read_history


def network():
    return nn.Sequential(BoxConv2d(2, 3, 8, 9), nn.Sequential(BoxConv2d(6, 1, 8, 9)))


def test_lines_hold_the_boxes_in_the_order_of_output_channels(tmp_path):
    model, path = network(), tmp_path / "boxes.jsonl"
    history = BoxHistory(path, model, 0)
    first = model[0].boxes.detach().clone()
    model[0].set_boxes(torch.tensor([-1.0, 1, -2, 2.5]).expand(2, 3, 4))
    history.record(1)
    start, end = read_history(path)
    assert (start["epoch"], end["epoch"]) == (0, 1)
    assert list(start["boxes"]) == ["0", "1.0"]
    torch.testing.assert_close(torch.tensor(start["boxes"]["0"]), first.flatten(0, 1), atol=5e-4, rtol=0)
    assert end["boxes"]["0"] == [[-1, 1, -2, 2.5]] * 6
    assert end["boxes"]["1.0"] == start["boxes"]["1.0"]


def test_resuming_drops_later_epochs_and_a_line_cut_off(tmp_path):
    model, path = network(), tmp_path / "boxes.jsonl"
    history = BoxHistory(path, model, 0)
    for epoch in (1, 2, 3):
        history.record(epoch)
    with open(path, "a") as file:
        file.write('{"epoch": 4, "boxes": {"0": [[-1,')
    assert [line["epoch"] for line in read_history(path)] == [0, 1, 2, 3]
    before = path.read_text().splitlines()[:2]
    again = BoxHistory(path, model, 2)
    again.record(3)
    assert [line["epoch"] for line in read_history(path)] == [0, 1, 2, 3]
    assert [json.loads(line) for line in path.read_text().splitlines()[:2]] == [json.loads(line) for line in before]


def test_a_run_without_an_earlier_history_starts_where_it_is(tmp_path):
    BoxHistory(tmp_path / "boxes.jsonl", network(), 7)
    assert [line["epoch"] for line in read_history(tmp_path / "boxes.jsonl")] == [7]


def test_no_boxes_no_file(tmp_path):
    BoxHistory(tmp_path / "boxes.jsonl", nn.Conv2d(1, 1, 1), 0).record(1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", ["{}", "[1]", "no JSON", '{"epoch": "x", "boxes": {}}'])
def test_other_files_are_refused_with_the_line(tmp_path, line):
    path = tmp_path / "boxes.jsonl"
    path.write_text('{"epoch": 0, "boxes": {}}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"boxes\.jsonl, line 2: not a line of a box history"):
        read_history(path)
