"""Suggestions for misspelled words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], otherwise: str = "expected one of") -> str:
    """Return ``; did you mean 'channels'?``, or the list of known words when none is near.

    Args:
        word: The word that is not known.
        known: All known words.
        otherwise: The words before the list.
    """
    names = list(known)
    close = closest(word, names)
    return f"; did you mean {close!r}?" if close else f"; {otherwise} {', '.join(names)}"


def closest(word: str, known: Iterable[str]) -> str:
    """Return the known word that ``word`` may be a misspelling of, "" when there is none."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), "")
