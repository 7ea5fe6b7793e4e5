"""Fixtures for all tests."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import settings

from box_convolution import box_conv2d, ops
from box_convolution.ops import cpu_library
from box_convolution.ops.dispatch import IMPLEMENTATIONS

settings.register_profile("box_convolution", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("box_convolution")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in what a script starts with "&". Programs inherit it, and tests could not interrupt those that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """A function that sets the number of threads until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(params=["one thread", "torch's threads", "own threads"])
def threads(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, set_threads: Callable[[int], None]
) -> None:
    """Run the test with one thread, and with three of PyTorch's and of the C++ library's."""
    set_threads(1 if request.param == "one thread" else 3)
    if request.param == "own threads":
        monkeypatch.setattr(cpu_library, "parallel_for", lambda: 0)


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test with each instruction set of the C++ kernels that this machine has; its name."""
    with cpu_library.use_isa(request.param):
        yield request.param


def _serves_cpu(name: str) -> bool:
    try:
        with ops.use(name):
            box_conv2d(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 4))
    except (NotImplementedError, OSError, RuntimeError, ValueError):
        return False
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first: begun last, one process would run them while the other has nothing left to do."""
    items.sort(key=lambda item: item.path.name != "test_triton.py")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests with an argument ``implementation`` once for each implementation that accepts CPU tensors here."""
    if "implementation" in metafunc.fixturenames:
        metafunc.parametrize("implementation", [name for name in IMPLEMENTATIONS if _serves_cpu(name)])
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", [] if cpu_library.status() else cpu_library.isas(), indirect=True)


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list of all figures that matplotlib saves during the test."""
    from matplotlib.figure import Figure

    figures: list[Any] = []
    save = Figure.savefig

    def record(self: Any, *args: Any, **kwargs: Any) -> None:
        figures.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", record)
    return figures
