"""Random environments, packed, deployed, moved and moved back: each tree is what its recipe gives in that place.

The oracle shares nothing with envpack: it makes the tree anew from the recipe, with the other prefix in it, and
knows what a deployment means by rules of its own. More examples: ``make test-property``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import marshal
import os
import posixpath
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from envpack.bundle.codecs import FAST
from envpack.bundle.pack import PackSettings, pack_prefix
from envpack.runtime.commands.deploy import deploy
from envpack.runtime.relocation.files import stored_bytes
from envpack.runtime.report import Reporter
from envpack.runtime.tree.conda_digests import is_conda_record, stored_record
from envpack.runtime.tree.head import read_head
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix
from support.constants import with_constants
from support.small_prefix import SmallPrefix
from support.trees import environment

EXAMPLES = int(os.environ.get("ENVPACK_EXAMPLES", "40"))
DATE = 315532800
PLACEHOLDER = b"/home/builder/" + (b"placehold_" * 30)[:241]
UNMISTAKABLE = 100
SHORT, LONG = 95, 180
"""Bytes of the prefixes that environments are made in: one that names beside it can be mistaken for, one not."""


# --- what files hold ---


@dataclass(frozen=True)
class Mention:
    """The prefix, in one of the forms in which texts write it."""

    form: Literal["plain", "json-slashes", "percent"] = "plain"

    def at(self, prefix: bytes) -> bytes:
        if self.form == "percent":
            return quote(prefix, safe="").encode()
        return json.dumps(prefix.decode())[1:-1].replace("/", "\\/").encode() if "json" in self.form else prefix


@dataclass(frozen=True)
class Mistakable:
    """The prefix with a name right behind or before it: another path, unless the prefix is long."""

    before: bytes
    after: bytes


Part = bytes | Mention | Mistakable

# what is around a mention of its own
before = st.sampled_from(
    [b" ", b'"', b"'", b"=", b"-I", b"-L", b"file://", b"\n", b"\r\n", b":", b";", b"(", b"caf\xe9 "]
)
after = st.sampled_from([b" ", b'"', b"/lib/x", b"/", b":", b". ", b"\n", b"\r\n", b"%s", b")", b"/\xc3\xa9"])
filler = st.one_of(
    st.sampled_from(
        [
            b"",
            b"\xef\xbb\xbf",
            b"text\r\n",
            b"\xff\xfe",
            b"#!/usr/bin/env python\n",
            b"/opt/env/bin",
            b"%2F",
            b"\\/",
        ]
    ),
    st.binary(max_size=24).map(lambda data: data.replace(b"\0", b"0")),
)
plain: st.SearchStrategy[list[Part]] = st.tuples(before, after).map(
    lambda fence: [b" " + fence[0], Mention(), fence[1] + b" "]
)
coded: st.SearchStrategy[list[Part]] = st.sampled_from(["json-slashes", "percent"]).map(
    lambda form: [b' "', Mention(form), b'" ']  # type: ignore[arg-type]
)
mistakable: st.SearchStrategy[list[Part]] = st.sampled_from(
    [
        [b" ", Mistakable(b"", b"2"), b" "],
        [b" ", Mistakable(b"", b".bak"), b" "],
        [b" ", Mistakable(b"/data", b""), b" "],
    ]
)
opening: st.SearchStrategy[list[Part]] = st.sampled_from(
    [
        [],
        [Mention(), b" "],
        [b"\xef\xbb\xbf", Mention(), b"/lib "],
        ["\u201c".encode(), Mention(), "\u201d ".encode()],
    ]
)
texts = st.lists(st.one_of(filler.map(lambda data: [data]), plain, plain, coded, mistakable), max_size=6)
letters = st.text("abcXYZ019_ =,;", max_size=9).map(lambda text: f" {text}".encode())
in_string: st.SearchStrategy[list[Part]] = st.tuples(
    st.sampled_from([b"", b" ", b"=", b"-L", b":", b"x:"]),
    st.sampled_from([b"", b"/lib/libx.so.1", b"/", b":", b". ", b"%s", b" -lx"]),
).map(lambda fence: [b" " + fence[0], Mention(), fence[1]])
strings = st.lists(
    st.lists(st.one_of(letters.map(lambda data: [data]), in_string), max_size=4), min_size=1, max_size=5
)


def joined(pieces: Iterable[Iterable[Part]]) -> list[Part]:
    return [part for piece in pieces for part in piece]


def text_at(parts: list[Part], prefix: bytes, made_in: bytes) -> bytes:
    """Replace the prefix as a text editor does."""
    data = b""
    for part in parts:
        if isinstance(part, Mention):
            data += part.at(prefix)
        elif isinstance(part, Mistakable):
            data += part.before + (prefix if len(made_in) >= UNMISTAKABLE else made_in) + part.after
        else:
            data += part
    return data


def string_at(parts: list[Part], prefix: bytes, made_in: bytes) -> bytes:
    """In a string that keeps its length: nothing behind a path moves."""
    filled = prefix + b"/" * (len(made_in) - len(prefix))
    return b"".join(
        filled if isinstance(part, Mention) else part for part in parts if not isinstance(part, Mistakable)
    )


def string_installed(parts: list[Part], prefix: bytes) -> bytes:
    """Write a prefix into a string as conda and rattler do, with NULs behind it."""
    data = text_at(parts, prefix, PLACEHOLDER)
    return data + bytes((len(PLACEHOLDER) - len(prefix)) * sum(isinstance(part, Mention) for part in parts))


# --- files ---


@dataclass(frozen=True)
class Text:
    parts: list[Part]

    def at(self, prefix: bytes, made_in: bytes) -> bytes:
        return text_at(self.parts, prefix, made_in)


@dataclass(frozen=True)
class Binary:
    strings: list[list[Part]]
    gaps: list[int]

    def at(self, prefix: bytes, made_in: bytes) -> bytes:
        return self.joined(string_at(parts, prefix, made_in) for parts in self.strings)

    def joined(self, strings: Iterable[bytes]) -> bytes:
        data = b"\x7fELF\x02\x01\x01\0"
        for string, gap in zip(strings, self.gaps, strict=True):
            data += string + bytes(1 + gap)
        return data + b"\x01\x02\x03\xff\0"


@dataclass(frozen=True)
class Script:
    """``installer`` is who wrote the first line, where the interpreter's path was too long for the kernel."""

    program: Literal["python", "perl", "tool"]
    arguments: bytes
    installer: Literal["pip", "uv", "conda", "rattler", "none"]
    documented: bool
    body: list[Part]

    def at(self, prefix: bytes, made_in: bytes) -> bytes:
        program = prefix + b"/bin/" + self.program.encode()
        line = b"#!" + program + (b" " + self.arguments if self.arguments else b"")
        given = b" " + self.arguments if self.arguments else b""
        if prefix != PLACEHOLDER and (len(line) > 127 or b" " in prefix):
            if prefix == made_in:
                line = self._as_installed(line, program, given)
            elif self.program == "python" and self.documented:
                line = b'#!/bin/sh\n\f# coding: utf-8 >/dev/null 2>&1; exec "%b"%b "$0" "$@"' % (program, given)
            elif self.program == "python":
                line = b"#!/bin/sh\n'''exec' \"%b\"%b \"$0\" \"$@\"\n' '''" % (program, given)
            elif self.program == "perl":
                quoted = b' "%b"' % self.arguments if self.arguments else b""
                call = b'eval \'exec "%b" -x%b "$0" "$@"\'' % (program, quoted)
                line = b"#!/bin/sh\n%b\n  if 0;\n#!perl%b" % (call, given)
            else:
                quoted = b' "%b"' % self.arguments if self.arguments else b""
                line = b'#!/usr/bin/env -S "%b"%b' % (program, quoted)
                if len(line) > 127:
                    line = b"#!/usr/bin/env %btool%b" % (b"-S " if given else b"", given)
        opening = b'\n\n"""Usage."""\n' if self.documented else b"\nimport this\n"
        return line + opening + text_at(self.body, prefix, made_in)

    def _as_installed(self, line: bytes, program: bytes, given: bytes) -> bytes:
        if self.installer == "rattler" and self.program != "python":
            return b"#!/usr/bin/env " + self.program.encode() + given
        if self.program != "python" or self.installer == "none":
            return line
        if self.installer in ("conda", "rattler"):
            return b"#!/bin/sh\n'''exec' \"%b\"%b \"$0\" \"$@\" #'''" % (program, given)
        quote = b"'" if self.installer == "uv" else b'"'
        return b"#!/bin/sh\n'''exec' %b%b%b%b \"$0\" \"$@\"\n' '''" % (quote, program, quote, given)


