"""A reader for untrusted JSON: parses it within limits, then checks each value that is read."""

from __future__ import annotations

import json
from typing import Any, Callable, Iterator, TypeVar

from envpack.runtime.errors import FormatError, IntegrityError

T = TypeVar("T")

_DIGITS = 19
"""Digits of the largest number, 2**63 - 1."""

_END = 1 << 63
"""Exclusive upper limit of every number."""

MARKS = (b",", b":", b"[", b"{")
"""Characters of which there is about one for each value, key and bracket, and more where strings contain them."""

_SHAPE = bytes(
    ord("0" if char in b"0123456789" else "," if char in b",:[ \t\r\n" else "-" if char == ord("-") else "x")
    for char in range(256)
)
_LONG = b"0" * (_DIGITS + 1)


def bounded(data: bytes, name: str, *, max_size: int, max_values: int) -> str:
    """Return the text of a JSON document after a check of its size.

    Args:
        data: the bytes of the document.
        name: name of the document in errors.
        max_size: allowed size in bytes.
        max_values: allowed number of values, keys and brackets, counted by `MARKS`.

    Raises:
        IntegrityError: the document is larger than ``max_size``, or has more than about ``max_values`` values.
        FormatError: the document is not ASCII.
    """
    if len(data) > max_size:
        raise IntegrityError(f"{name} has {len(data):,} bytes, more than the limit of {max_size:,}")
    if sum(map(data.count, MARKS)) > max_values:
        raise IntegrityError(f"{name} has more values than the limit of {max_values:,}")
    try:
        return data.decode("ascii")
    except ValueError as problem:
        raise FormatError(f"{name}: not valid JSON ({problem})") from None


def has_long_number(data: bytes) -> bool:
    """Return whether a JSON document has a number beyond 64 bits, or a string that looks like one.

    Such numbers take long to read. A regular expression takes five times as long as this check.
    """
    shape = data.translate(_SHAPE)
    return b"," + _LONG in shape or b",-" + _LONG in shape or shape[:64].lstrip(b",-").startswith(_LONG)


def parse(data: bytes, name: str, *, max_size: int, max_values: int) -> JsonValue:
    """Parse a JSON document within limits.

    Args:
        data: the bytes of the document.
        name: name of the document in errors.
        max_size: allowed size in bytes.
        max_values: allowed number of values, see `bounded`.

    Raises:
        IntegrityError: the document is beyond the limits.
        FormatError: the document is not ASCII or not JSON, an object has a key twice, or a number is beyond 64
            bits.
    """
    text = bounded(data, name, max_size=max_size, max_values=max_values)
    try:
        # a text equal to what json.dumps writes has no duplicate key and no number in a second spelling: parsing
        # and writing it takes a fraction of the time of a check of each object
        plain = None if has_long_number(data) else PLAIN.decode(text)
        if plain is not None and json.dumps(plain, separators=(",", ":")) == text.rstrip("\n"):
            return JsonValue(plain, None, name)
        document = json.loads(text, object_pairs_hook=_object, parse_int=_whole, parse_constant=_constant)
    except (ValueError, RecursionError) as problem:
        raise FormatError(f"{name}: not valid JSON ({problem})") from None
    return JsonValue(document, None, name)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS + 1:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


PLAIN = json.JSONDecoder(parse_constant=_constant)
"""A decoder without checks for duplicate keys and for the length of numbers: see `parse`."""


