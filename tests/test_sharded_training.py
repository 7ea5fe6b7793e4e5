"""With all of PyTorch's ways to distribute or copy weights, boxes are valid after every step and as in one process."""

from pathlib import Path

import pytest
import torch
from pairs import results_of_two
from two_trainers import CASES, SIZE, STEPS

from box_convolution import BoxConv2d
from box_convolution import boxes as box


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Results of two processes in all cases, by rank."""
    return results_of_two(Path(__file__).with_name("two_trainers.py"), tmp_path_factory.mktemp("two"))


def valid(step):
    return all(box.is_valid(boxes, SIZE, SIZE).all() for boxes in step)


@pytest.mark.parametrize("name", CASES)
def test_boxes_are_valid_after_every_step_and_those_of_one_process(two, name):
    for rank in two:
        found = rank[name]
        assert len(found["one"]) == len(found["two"]) == STEPS
        for together, alone in zip(found["two"], found["one"], strict=True):
            assert valid(together)
            for ours, theirs in zip(together, alone, strict=True):
                # Half batches are added up in another order. Edges up to 12 have a step of 1/16 in bfloat16.
                low = CASES[name].dtype == torch.bfloat16
                torch.testing.assert_close(ours, theirs, rtol=0, atol=4 / 16 if low else 1e-4)
    assert not any("project_boxes" in message for rank in two for message in rank[name]["warnings"])


@pytest.mark.parametrize("name", CASES)
def test_the_steps_lead_out_of_the_limits(two, name):
    """Otherwise the tests would show nothing: without projection boxes become invalid, with it they are at a limit."""
    last = two[0][name]["one"][-1]
    edges = torch.cat([boxes.flatten(0, 1) for boxes in last])
    top, bottom, left, right = edges.unbind(-1)
    assert (torch.minimum(bottom - top, right - left) < 1.01).any() or (edges.abs() == SIZE).any()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.project])
def test_one_warning_names_what_to_call(two, name):
    for rank in two:
        found = rank[f"{name}, not called"]
        assert not all(map(valid, found["two"]))
        assert sum("project_boxes(model)" in message for message in found["warnings"]) == 1


def test_sharded_boxes_are_drawn_read_and_set_as_a_whole(two):
    torch.manual_seed(0)
    reset = [layer.boxes for layer in (BoxConv2d(3, 2, SIZE, SIZE), BoxConv2d(1, 3, SIZE, SIZE, symmetric=True))]
    for rank in two:
        found = rank["on shards"]
        for i, shape in enumerate([(3, 2, 4), (1, 3, 4)]):
            assert torch.equal(found["reset"][i], reset[i])
            assert torch.equal(found["set"][i], torch.tensor([-2.0, 3.25, -4.25, 4.25]).expand(shape))
            assert torch.equal(found["snapped"][i], torch.tensor([-1.5, 3.5, -4.5, 4.5]).expand(shape))