@dataclass(frozen=True)
class Packaged:
    """A file of a conda package, published with its placeholder."""

    file: Text | Binary | Script

    @property
    def mode(self) -> str:
        return "binary" if isinstance(self.file, Binary) else "text"

    def published(self) -> bytes:
        return self.at(PLACEHOLDER)

    def installed(self, prefix: bytes) -> bytes:
        if isinstance(self.file, Binary):
            return self.file.joined(string_installed(parts, prefix) for parts in self.file.strings)
        return self.file.at(prefix, prefix) if isinstance(self.file, Script) else self.at(prefix)

    def at(self, prefix: bytes) -> bytes:
        return self.file.at(prefix, PLACEHOLDER)


@dataclass(frozen=True)
class Module:
    """A source with mentions in it; its byte-code is that of CPython, stamped with the source's time and size."""

    name: str
    source: list[Part]
    constants: list[tuple[str, str]]
    stale: bool

    @property
    def path(self) -> str:
        return f"lib/pkg/{self.name}.py"

    @property
    def bytecode(self) -> str:
        return f"lib/pkg/__pycache__/{self.name}.{sys.implementation.cache_tag}.pyc"

    def source_at(self, prefix: bytes, made_in: bytes) -> bytes:
        return b"# " + text_at(self.source, prefix, made_in)

    def bytecode_at(self, prefix: bytes, made_in: bytes, mtime: int) -> bytes:
        return self._compiled(f"{prefix.decode()}/{self.path}", prefix, made_in, mtime)

    def deployed_bytecode_at(self, prefix: bytes, made_in: bytes) -> bytes:
        """If nothing else in byte-code depends on the path, the name of its source does not either."""
        fixed = not self.constants and self.source_at(b"/one", made_in) == self.source_at(b"/two", made_in)
        name = self.path if fixed else f"{prefix.decode()}/{self.path}"
        return self._compiled(name, prefix, made_in, DATE)

    def _compiled(self, name: str, prefix: bytes, made_in: bytes, mtime: int) -> bytes:
        body = "".join(f"A{index} = '{index}'\n" for index in range(len(self.constants)))
        values = [f"{before} {prefix.decode()} {after}" for before, after in self.constants]
        code = compile(with_constants(body, values), name, "exec", dont_inherit=True)
        size = len(self.source_at(prefix, made_in))
        return importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, mtime, size) + marshal.dumps(code)


