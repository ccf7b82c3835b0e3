"""YAML nodes with line numbers; problems are collected and raised together."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import yaml

from envpack.runtime.errors import SpecError
from envpack.runtime.fs.io import GIT_LFS, GIT_LFS_ERROR, GIT_LFS_HINT, read_file
from envpack.runtime.transport.redact import without_secrets

T = TypeVar("T")

Node = yaml.nodes.Node
_STRING = "tag:yaml.org,2002:str"
_FLOAT = "tag:yaml.org,2002:float"
_NULL = "tag:yaml.org,2002:null"
_C_LOADER = getattr(yaml, "CSafeLoader", None)
"""libyaml's loader, five times faster; some builds of PyYAML come without it."""


_SHOWN = 60
"""Characters of a wrong value that a message shows."""


class Problems:
    """A collection of messages 'FILE:LINE: what is wrong', raised together as one SpecError."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._found: list[tuple[int, str]] = []
        self._notes: list[tuple[int, str]] = []

    def add(self, position: Node | int, text: str) -> None:
        """Add a problem; ``position`` is the YAML node that is wrong, or a line counted from 1."""
        self._found.append((_line(position), text))

    def note(self, position: Node | int, text: str) -> None:
        """Add something that is no problem, but that the user should know."""
        self._notes.append((_line(position), text))

    def notes(self) -> list[str]:
        """Return what was noted, in the order of its lines."""
        return self._texts(self._notes)

    def raise_any(self) -> None:
        """Raise SpecError with all problems in the order of their lines, if there are any."""
        if not self._found:
            return
        lines = self._texts(self._found)
        if len(lines) == 1:
            raise SpecError(lines[0])
        raise SpecError(f"{self.source} has {len(lines)} mistakes, the first: {lines[0]}", details=lines)

    def _texts(self, found: list[tuple[int, str]]) -> list[str]:
        ordered = sorted(found, key=lambda item: item[0])
        return [without_secrets(f"{self.source}:{line}: {text}") for line, text in ordered]


def _line(position: Node | int) -> int:
    return position if isinstance(position, int) else position.start_mark.line + 1


def read_text(path: Path, what: str = "spec") -> str:
    """Return the text of a file that a user names; ``what`` it is to be.

    It is UTF-8, or UTF-16 with a byte order mark, which PowerShell writes and conda reads (conda/env/env.py).

    Raises:
        SpecError: The file can't be read, has another encoding, has a NUL in it, or is a pointer of Git LFS.
    """
    try:
        content = read_file(path, stream=True)
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except FileNotFoundError:
        raise SpecError(f"there is no {what} {path}", hint="Check the path.") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise SpecError(f"{path} can't be read: {error.strerror}") from None
    if content.startswith(GIT_LFS):
        raise SpecError(f"{path}: {GIT_LFS_ERROR}", hint=GIT_LFS_HINT)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise SpecError(f"{path}:{line}: a NUL character, which no text has")
    return text


class _Loader(yaml.SafeLoader):
    """Read pairs of surrogates as the characters that JSON escapes with them, such as ``"\\ud83d\\ude00"``."""

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """Return the next scalar; raise MarkedYAMLError for a surrogate without its other half."""
        node = super().compose_scalar_node(anchor)
        if not node.value.isascii():
            try:
                node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                problem = "half of a pair of surrogates, which is no character"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None
        return node


def compose(text: str, source: str) -> Node | None:
    """Return the node tree of one YAML document, None when it is empty.

    Raises:
        SpecError: The text is not valid YAML; the message names ``source`` and the line.
    """
    return _parsed(lambda: yaml.compose(text, Loader=_Loader), text, source)


def load(text: str, source: str) -> Any:
    """Return the value of one YAML document.

    Raises:
        SpecError: The text is not valid YAML, or has a value that YAML can't construct, such as a date that does
            not exist; the message names ``source``.
    """
    return _parsed(lambda: _load(text, source), text, source)


def _load(text: str, source: str) -> Any:
    if _C_LOADER is not None:
        _walk(text, source)  # libyaml's recursion has no limit
    return yaml.load(text, Loader=_C_LOADER or _Loader)


_MAX_DEPTH = 128
_FLOWS = 2000
_FLOW = re.compile(r"(?:^|(?<=[\s,:\[{]))[\[{](?!\s*[\]}])", re.MULTILINE)
"""The depth that rattler's reader of YAML accepts, the number of lists and mappings in brackets that it reads
quickly however they are nested, and the start of one. Its time and memory grow with the square of their depth.
"""


def check_depth(text: str, source: str) -> None:
    """Check that a document can be given to rattler, whose reader would not end for deeply nested brackets.

    Raises:
        SpecError: It is nested too deeply, or it has many brackets and is not valid YAML.
    """
    if sum(1 for _ in islice(_FLOW.finditer(text), _FLOWS + 1)) <= _FLOWS:
        return
    _parsed(lambda: _walk(text, source), text, source)


def _walk(text: str, source: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_C_LOADER or yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise _too_deep(source)


def _too_deep(source: str) -> SpecError:
    return SpecError(f"{source}: it is nested too deeply")


_NO_VALUE = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Exceptions of PyYAML's constructors for scalars that are not of their type, such as ``!!int abc``."""


