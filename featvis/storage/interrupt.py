"""Stopping politely: Ctrl-C and SIGTERM wait for the write at hand, and a process whose starter is gone stops."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
WORKER = "FEATVIS_WORKER"
"""Environment variable of the processes that a run starts: they have nothing to do once it is gone."""
_STARTER = os.getppid()


class Stopped(BaseException):
    """Somebody wants this process to end; not a KeyboardInterrupt, on which Lightning would kill the other processes.

    Attributes:
        code: exit code, 128 and the signal's number.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


_held = 0
_pending: int | None = None


def _stop(number: int, frame: Any) -> None:
    global _pending
    if _held:
        _pending = number
        return
    for other in SIGNALS:
        # Not SIG_IGN, about which Python complains where a second signal is on its way.
        signal.signal(other, _ignore)
    raise Stopped(number)


def _ignore(number: int, frame: Any) -> None:
    """The process is stopping already."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold `Stopped` back until the block is done.

    Not by a mask of signals: another thread would take them, and Python would raise in this one all the same.
    """
    global _held, _pending
    _held += 1
    try:
        yield
    finally:
        _held -= 1
        if not _held and _pending is not None:
            number, _pending = _pending, None
            _stop(number, None)


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block the first Ctrl-C or SIGTERM raises `Stopped`; further ones are ignored while that is seen to."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_starter() -> None:
    """Raise `Stopped` in a worker whose starter is gone: nobody waits for the result, and somebody may redo it."""
    if WORKER in os.environ and os.getppid() != _STARTER:
        raise Stopped
