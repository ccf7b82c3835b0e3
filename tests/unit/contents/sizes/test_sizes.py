"""The sizes of an environment, from a manifest and a paths table."""

from __future__ import annotations

import pytest

from envpack.contents.difference import Contents
from envpack.contents.sizes.gpu_code import GpuCodeSizes
from envpack.contents.sizes.measure import EVERY_PROFILE, Sizes, measure
from envpack.prefix.scan.prune import profiles
from envpack.runtime.errors import FormatError
from envpack.runtime.format.manifest import Frame, Package, PathRecord, PathsTable, Segment
from support.bundle_factory import draft

SITE = "lib/python3.11/site-packages"


def file(path: str, size: int, sha256: str = "") -> PathRecord:
    return PathRecord(path, "file", size=size, sha256=sha256 or path)


def sizes(segments: dict[str, list[PathRecord]], *packages: Package) -> Sizes:
    """Return the sizes of these segments, each of which compresses to a tenth."""
    stated = tuple(
        Segment(id, (Frame(sum(record.size for record in records) // 10, sum(r.size for r in records), ""),))
        for id, records in segments.items()
    )
    table = PathsTable({id: tuple(records) for id, records in segments.items()})
    manifest = draft(segments=(*stated, Segment("end", (Frame(1, 1024, ""),))), packages=packages)
    return measure(Contents("x", manifest, table), GpuCodeSizes())


def test_packages_have_the_bytes_of_their_segments() -> None:
    found = sizes(
        {
            "conda:b": [
                file("lib/b", 1000),
                PathRecord("lib", "directory"),
                PathRecord("l", "symlink", target="b"),
            ],
            "pypi:a": [file("a", 4000), PathRecord("a2", "hardlink", target="a")],
            "environment": [file("x", 10)],
        },
        Package("conda", "b", "1.0", segment="conda:b"),
        Package("pypi", "a", "2.0", segment="pypi:a"),
    )
    assert [(part.name, part.stored, part.size, part.files) for part in found.parts] == [
        ("a", 400, 4000, 1),
        ("b", 100, 1000, 1),
        ("(environment)", 1, 10, 1),
    ]
    assert (found.size, found.files, found.stored) == (5010, 3, 502)


def test_kinds_add_up_to_all_files() -> None:
    found = sizes({"a": [file("lib/x.so", 70), file("lib/y.so", 20), file("x.py", 30), file("y.txt", 0)]})
    assert [(each.kind.name, each.size, each.files) for each in found.kinds] == [
        ("shared", 90, 2),
        ("python", 30, 1),
        ("data", 0, 1),
    ]


def test_duplicates_are_equal_files_but_no_links_and_no_empty_files() -> None:
    found = sizes(
        {
            "a": [file("a/x", 50, "X"), PathRecord("a/h", "hardlink", target="a/x"), file("a/1", 0, "E")],
            "b": [file("b/x", 50, "X"), file("b/y", 7, "Y"), file("b/2", 0, "E"), file("b/x2", 50, "X")],
            "c": [file("c/y", 7, "Y"), file("c/z", 1000, "Z")],
        }
    )
    assert [(each.paths, each.extra) for each in found.duplicates] == [
        (("a/x", "b/x", "b/x2"), 100),
        (("b/y", "c/y"), 7),
    ]
    stated = found.as_dict()["duplicates"]
    assert (stated["groups"], stated["files"], stated["extra"]) == (2, 3, 107)


def test_profiles_leave_out_what_the_spec_would() -> None:
    found = sizes(
        {
            "conda:python": [
                file("include/python3.11/Python.h", 100),
                file("lib/python3.11/test/test_os.py", 300),
                file("lib/python3.11/test/__pycache__/test_os.cpython-311.pyc", 40),
                file("lib/os.py", 1000),
            ],
            "app:src": [file("src/__pycache__/own.pyc", 5000)],
        }
    )
    pruned = {each.profile: each for each in found.pruned}
    assert list(pruned) == [*profiles(), EVERY_PROFILE]
    assert (pruned["tests"].size, pruned["tests"].files, pruned["tests"].stored) == (340, 2, 34)
    assert (pruned["headers"].size, pruned["bytecode"].size, pruned["docs"].size) == (100, 40, 0)
    assert (pruned[EVERY_PROFILE].size, pruned[EVERY_PROFILE].files) == (440, 3)


def test_headers_that_a_compiler_in_the_environment_needs_stay() -> None:
    header = file("include/python3.11/Python.h", 100)
    found = sizes({"a": [header], "b": [file(f"{SITE}/triton/__init__.py", 1)]})
    assert {each.profile: each.size for each in found.pruned}["headers"] == 0


def test_a_file_with_a_hard_link_that_stays_is_not_saved() -> None:
    found = sizes({"a": [file("share/doc/x", 100), PathRecord("lib/x", "hardlink", target="share/doc/x")]})
    assert {each.profile: each.size for each in found.pruned}["docs"] == 0


def test_an_empty_environment_has_no_sizes() -> None:
    found = sizes({})
    assert (found.size, found.parts, found.kinds, found.duplicates) == (0, (), (), ())


def test_a_manifest_alone_lists_no_files() -> None:
    with pytest.raises(FormatError, match="lists no files"):
        measure(Contents("demo.manifest.json", draft(), None), GpuCodeSizes())
