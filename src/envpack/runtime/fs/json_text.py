"""JSON that any program may have written to: whatever is wrong with it is one class of error."""

from __future__ import annotations

import json
from typing import Any


def json_value(data: bytes | str) -> Any:
    """Return the value of a JSON text.

    Bundles have a stricter reader, `envpack.runtime.format.json_reader`.

    Raises:
        ValueError: The text is not JSON or not UTF-8, is nested deeper than the parser can follow, has a number
            with more digits than Python converts, or has a NUL in a string, which no path or argument can have.
    """
    try:
        value = json.loads(data)
        if (b"\\u0000" if isinstance(data, bytes) else "\\u0000") in data and _has_nul(value):  # type: ignore[operator]
            raise ValueError("a NUL in a string")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _has_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value
