"""Orderly end of a command on Ctrl-C, SIGTERM and SIGHUP: KeyboardInterrupt is raised, so that it cleans up."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from envpack.runtime.errors import INTERRUPTED
from envpack.runtime.fs.interrupt import no_interrupt_lost

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STILL_CLEANING = b"cleaning up; interrupt again to stop at once and leave incomplete files behind\n"


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt within the block on the first signal.

    On the second signal stderr says that cleaning up goes on, and the third ends the process at once. Use it only
    in the main thread.
    """
    received = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received == 1:
            raise KeyboardInterrupt
        if received > 2:
            os._exit(INTERRUPTED)
        with suppress(OSError):
            os.write(2, _STILL_CLEANING)  # the signal may have interrupted a print()

    # a signal that was ignored at the start stays so: nohup does that with SIGHUP
    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        with no_interrupt_lost():
            yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
