"""JSON that nobody is to be trusted with: parsed within bounds, then taken apart with checks."""

from __future__ import annotations

import json
from typing import Any, Callable, Iterator, TypeVar

from envpack.runtime.errors import FormatError, IntegrityError

T = TypeVar("T")

_DIGITS = 19
"""Of the longest number: 2**63 - 1."""

_END = 1 << 63
"""What every number is below."""

MARKS = (b",", b":", b"[", b"{")
"""Of which there is one for each value, key and bracket, or more where they stand in texts."""

_SHAPE = bytes(
    ord("0" if char in b"0123456789" else "," if char in b",:[ \t\r\n" else "-" if char == ord("-") else "x")
    for char in range(256)
)
_LONG = b"0" * (_DIGITS + 1)


def bounded(data: bytes, name: str, *, most: int, values: int) -> str:
    """The text of a JSON document, called ``name`` in errors.

    Raises IntegrityError for one of more than ``most`` bytes or about ``values`` values, FormatError when it is
    not ASCII.
    """
    if len(data) > most:
        raise IntegrityError(f"{name} has {len(data):,} bytes, more than the {most:,} of any environment")
    if sum(map(data.count, MARKS)) > values:
        raise IntegrityError(f"{name} has more values in it than any environment needs, {values:,}")
    try:
        return data.decode("ascii")
    except ValueError as problem:
        raise FormatError(f"{name}: not valid JSON ({problem})") from None


def has_long_number(data: bytes) -> bool:
    """Whether there is a number beyond 64 bits in a JSON document, or a text that looks like one: such take long
    to read. A regular expression takes five times as long as this."""
    shape = data.translate(_SHAPE)
    return b"," + _LONG in shape or b",-" + _LONG in shape or shape[:64].lstrip(b",-").startswith(_LONG)


def parse(data: bytes, name: str, *, most: int, values: int) -> Value:
    """A JSON document, called ``name`` in errors.

    Raises what `bounded` raises; FormatError when it is no JSON, when an object has a key twice, or a number is
    beyond 64 bits.
    """
    text = bounded(data, name, most=most, values=values)
    try:
        # where the text is what it would be written as, no key stands there twice, and no number has a second
        # spelling: reading and writing it takes a fraction of looking at each object
        plain = None if has_long_number(data) else PLAIN.decode(text)
        if plain is not None and json.dumps(plain, separators=(",", ":")) == text.rstrip("\n"):
            return Value(plain, None, name)
        document = json.loads(text, object_pairs_hook=_object, parse_int=_whole, parse_constant=_constant)
    except (ValueError, RecursionError) as problem:
        raise FormatError(f"{name}: not valid JSON ({problem})") from None
    return Value(document, None, name)


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
    raise ValueError(f"{name} is no number")


PLAIN = json.JSONDecoder(parse_constant=_constant)
"""Of two equal keys it takes one, and it reads numbers of any length: see `parse`."""


class Value:
    """A value in a JSON document and where it stands. What is not as asked for raises FormatError."""

    __slots__ = ("_key", "_parent", "value")

    def __init__(self, value: Any, parent: Value | None, key: str | int) -> None:
        self.value, self._parent, self._key = value, parent, key

    @property
    def where(self) -> str:
        if self._parent is None:
            return str(self._key)
        if isinstance(self._key, int):
            return f"{self._parent.where}[{self._key}]"
        return f"{self._parent.where}.{self._key if self._key.isidentifier() else _short(self._key)}"

    def _is(self, right: bool, expected: str) -> None:
        if not right:
            raise FormatError(f"{self.where}: {expected} expected, found {_short(self.value)}")

    def text(self, most: int) -> str:
        """A string of at most ``most`` characters that can be bytes (PEP 383), and none of them NUL."""
        self._is(isinstance(self.value, str), "a string")
        value: str = self.value
        if len(value) > most:
            raise FormatError(f"{self.where}: at most {most:,} characters expected, found {len(value):,}")
        if "\0" in value:
            raise FormatError(f"{self.where}: a NUL in {_short(value)}")
        encode(value, self)
        return value

    def count(self) -> int:
        self._is(type(self.value) is int and 0 <= self.value < _END, "a whole number, not negative")
        value: int = self.value
        return value

    def counts(self, least: int) -> tuple[int, ...]:
        numbers = tuple(self.values())
        if not all(type(number) is int and 0 <= number < _END for number in numbers):
            numbers = tuple(item.count() for item in self.items())  # says which
        if len(numbers) < least:
            raise FormatError(f"{self.where}: at least {least} numbers expected, found {len(numbers)}")
        return numbers

    def digest(self) -> str:
        value = self.value
        right = isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789abcdef")
        self._is(right, "a sha256")
        digest: str = value
        return digest

    def values(self) -> list[Any]:
        self._is(isinstance(self.value, list), "a list")
        values: list[Any] = self.value
        return values

    def items(self) -> Iterator[Value]:
        """The items of a list, made as they are asked for."""
        return (Value(item, self, index) for index, item in enumerate(self.values()))

    def exactly(self, number: int, expected: str) -> list[Value]:
        self._is(isinstance(self.value, list) and len(self.value) == number, expected)
        return list(self.items())

    def pairs(self) -> Iterator[tuple[str, Value]]:
        self._is(isinstance(self.value, dict), "an object")
        return ((key, Value(item, self, key)) for key, item in self.value.items())

    def has(self, key: str) -> bool:
        self._is(isinstance(self.value, dict), "an object")
        return key in self.value

    def __getitem__(self, key: str) -> Value:
        if not self.has(key):
            raise FormatError(f"{self.where}: the field {key!r} is missing")
        return Value(self.value[key], self, key)

    def get(self, key: str, read: Callable[[Value], T], default: T) -> T:
        return read(self[key]) if self.has(key) else default

    def flat(self, most: int) -> Any:
        """The value as it is, its texts checked like `text`; at most 5 levels of lists and objects."""
        self._flat(self.value, most, 5)
        return self.value

    def _flat(self, value: Any, most: int, levels: int) -> None:
        if isinstance(value, str):
            Value(value, self._parent, self._key).text(most)
        elif isinstance(value, (list, dict)):
            if not levels:
                raise FormatError(f"{self.where}: nested too deep")
            for item in value if isinstance(value, list) else (*value, *value.values()):
                self._flat(item, most, levels - 1)


def encode(text: str, place: Value) -> bytes:
    """The bytes that ``text`` stands for. Raises FormatError when it stands for none, or not in the one right way
    (two surrogates for two bytes that are a character would be a second name of one file)."""
    if text.isascii():
        return text.encode()
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise FormatError(f"{place.where}: {_short(text)} is no text") from None
    if data.decode("utf-8", "surrogateescape") != text:
        raise FormatError(f"{place.where}: {_short(text)} has another spelling")
    return data


def _short(value: Any) -> str:
    """A value as it is told in an error, harmless and of bounded length."""
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    if isinstance(value, dict):
        return f"an object of {len(value):,}"
    text = json.dumps(value[:40] if isinstance(value, str) else value)
    return text if len(text) <= 40 else text[:37] + "..."


def safe_path(path: str) -> str:
    """The path itself when it is relative, normal and inside the prefix; raises IntegrityError otherwise."""
    if not path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise IntegrityError(f"unsafe path {path!r} in the bundle")
    return path