def _parsed(parse: Callable[[], T], text: str, source: str) -> T:
    try:
        return parse()
    except RecursionError:
        raise _too_deep(source) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reason = " ".join(part for part in (error.context, error.problem) if part)
        line_text = (
            text.splitlines()[line - 1].strip() if line <= len(text.splitlines()) else "the end of the file"
        )
        raise SpecError(
            without_secrets(f"{source}:{line}: not valid YAML at {_shown(line_text)!r}: {reason}"),
            hint="Indent with spaces, and quote values that hold ': ', '#', '*', '[' or '{'.",
        ) from None
    except _NO_VALUE as error:
        raise SpecError(f"{source}:1: not valid YAML: {error}") from None


def describe(node: Node) -> str:
    """Return a few words for the value of a node."""
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        return f"a mapping ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})" if keys else "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if node.tag == _NULL:
        return "empty"
    return repr(_shown(node.value))


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def is_empty(node: Node) -> bool:
    """Return whether a node has no value: ``key:`` or ``key: null``."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def mapping(node: Node, what: str, problems: Problems) -> Iterator[tuple[str, Node, Node]]:
    """Yield (key, key node, value node) of a mapping; duplicate keys and those that are no text are problems.

    Args:
        node: The node; if it is neither a mapping nor empty, that is a problem.
        what: The name of the node in messages.
        problems: Receives the problems.
    """
    if not isinstance(node, yaml.MappingNode):
        if not is_empty(node):
            problems.add(node, f"{what} is {describe(node)}, expected a mapping (key: value)")
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            problems.add(key, f"{what} has {describe(key)} as a key, expected a name")
            continue
        if "\0" in key.value:
            problems.add(key, f"{what} has the key {describe(key)} with a NUL character, expected a name")
            continue
        if key.value in seen:
            problems.add(key, f"{key.value!r} is given twice in {what}, first in line {seen[key.value]}")
            continue
        seen[key.value] = key.start_mark.line + 1
        yield key.value, key, value


def sequence(node: Node, what: str, problems: Problems) -> Iterator[Node]:
    """Yield the items of a list; anything else but an empty value is a problem.

    Args:
        node: The node.
        what: The name of the node in messages.
        problems: Receives the problems.
    """
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif not is_empty(node):
        problems.add(node, f"{what} is {describe(node)}, expected a list ('- item' on lines of their own)")


def string(node: Node, what: str, problems: Problems) -> str | None:
    """Return the text of a scalar as it is written; None when it is no text, which is a problem.

    A number is taken as text unless YAML readers disagree with what is written: 1.10 is the number 1.1 to every
    tool that reads the same file. Booleans and other YAML types must be quoted for the same reason.

    Args:
        node: The node.
        what: The name of the node in messages.
        problems: Receives the problems.
    """
    if not isinstance(node, yaml.ScalarNode) or node.tag == _NULL:
        problems.add(node, f"{what} is {describe(node)}, expected text")
        return None
    if "\0" in node.value:
        problems.add(node, f"{what} contains a NUL character, expected text")
        return None
    if node.tag == _STRING:
        return str(node.value)
    try:
        value = yaml.SafeLoader("").construct_object(node)
        read = str(value)  # Python limits the digits of a number
    except _NO_VALUE:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float):
        written = _shown(node.value)
        problems.add(node, f'{what} is {written} without quotes, expected text: write "{written}"')
        return None
    if read != node.value:
        problems.add(
            node,
            f'{what} is {node.value} without quotes, which YAML reads as the number {read}: write "{node.value}"',
        )
        return None
    return str(node.value)


def strings(node: Node, what: str, item: str, problems: Problems) -> list[tuple[str, Node]]:
    """Return the texts of a list with their nodes; empty texts are problems.

    Args:
        node: The node of the list.
        what: The name of the list in messages.
        item: The name of an item in messages.
        problems: Receives the problems.
    """
    found = []
    for element in sequence(node, what, problems):
        text = string(element, item, problems)
        if text is not None and not text.strip():
            problems.add(element, f"{item} is empty")
        elif text is not None:
            found.append((text.strip(), element))
    return found