class JsonValue:
    """A value in a JSON document, with its path in the document for error messages.

    The methods check the value and return it; they raise FormatError, naming the path, when it is not of the
    expected type or range.
    """

    __slots__ = ("_key", "_parent", "value")

    def __init__(self, value: Any, parent: JsonValue | None, key: str | int) -> None:
        self.value, self._parent, self._key = value, parent, key

    @property
    def where(self) -> str:
        """The path of the value in the document, such as ``NAME.segments[3].id``."""
        if self._parent is None:
            return str(self._key)
        if isinstance(self._key, int):
            return f"{self._parent.where}[{self._key}]"
        return f"{self._parent.where}.{self._key if self._key.isidentifier() else _short(self._key)}"

    def _is(self, right: bool, expected: str) -> None:
        if not right:
            raise FormatError(f"{self.where}: {expected} expected, found {_short(self.value)}")

    def text(self, max_length: int) -> str:
        """Return a string of at most ``max_length`` characters, without NUL, that has bytes (PEP 383)."""
        self._is(isinstance(self.value, str), "a string")
        value: str = self.value
        if len(value) > max_length:
            raise FormatError(f"{self.where}: at most {max_length:,} characters expected, found {len(value):,}")
        if "\0" in value:
            raise FormatError(f"{self.where}: a NUL in {_short(value)}")
        encode(value, self)
        return value

    def count(self) -> int:
        """Return a whole number from 0 to 2**63 - 1."""
        self._is(type(self.value) is int and 0 <= self.value < _END, "a whole number, not negative")
        value: int = self.value
        return value

    def counts(self, least: int) -> tuple[int, ...]:
        """Return a list of at least ``least`` numbers, each as `count` returns it."""
        numbers = tuple(self.values())
        if not all(type(number) is int and 0 <= number < _END for number in numbers):
            numbers = tuple(item.count() for item in self.items())  # the error names the item
        if len(numbers) < least:
            raise FormatError(f"{self.where}: at least {least} numbers expected, found {len(numbers)}")
        return numbers

    def digest(self) -> str:
        """Return a sha256: 64 lower-case hexadecimal digits."""
        value = self.value
        right = isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")
        self._is(right, "a sha256")
        digest: str = value
        return digest

    def values(self) -> list[Any]:
        """Return the list as it was parsed, its items unchecked."""
        self._is(isinstance(self.value, list), "a list")
        values: list[Any] = self.value
        return values

    def items(self) -> Iterator[JsonValue]:
        """Iterate over the items of a list; each `JsonValue` is created when it is requested."""
        return (JsonValue(item, self, index) for index, item in enumerate(self.values()))

    def exactly(self, number: int, expected: str) -> list[JsonValue]:
        """Return the items of a list of ``number`` items; ``expected`` describes such a list in the error."""
        self._is(isinstance(self.value, list) and len(self.value) == number, expected)
        return list(self.items())

    def pairs(self) -> Iterator[tuple[str, JsonValue]]:
        """Iterate over the keys and values of an object."""
        self._is(isinstance(self.value, dict), "an object")
        return ((key, JsonValue(item, self, key)) for key, item in self.value.items())

    def has(self, key: str) -> bool:
        """Return whether the object has the field ``key``."""
        self._is(isinstance(self.value, dict), "an object")
        return key in self.value

    def __getitem__(self, key: str) -> JsonValue:
        if not self.has(key):
            raise FormatError(f"{self.where}: the field {key!r} is missing")
        return JsonValue(self.value[key], self, key)

    def get(self, key: str, read: Callable[[JsonValue], T], default: T) -> T:
        """Return a field of the object, or a default value.

        Args:
            key: the name of the field.
            read: converts the value of the field.
            default: the result when the object has no such field.
        """
        return read(self[key]) if self.has(key) else default

    def flat(self, max_length: int) -> Any:
        """Return the value as it was parsed, with at most 5 levels of lists and objects.

        Its strings are checked as `text` checks them, with ``max_length`` as their maximum number of characters.
        """
        self._flat(self.value, max_length, 5)
        return self.value

    def _flat(self, value: Any, max_length: int, levels: int) -> None:
        if isinstance(value, str):
            JsonValue(value, self._parent, self._key).text(max_length)
        elif isinstance(value, (list, dict)):
            if not levels:
                raise FormatError(f"{self.where}: nested too deep")
            for item in value if isinstance(value, list) else (*value, *value.values()):
                self._flat(item, max_length, levels - 1)


def encode(text: str, node: JsonValue) -> bytes:
    """Return the bytes that ``text`` stands for (UTF-8, PEP 383 for other bytes).

    Args:
        text: the string to encode.
        node: the value that holds it, named in errors.

    Raises:
        FormatError: the text can't be encoded, or is not the one right spelling of its bytes: two surrogates for
            two bytes that are one UTF-8 character would be a second name of one file.
    """
    if text.isascii():
        return text.encode()
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise FormatError(f"{node.where}: {_short(text)} is not valid text") from None
    if data.decode("utf-8", "surrogateescape") != text:
        raise FormatError(f"{node.where}: {_short(text)} is not in the canonical form")
    return data


def _short(value: Any) -> str:
    """Return a value as errors show it: escaped, and of limited length."""
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    if isinstance(value, dict):
        return f"an object of {len(value):,}"
    text = json.dumps(value[:40] if isinstance(value, str) else value)
    return text if len(text) <= 40 else text[:37] + "..."


def safe_path(path: str) -> str:
    """Return ``path`` unchanged when it is relative, normalised and inside the prefix.

    Raises:
        IntegrityError: it is not.
    """
    if not path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise IntegrityError(f"unsafe path {path!r} in the bundle")
    return path
