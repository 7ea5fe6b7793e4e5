"""`keep_freed_memory` in a process of its own, because it changes the whole process."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, threading, torch
from box_convolution.deploy import keep_freed_memory

def fresh_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.full((10_000_000,), 1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before, kept = fresh_pages(), keep_freed_memory()
fresh_pages()
after = [fresh_pages()]
thread = threading.Thread(target=lambda: after.append((fresh_pages(), fresh_pages())[1]))
thread.start()
thread.join()
print(kept, before, *after)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_large_tensors_get_the_memory_of_freed_ones() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    kept, before, *after = run.stdout.split()
    assert kept == "True"
    assert int(before) > 1000, "each of ten tensors of 40 MB is in fresh memory, of pages of 4 KB or up to 2 MB"
    assert all(int(pages) < int(before) / 20 for pages in after), "in the main thread, and in another one"


def test_other_systems_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from box_convolution.deploy import freed_memory

    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: object())
    assert freed_memory.keep_freed_memory() is False
