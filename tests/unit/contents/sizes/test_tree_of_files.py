"""The tree of a page: nothing gets lost when small files are merged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpack.contents.difference import Contents
from envpack.contents.sizes.gpu_code import GpuCodeSizes
from envpack.contents.sizes.measure import Sizes, measure
from envpack.contents.sizes.tree import Node, tree
from envpack.runtime.format.limits import MAX_DEPTH
from envpack.runtime.format.manifest import Package, PathRecord, PathsTable
from support.bundle_factory import draft


def sizes(files: dict[str, int], name: str = "app") -> Sizes:
    records = tuple(PathRecord(path, "file", size=size, sha256=path) for path, size in files.items())
    packages = (Package("conda", name, "1.0", segment="a"),)
    contents = Contents("x", draft(packages=packages), PathsTable({"a": records, "environment": ()}))
    return measure(contents, GpuCodeSizes())


def every(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from every(child)


def outline(node: Node) -> list[tuple[str, int]]:
    return [(each.name, each.size) for each in every(node)]


def test_packages_folders_and_files_the_largest_first() -> None:
    found = tree(sizes({"lib/b.so": 70, "lib/a.py": 20, "bin/x": 10, "lib/c": 5, "lib/d": 5}))
    assert outline(found) == [
        ("synthetic", 110),
        ("app 1.0", 110),
        ("lib", 100),
        ("b.so", 70),
        ("a.py", 20),
        ("c", 5),
        ("d", 5),
        ("bin", 10),
        ("x", 10),
    ]
    assert [each.kind for each in every(found) if not each.children] == [
        "shared",
        "python",
        "data",
        "data",
        "programs",
    ]


def test_folders_with_nothing_but_a_folder_are_one_node() -> None:
    found = tree(sizes({"lib/python3.11/site-packages/x/a": 1, "lib/python3.11/site-packages/y": 2}))
    assert outline(found)[2:] == [("lib/python3.11/site-packages", 3), ("y", 2), ("x", 1), ("a", 1)]


def test_the_smallest_are_merged_in_their_folder() -> None:
    files = {"lib/big.so": 1000, **{f"lib/{number}.py": 10 - number for number in range(5)}, "lib/sub/z.py": 1}
    found = tree(sizes(files), most_nodes=2)
    assert outline(found)[2:] == [("lib", 1041), ("big.so", 1000), ("6 smaller files", 41)]
    merged = found.children[0].children[0].children[-1]
    assert (merged.files, merged.kind, merged.merged) == (6, "python", True)


def test_one_small_file_keeps_its_name() -> None:
    found = tree(sizes({"lib/big": 1000, "lib/small": 1}), most_nodes=2)
    assert outline(found)[2:] == [("lib", 1001), ("big", 1000), ("small", 1)]


def test_parts_without_files_are_left_out() -> None:
    assert tree(sizes({})).children == ()


def test_the_deepest_folders_that_a_bundle_can_have() -> None:
    deep = {"/".join(["d"] * depth + ["f"]): depth for depth in range(MAX_DEPTH)}
    found = tree(sizes(deep))
    assert sum(not each.children for each in every(found)) == MAX_DEPTH


@settings(deadline=None)
@given(
    st.dictionaries(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map(lambda parts: "/".join(parts) + ".x"),
        st.integers(0, 1000),
        max_size=60,
    ),
    st.integers(0, 20),
)
def test_every_byte_and_every_file_is_in_one_node(files: dict[str, int], most: int) -> None:
    found = tree(sizes(files), most_nodes=most)
    leaves = [each for each in every(found) if not each.children]
    if files:
        assert sum(each.size for each in leaves) == sum(files.values())
        assert sum(each.files for each in leaves) == len(files)
    for node in every(found):
        if node.children:
            assert node.size == sum(child.size for child in node.children)
            assert node.files == sum(child.files for child in node.children)
            plain = [child.size for child in node.children if not child.merged]
            assert plain == sorted(plain, reverse=True)
    # at most one more in each folder than are shown by themselves, and the package and the root
    assert sum(1 for _ in every(found)) <= 2 * most + 4


@pytest.mark.parametrize("most", [0, 1, 100])
def test_the_same_sizes_give_the_same_tree(most: int) -> None:
    files = {f"lib/{number % 7}/{number}": 5 for number in range(200)}
    assert tree(sizes(files), most) == tree(sizes(files), most)
