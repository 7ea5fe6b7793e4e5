"""Two processes train and evaluate like one: same samples, same gradients, same scores; and they end together."""

import importlib.util
import socket
from pathlib import Path

import pytest
import torch
from pairs import results_of_two

from boxconv.errors import UsageError
from boxconv.training import distributed
from boxconv.training.distributed import DistributedContext, DistributedError, init_distributed, shard
from boxconv.training.loading import share

SCRIPT = Path(__file__).with_name("two_processes.py")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Results of a run in two processes, by rank."""
    return results_of_two(SCRIPT, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Results of a single process."""
    spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return script.scenarios(DistributedContext(), tmp_path_factory.mktemp("one"))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("length", [1, 4, 7])
def test_every_image_is_scored_once(one, two, length):
    for rank in two:
        assert torch.equal(rank[f"matrix {length}"], one[f"matrix {length}"])


@pytest.mark.parametrize("name", ["sync", "parts", "dice"])
def test_training_is_that_of_one_process_to_rounding(one, two, name):
    for rank in two:
        for key, value in one[name].items():
            torch.testing.assert_close(rank[name][key], value, rtol=1e-4, atol=2e-5)
    moved = max((one[name][key].double() - value.double()).abs().max() for key, value in two[0][name].items())
    assert all(torch.equal(two[0][name][key], two[1][name][key]) for key in two[0][name] if "running" not in key)
    assert moved > 0  # or it was no other computation


def test_the_samples_are_those_of_one_process_step_by_step(one, two):
    for step in range(4):
        together = [key for rank in two for key in rank["sync asked"][2 * step : 2 * step + 2]]
        assert together == one["sync asked"][4 * step : 4 * step + 4]
    assert {key for rank in two for key in rank["parts asked"]} == set(one["parts asked"])


def test_processes_that_differ_are_named(two):
    for rank in two:
        assert "of rank 1 differs from that of rank 0" in rank["unequal"]


def test_an_error_in_rank_0_ends_all_and_a_result_reaches_all(two):
    assert two[0]["once"] == "ValueError: no"
    assert two[1]["once"] == "DistributedError: rank 0 failed; its message says why"
    assert [rank["result"] for rank in two] == [{"rank": 0}, {"rank": 0}]


def test_a_signal_to_one_stops_all_and_the_rest_is_bit_identical(two):
    assert [rank["stopped by"] for rank in two] == [15, 15]
    assert two[0]["stopped at"] == (0, 1)
    assert len({rank[run] for rank in two for run in ("whole", "halves")}) == 1
    assert [rank["averages differ"] for rank in two] == [[], []]


def test_all_end_early_together(two):
    assert [rank["early"] for rank in two] == [3, 3]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are listed in /proc")
def test_no_thread_of_the_process_group_is_left(two):
    """A thread that frees a tensor while Python shuts down sometimes aborts the process."""
    for rank in two:
        if torch.__version__ >= (2, 13):  # 2.6 and 2.9 give their threads no names
            assert any("gloo" in name for name in rank["threads together"])
        assert not any("gloo" in name for name in rank["threads afterwards"])


def test_a_batch_is_shared_without_loss():
    for length in range(1, 12):
        for parts in (1, 2, 3):
            for size in (1, 2, 3, 5):
                batch = list(range(100, 100 + length))
                shares = [share(batch, parts, rank, size) for rank in range(size)]
                counted = [part.keys for i in range(len(shares[0])) for part in (s[i] for s in shares) if part.counted]
                assert [key for keys in counted for key in keys] == batch
                assert all(part.keys for rank in shares for part in rank)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"WORLD_SIZE": None}, "no WORLD_SIZE"),
        ({"RANK": "2"}, "expected 0 <= RANK < WORLD_SIZE, got RANK=2, WORLD_SIZE=2"),
        ({"RANK": "first"}, "RANK='first'"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT='http'"),
        ({"MASTER_ADDR": None}, "not MASTER_ADDR"),
    ],
)
def test_an_environment_that_makes_no_sense(monkeypatch, changes, message):
    for name, value in (
        {"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1", "MASTER_ADDR": "localhost"} | changes
    ).items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message), init_distributed(1):
        pass


def test_waiting_for_a_missing_process_ends(monkeypatch):
    monkeypatch.setattr(distributed, "_end_with_parent", lambda: None)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # ours, and nobody listens
        port = silent.getsockname()[1]
        names = {"RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in names.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(DistributedError, match="rank 1 of 2 cannot meet the others at 127"), init_distributed(1):
            pass


def test_shards_are_disjoint_and_complete(monkeypatch):
    items = list(range(7))
    assert shard(items) == items
    monkeypatch.setenv("WORLD_SIZE", "3")
    found = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        found += shard(items)
    assert sorted(found) == items
