"""What is to be finished, or taken back, even though somebody has had enough of waiting."""

from __future__ import annotations

from typing import Callable


def to_its_end(action: Callable[[], None]) -> None:
    """Does it. A KeyboardInterrupt meanwhile makes it start again, and is raised then; a second one stops it.

    ``action`` looks at what is there, so that it can be done again wherever it was stopped.
    """
    try:
        action()
    except KeyboardInterrupt:
        action()
        raise
