"""Protection of steps that must be completed, or rolled back, although the user interrupts the program."""

from __future__ import annotations

from typing import Callable


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
