"""Ctrl-C and SIGTERM end a run in an orderly way: the first signal is recorded, the second ends it at once.

What a run does about the first one, `loop` decides: it saves its state and raises `Interrupted`.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """``number`` is the signal that was received, or 0. A process that it ends has exit status 128 + ``number``."""

    number = 0


class Interrupted(Exception):
    """A signal ended the run after its state was saved; ``number`` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__("ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)
        self.number = number


@contextmanager
def defer_signals() -> Iterator[Interrupt]:
    """Inside the block, the first SIGINT or SIGTERM is only recorded in the yielded `Interrupt`; the next one acts.

    Python handles signals in the main thread only; in any other thread this does nothing.
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
    """Inside the block, ctrl-C that is not deferred kills the process, like a program without a signal handler.

    Python's own handler raises KeyboardInterrupt, but only after a running backward pass has ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