# --- trees ---

names = st.one_of(
    st.sampled_from(["a", "é", "with blank", "new\nline", "-x", "x" * 255, "中文", ".hidden", "back\\slash"]).map(
        os.fsencode
    ),
    st.binary(min_size=1, max_size=8).filter(lambda name: not set(name) & set(b"/\0") and name.strip(b".")),
)
paths = st.tuples(st.lists(names, max_size=3), names).map(
    lambda path: os.fsdecode(b"/".join([b"top", *(name[:250] + b".d" for name in path[0]), path[1][:250] + b".f"]))
)
modes = st.sampled_from([0o644, 0o600, 0o444, 0o755, 0o700, 0o555, 0o4755, 0o2711])
files: st.SearchStrategy[Text | Binary | Script] = st.one_of(
    st.tuples(opening, texts).map(lambda found: Text([*found[0], *joined(found[1])])),
    strings.flatmap(
        lambda found: st.lists(st.integers(0, 3), min_size=len(found), max_size=len(found)).map(
            lambda gaps: Binary(list(map(joined, found)), gaps)
        )
    ),
)
scripts = st.builds(
    Script,
    st.sampled_from(["python", "python", "perl", "tool"]),
    st.sampled_from([b"", b"-s", b"-W"]),
    st.sampled_from(["pip", "uv", "conda", "none"]),
    st.booleans(),
    texts.map(joined),
)
constant = st.text("abc é€0", max_size=60)
published = st.one_of(
    st.lists(st.one_of(filler.map(lambda data: [data]), plain, mistakable), max_size=5).map(
        lambda pieces: Text(joined([*pieces, [b" ", Mention(), b" "]]))
    ),
    files.filter(lambda file: isinstance(file, Binary)),
    scripts.map(
        lambda script: replace(
            script,
            installer="rattler",
            body=[part for part in script.body if not (isinstance(part, Mention) and part.form != "plain")],
        )
    ),
).map(Packaged)
comments = st.sampled_from([b" ", b"=", b"-I", b'"']).flatmap(
    lambda fence: st.sampled_from([[fence, Mention(), b"/lib "], [b" text "], [fence, Mention(), b". "]])
)
modules = st.builds(
    Module,
    st.sampled_from(["one", "two", "ünï"]),
    st.lists(comments, max_size=3).map(joined),
    st.lists(st.tuples(constant, constant), max_size=3),
    st.booleans(),
)


