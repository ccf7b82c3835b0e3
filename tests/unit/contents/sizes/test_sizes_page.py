"""The page: complete, closed to everything that a name could do, and small."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from importlib import resources

import pytest

from envpack.contents.difference import Contents
from envpack.contents.sizes.gpu_code import GpuCodeSizes, GpuLibrary
from envpack.contents.sizes.kinds import kinds
from envpack.contents.sizes.measure import measure
from envpack.contents.sizes.page import page
from envpack.runtime.format.manifest import Package, PathRecord, PathsTable
from support.bundle_factory import draft

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>\x1b[2J\u202e\udc80</details>&amp;"
VOID = {"meta", "rect", "br", "img", "td", "tr"}
"""Elements without an end tag in the page."""


class Page(HTMLParser):
    """The elements of a page, with their attributes, and its text."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {}
        self.text = ""
        self._open: list[str] = []
        self.feed(data.decode())
        self.close()
        assert not [name for name in self._open if name not in VOID]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self._open[-1] != tag:
            assert self._open.pop() in VOID
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open and self._open[-1] in ("script", "style"):
            self.inside.setdefault(self._open[-1], []).append(data)


def make(files: dict[str, int], name: str = "app", gpu_code: GpuCodeSizes | None = None) -> bytes:
    records = tuple(PathRecord(path, "file", size=size, sha256=f"{size}") for path, size in files.items())
    packages = (Package("conda", name, name, segment="a"),)
    manifest = draft(name=name, version=name, subdir=name, packages=packages)
    return page(measure(Contents(name, manifest, PathsTable({"a": records})), gpu_code or GpuCodeSizes()))


def resource(name: str) -> str:
    return resources.files("envpack.contents.sizes").joinpath(name).read_text(encoding="utf-8")


def test_names_are_text_and_nothing_else() -> None:
    library = GpuLibrary(HOSTILE, 10, (HOSTILE,), {HOSTILE: 5})
    data = make({f"lib/{HOSTILE}": 4, HOSTILE: 4, f"{HOSTILE}/x": 1}, HOSTILE, GpuCodeSizes((library,)))
    found = Page(data)
    tags = [tag for tag, _ in found.elements]
    assert tags.count("script") == 1 and "img" not in tags
    assert {key for _, attributes in found.elements for key in attributes if key.startswith("on")} == set()
    assert found.text.count("<script>alert(1)</script>") >= 8
    assert not {"\x1b", "\u202e"} & set(data.decode())


def test_the_policy_allows_this_script_and_this_style_only() -> None:
    found = Page(make({"lib/x": 4}))
    policy = next(a["content"] for tag, a in found.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy
    rules = {name: value for name, _, value in (rule.strip().partition(" ") for rule in policy.split(";"))}
    assert rules["default-src"] == "'none'"
    for rule, tag in (("script-src", "script"), ("style-src", "style")):
        (text,) = found.inside[tag]
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert not [attributes for _, attributes in found.elements if "style" in attributes]


def test_nothing_is_loaded_from_elsewhere() -> None:
    found = Page(make({"lib/x": 4}))
    assert not [a for _, a in found.elements if {"src", "href", "action", "srcset"} & a.keys()]
    assert not re.search(r"url\(|@import|https?:", resource("page.css"))
    script = resource("page.js")
    assert not re.search(
        r"</|https?:|innerHTML|insertAdjacentHTML|eval|fetch|import\(|XMLHttp|document\.write", script
    )


def test_every_kind_has_a_colour() -> None:
    style = resource("page.css")
    assert [kind.name for kind in kinds() if f".{kind.name} {{ --h:" not in style] == []


def test_without_a_script_everything_is_there_but_the_map() -> None:
    found = Page(make({"lib/a.so": 3000, "share/doc/b": 3000, "lib/c.so": 1}))
    assert [a for tag, a in found.elements if "hidden" in a and a.get("id") == "treemap"]
    titles = re.findall(r"<h2>([^<]*)</h2>", make({"lib/a.so": 1}).decode())
    assert titles == ["Map", "Packages", "Kinds of file", "Duplicate files", "Prune profiles", titles[-1]]
    rows = [a for tag, a in found.elements if tag == "tr" and "data-n" in a]
    assert sorted(int(a["data-n"] or "") for a in rows) == [1, 3000, 3000]
    assert sum(tag == "details" for tag, _ in found.elements) == 4


def test_gpu_code_that_was_not_read_is_named_so() -> None:
    text = make({"a": 1}, gpu_code=GpuCodeSizes((GpuLibrary("a", 1, ("sm_90",), None),))).decode()
    assert "sm_90" in text and "Sizes were not read" in text
    libraries = GpuLibrary("a", 1, ("sm_90",), None), GpuLibrary("b", 1, ("sm_90",), {"sm_90": 1234})
    text = make({"a": 1}, gpu_code=GpuCodeSizes(libraries)).decode()
    assert "Libraries that can't be read: 1" in text and "1.2 kB" in text


def test_the_same_sizes_give_the_same_bytes() -> None:
    assert make({"b": 1, "a": 1, "c/d": 1}) == make({"b": 1, "a": 1, "c/d": 1})


@pytest.mark.long
def test_fifty_thousand_files_are_a_small_page() -> None:
    files = {
        f"lib/python3.11/site-packages/package{n % 300}/module{n % 23}/file{n}.py": 1 + n for n in range(50_000)
    }
    data = make(files)
    assert len(data) < 2_000_000
    assert sum(map(int, re.findall(rb'<tr data-n="(\d+)"', data))) == sum(files.values())
