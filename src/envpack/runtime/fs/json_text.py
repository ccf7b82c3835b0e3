"""JSON that any program may have written to: whatever is wrong with it is one class of error."""

from __future__ import annotations

import json
import re
from typing import Any


def json_value(data: bytes | str) -> Any:
    """Return the value of a JSON text.

    Bundles have a stricter reader, `envpack.runtime.format.json_reader`.

    Raises:
        ValueError: The text is not JSON or not UTF-8, is nested deeper than the parser can follow, has a number
            with more digits than Python converts, or has in a string what no path or argument can have: a NUL, or
            a surrogate that does not stand for a byte as in `os.fsdecode`.
    """
    try:
        text = data if isinstance(data, str) else data.decode(json.detect_encoding(data), "surrogatepass")
        value = json.loads(text)
        if not text.isascii() or _ESCAPED.search(text):
            _require_usable(value)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
"""An escape of a NUL or of a surrogate, which in pairs are other characters: the value has to be searched."""


def _require_usable(value: Any) -> None:
    if isinstance(value, dict):
        for pair in value.items():
            _require_usable(list(pair))
    elif isinstance(value, list):
        for part in value:
            _require_usable(part)
    elif isinstance(value, str):
        if "\0" in value:
            raise ValueError("a NUL in a string")
        try:
            value.encode("utf-8", "surrogateescape")  # not os.fsencode: what a locale can't have may be no path
        except UnicodeEncodeError:
            raise ValueError("a lone surrogate in a string") from None