@dataclass(frozen=True)
class Link:
    """A symbolic link at ``path`` to ``target``; ``absolute``: by the prefix."""

    path: str
    target: str
    absolute: bool


@dataclass(frozen=True)
class Recipe:
    files: dict[str, tuple[int, Text | Binary | Script]]
    packaged: dict[str, Packaged]
    modules: tuple[Module, ...]
    links: tuple[Link, ...]
    hard_links: dict[str, str]
    folders: dict[str, int]

    def make(self, prefix: Path) -> None:
        """Create the environment at ``prefix``, as its installers do."""
        made_in = os.fsencode(prefix)
        made = SmallPrefix(prefix)
        for path, (mode, file) in self.files.items():
            made.write(path, file.at(made_in, made_in), mode)
        for path, each in self.packaged.items():
            made.write(path, each.installed(made_in), 0o755 if isinstance(each.file, Script) else 0o644)
        made.write("conda-meta/tool-1-0.json", self._record(prefix))
        for module in self.modules:
            source = made.write(module.path, module.source_at(made_in, made_in))
            mtime = int(source.stat().st_mtime) - module.stale
            made.write(module.bytecode, module.bytecode_at(made_in, made_in, mtime))
        for link in self.links:
            made.link(link.path, link.target if not link.absolute else prefix / self._resolved(link))
        for path, target in self.hard_links.items():
            (prefix / path).parent.mkdir(parents=True, exist_ok=True)
            (prefix / path).hardlink_to(prefix / target)
        for path, mode in self.folders.items():
            (prefix / path).mkdir(parents=True)
            (prefix / path).chmod(mode)

    def _record(self, prefix: Path) -> str:
        paths = [
            {
                "_path": path,
                "path_type": "hardlink",
                "sha256": hashlib.sha256(each.published()).hexdigest(),
                "size_in_bytes": len(each.published()),
                "file_mode": each.mode,
                "prefix_placeholder": PLACEHOLDER.decode(),
            }
            for path, each in self.packaged.items()
        ]
        names = {
            "name": "tool",
            "version": "1",
            "build": "0",
            "build_number": 0,
            "depends": [],
            "subdir": "noarch",
        }
        record = {**names, "files": list(self.packaged), "paths_data": {"paths_version": 1, "paths": paths}}
        return json.dumps({**record, "link": {"source": f"{prefix}/pkgs/tool", "type": 1}})

    @staticmethod
    def _resolved(link: Link) -> str:
        return posixpath.normpath(posixpath.join(posixpath.dirname(link.path), link.target))

    def at(self, prefix: Path, made_in: Path) -> dict[str, tuple[int, str | bytes]]:
        """Return the expected tree at another path: the mode, and the target or content, of every file."""
        here, there = os.fsencode(prefix), os.fsencode(made_in)
        found: dict[str, tuple[int, str | bytes]] = {"conda-meta/history": (0o644, b"")}
        for path, (mode, file) in self.files.items():
            found[path] = (0o755 if mode & 0o111 else 0o644, file.at(here, there))
        for path, each in self.packaged.items():
            found[path] = (0o755 if isinstance(each.file, Script) else 0o644, each.at(here))
        for module in self.modules:
            found[module.path] = (0o644, module.source_at(here, there))
            if not module.stale:
                found[module.bytecode] = (0o644, module.deployed_bytecode_at(here, there))
        for link in self.links:
            found[link.path] = (0o777, self._resolved(link))
        for path, target in self.hard_links.items():
            found[path] = found[target]
        for path, mode in self.folders.items():
            found[path] = (mode & 0o777 | 0o700, "folder")
        return found


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    chosen = draw(st.lists(paths, min_size=3, max_size=9, unique=True))
    count = draw(st.integers(1, len(chosen)))
    held = {path: (draw(modes), draw(files)) for path in chosen[:count]}
    for index, script in enumerate(draw(st.lists(scripts, max_size=3))):
        held[f"bin/script {index}"] = (0o755, script)
    packaged = {f"share/{i}" + ".é" * i: each for i, each in enumerate(draw(st.lists(published, max_size=3)))}
    found = draw(st.lists(modules, max_size=2, unique_by=lambda module: module.name))
    targets = [*held, "top", "nothing/there"]
    links, hard_links, folders = [], {}, {}
    for path in chosen[count:]:
        kind = draw(st.sampled_from(["link", "hard link", "folder"]))
        if kind == "link":
            target = posixpath.relpath(draw(st.sampled_from(targets)), posixpath.dirname(path))
            links.append(Link(path, target, draw(st.booleans())))
        elif kind == "hard link":
            hard_links[path] = draw(st.sampled_from(list(held)))
        else:
            folders[path] = draw(st.sampled_from([0o755, 0o700, 0o711, 0o555]))
    return Recipe(held, packaged, tuple(found), tuple(links), hard_links, folders)


