"""Protection of steps that must be completed, or rolled back, although the user interrupts the program."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from types import FrameType
from typing import Any, Callable, Iterator, NoReturn

_SOON = 0.01
"""Seconds after which a lost interrupt is raised again."""


@contextmanager
def no_interrupt_lost() -> Iterator[None]:
    """Raise a KeyboardInterrupt again within the block if it was raised where Python can't pass it on.

    In a destructor or a callback of a weak reference, Python reports an exception and continues
    (https://docs.python.org/3/library/sys.html#sys.unraisablehook). Use this only in the main thread.
    """
    report = sys.unraisablehook

    def lost(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, _SOON)
        else:
            report(unraisable)

    previous = signal.signal(signal.SIGALRM, _interrupt)
    sys.unraisablehook = lost
    try:
        yield
    finally:
        sys.unraisablehook = report
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def retry_on_interrupt(action: Callable[[], None]) -> None:
    """Run ``action`` to its end; after a KeyboardInterrupt run it once more, then raise the interrupt.

    A second KeyboardInterrupt stops it. ``action`` must inspect the current state, so that it can run again
    wherever it was stopped.

    Raises:
        KeyboardInterrupt: the action was interrupted; it is complete unless it was interrupted twice.
    """
    try:
        action()
    except KeyboardInterrupt:
        action()
        raise
