"""Storing and deploying are inverse, for any file and any prefix, seen with oracles that work differently."""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import re
import string

from hypothesis import given, settings
from hypothesis import strategies as st

from envpack.prefix.model import Entry, Published
from envpack.prefix.relocate.bytecode import HEADER
from support.constants import with_constants
from support.normalized import deployed, normalizer, store

NAMES = st.text(string.ascii_letters + string.digits + "_.-é ", min_size=1, max_size=12).filter(
    lambda t: t.strip(". ")
)
PREFIXES = st.lists(NAMES, min_size=2, max_size=5).map(lambda parts: ("/" + "/".join(parts)).encode())
ASCII_PREFIXES = PREFIXES.filter(bytes.isascii)
# what may stand around a mention without making it part of a longer name
BEFORE = st.sampled_from([b"", b" ", b'"', b"=", b"-I", b"file://", b"\\n", b"\n", b":"])
AFTER = st.sampled_from([b"", b" ", b'"', b"/lib/x", b"/", b":", b". ", b"\n", b"%s"])
FILLER = st.binary(max_size=20).map(lambda data: bytes(byte for byte in data if byte not in b"\0/"))
# without what may be a length: data with lengths is left alone
LENGTHS = bytes((*range(1, 7), *range(14, 27), *range(28, 32), 0x7F, 0xC4, 0xD9))
PLAIN = FILLER.map(lambda data: bytes(byte for byte in data if byte not in LENGTHS))
PLACEHOLDER = b"/conda/" + b"placehold_" * 24


@st.composite
def lines(draw: st.DrawFn, filler: st.SearchStrategy[bytes] = PLAIN) -> list[tuple[bytes, bytes, bytes]]:
    """Pieces of text around mentions of a prefix; every mention is fenced off by blanks."""
    return [
        (draw(filler) + b" " + draw(BEFORE), draw(AFTER) + b" ", draw(filler))
        for _ in range(draw(st.integers(0, 5)))
    ]


def written(parts: list[tuple[bytes, bytes, bytes]], prefix: bytes) -> bytes:
    return b"".join(before + prefix + after + rest for before, after, rest in parts)


@settings(deadline=None)
@given(lines(), PREFIXES, PREFIXES)
def test_text_is_stored_the_same_wherever_it_was_built_and_deploys_as_if_written_there(
    parts: list[tuple[bytes, bytes, bytes]], built: bytes, target: bytes
) -> None:
    if any(built in piece or target in piece for part in parts for piece in part):
        return
    stored = store(written(parts, built), built)
    assert deployed(stored, built) == written(parts, built)
    assert deployed(stored, target) == written(parts, target)
    assert store(written(parts, target), target).sha256 == stored.sha256


@settings(deadline=None)
@given(st.data(), ASCII_PREFIXES)
def test_strings_in_binaries_keep_the_size_of_the_file_and_all_other_offsets(
    data: st.DataObject, built: bytes
) -> None:
    target = data.draw(
        st.binary(max_size=0).map(lambda _: b"/" + b"t" * data.draw(st.integers(1, len(built) - 1)))
    )
    letters = st.text(string.ascii_letters, max_size=9).map(str.encode)
    strings = data.draw(st.lists(lines(letters), min_size=2, max_size=6))
    chunks = [written(parts, built) for parts in strings]
    if any(built in chunk for chunk, parts in zip(chunks, strings, strict=True) if not parts):
        return
    binary = b"\x7fELF\0" + b"\0".join(chunks) + b"\0"
    stored = store(binary, built)
    assert deployed(stored, built) == binary
    assert stored.unrelocatable == ()
    moved = deployed(stored, target)
    assert moved == kept_in_place(binary, built, target)
    assert len(moved) == len(binary) == stored.size


def kept_in_place(data: bytes, old: bytes, new: bytes) -> bytes:
    """A binary with another prefix, and slashes behind it: nothing moves."""

    return data.replace(old, new + b"/" * (len(old) - len(new)))


CONSTANTS = st.text(string.ascii_letters + " é€", max_size=300)


def compiled(prefix: bytes, constants: list[tuple[str, str]]) -> bytes:
    """A pyc as CPython itself writes it in that prefix."""
    path = prefix.decode()
    body = "".join(f"A{index} = '{index}'\n" for index in range(len(constants)))
    source = (
        f"def f(x):\n    def g(): return x, 'constant'\n    return g, {{1.5, 2j}}, {10**30}, b'bytes', ...\n{body}"
    )
    tree = with_constants(source, [f"{before} {path} {after}" for before, after in constants])
    code = compile(tree, f"{path}/lib/pkg/module.py", "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


@settings(deadline=None)
@given(st.lists(st.tuples(CONSTANTS, CONSTANTS), max_size=4), PREFIXES, PREFIXES)
def test_byte_code_deploys_to_what_python_compiles_there(
    constants: list[tuple[str, str]], built: bytes, target: bytes
) -> None:
    path = "lib/pkg/__pycache__/module.cpython-311.pyc"
    original = compiled(built, constants)
    stored = store(original, built, path=path)
    assert stored.unrelocatable == ()
    assert deployed(stored, built) == original
    moved = deployed(stored, target)
    assert moved == compiled(target, constants)
    assert marshal.loads(moved[HEADER:]).co_filename == f"{target.decode()}/lib/pkg/module.py"
    assert store(compiled(target, constants), target, path=path).sha256 == stored.sha256


def installed_as_conda_does(published: bytes, prefix: bytes, mode: str) -> bytes:
    """Install a published file as conda does (with one regular expression)."""
    if mode == "text":
        return published.replace(PLACEHOLDER, prefix)

    def shorten(match: re.Match[bytes]) -> bytes:
        return match.group().replace(PLACEHOLDER, prefix) + bytes(
            (len(PLACEHOLDER) - len(prefix)) * match.group().count(PLACEHOLDER)
        )

    return re.sub(re.escape(PLACEHOLDER) + rb"[^\0]*\0", shorten, published)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([b"\0", PLACEHOLDER, b"/lib", b":", b"abc", b"\0\0\0", b"\xff"]), max_size=12),
    PREFIXES,
    PREFIXES,
    st.sampled_from(["text", "binary"]),
)
def test_published_bytes_are_found_again_and_deploy_anywhere(
    parts: list[bytes], built: bytes, target: bytes, mode: str
) -> None:
    published = b"".join(parts) + b"\0"
    known = Published(hashlib.sha256(published).hexdigest(), len(published), PLACEHOLDER, mode)
    stored = store(installed_as_conda_does(published, built, mode), built, published=known)
    assert not stored.modified
    assert b"".join(stored.pieces) == published
    there = deployed(stored, target)
    if mode == "text":
        assert there == installed_as_conda_does(published, target, mode)
    else:
        assert there == kept_in_place(published, PLACEHOLDER, target)
    again = store(there, target, published=known)
    assert b"".join(again.pieces) == published and not again.modified


@settings(deadline=None)
@given(st.binary(max_size=400), PREFIXES, PREFIXES)
def test_any_bytes_at_all_come_back(data: bytes, prefix: bytes, other: bytes) -> None:
    for path in ("bin/x", "lib/x.pyc", "lib/__pycache__/x.cpython-311.pyc"):
        stored = normalizer(prefix, other).normalize(Entry(path, "file", 0o755, len(data)), data)
        assert deployed(stored, prefix) == data