# --- the test ---


@contextmanager
def work_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="e-"))
    try:
        yield Path(os.path.realpath(folder))
    finally:
        for place in folder.rglob("*"):
            if place.is_dir() and not place.is_symlink():
                place.chmod(0o700)
        shutil.rmtree(folder)


def as_found(root: Path, stale: set[str]) -> dict[str, tuple[int, str | bytes]]:
    """The tree as it lies there, links by the path in it that they lead to."""
    found = {path: facts for path, facts in environment(root).items() if path not in stale}
    record = json.loads(bytes(found.pop("conda-meta/tool-1-0.json")[1]))  # which a deployment has no path in
    assert record["name"] == "tool" and "/pkgs/" not in json.dumps(record)
    for path, (mode, content) in found.items():
        if (root / path).is_symlink():
            assert isinstance(content, str) and not content.startswith("/")
            found[path] = (mode, posixpath.normpath(posixpath.join(posixpath.dirname(path), content)))
    return found


def same(found: dict[str, tuple[int, str | bytes]], expected: dict[str, tuple[int, str | bytes]]) -> None:
    assert sorted(found) == sorted(expected)
    for path, facts in expected.items():
        assert found[path] == facts, path


def proved(root: Path) -> bool:
    """Whether every file, taken back to what the bundle stores, has the digest that the bundle gives."""
    for record in read_head(root)[1]:
        if record.type == "file":
            data = (root / record.path).read_bytes()
            if record.relocation is not None:
                taken_back = stored_bytes(data, record.relocation, record.sha256, [os.fsencode(root)])
                assert taken_back is not None, record.path
                data = taken_back
            if is_conda_record(record.path):
                data = stored_record(data)
            if not record.path.startswith(".envpack/"):
                assert hashlib.sha256(data).hexdigest() == record.sha256, record.path
    return True


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(recipes(), st.permutations(["a", "b b", "l" * 40 + "ong", "ü", "c" * 60 + " d"]), st.integers(-5, 3))
def test_an_environment_is_everywhere_what_its_recipe_gives_there(
    recipe: Recipe, names: list[str], beyond: int
) -> None:
    """Made at a long path or a short one, moved also to where a first line has just 127 bytes, or one more."""
    with work_folder() as folder:
        length = SHORT if beyond < -2 else LONG
        if length == LONG:
            names[0] = "e" * (127 - len(f"#!{folder}//bin/python") + beyond)
        made_in = folder / "m".ljust(length - len(os.fsencode(folder)) - 1, "m")
        recipe.make(made_in)
        settings = PackSettings(level=1, jobs=1)
        manifest = pack_prefix(made_in, folder / "b.tar.zst", settings=settings, reporter=Reporter())
        assert manifest.changes.counts["modified"] == 0
        for item in manifest.changes.unrelocatable:  # what is `Mistakable` stays
            # "a", of "/data" before the prefix, is also the length of a string that a control character ends
            is_counted = b"/data" + os.fsencode(made_in) in (made_in / item.path).read_bytes()
            assume(not (is_counted and "lengths of its strings" in item.reason))
            assert "name" in item.reason
        stale = {module.bytecode for module in recipe.modules if module.stale}
        first, second = (folder / name for name in names[:2])
        deploy(folder / "b.tar.zst", first, reporter=Reporter(), decoders=FAST)
        deployed = as_found(first, stale)
        same(deployed, recipe.at(first, made_in))
        assert proved(first)
        first.rename(second)
        assert rewrite_prefix(second, Reporter()).changed == ()
        same(as_found(second, stale), recipe.at(second, made_in))
        assert proved(second)
        for path, target in recipe.hard_links.items():
            assert (second / path).samefile(second / target)
        second.rename(first)
        assert rewrite_prefix(first, Reporter()).changed == ()
        same(as_found(first, stale), deployed)
