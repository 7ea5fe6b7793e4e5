"""Ctrl-C and SIGTERM end a run in an orderly way: the first is noted, the second acts at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """``number`` is the signal that came, or None. The exit status of a process it ends is 128 + number."""

    number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None


class Interrupted(Exception):
    """A signal ended the run after its state was saved; ``number`` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


@contextmanager
def defer_signals() -> Iterator[Interrupt]:
    """Inside, the first SIGINT or SIGTERM only sets the yielded flag; the next has its usual effect.

    Signals can be handled in the main thread alone; elsewhere nothing is changed.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        interrupt.number = number
        for each, handler in previous.items():
            signal.signal(each, handler)

    for number in previous:
        signal.signal(number, note)
    try:
        yield interrupt
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def second_signal_ends_at_once() -> Iterator[None]:
    """Inside, ctrl-C that nobody defers ends the process at once, as any program of the shell.

    KeyboardInterrupt, Python's own answer, would wait for the end of a backward pass.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
