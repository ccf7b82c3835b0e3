"""The tree of packages, folders and files for a page: small files are merged, so that the page stays small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from envpack.contents.sizes.kinds import kind_of
from envpack.contents.sizes.measure import PartSize, Sizes
from envpack.runtime.format.manifest import PathRecord

MOST_NODES = 4000
"""Packages, folders and files of a tree that are shown by themselves: about 0.5 MB of HTML."""


class Node(NamedTuple):
    """A package, a folder, a file, or the merged small contents of a folder.

    Attributes:
        name: Its name; of a folder that has nothing but another one, the names of both, joined by a slash.
        size: Bytes of its files, unpacked.
        files: The number of its files.
        kind: The kind of a file, or of all files merged; "" for other nodes.
        children: What is in a package or folder, the largest first; what is merged comes last.
        merged: Whether it stands for several files and folders.
    """

    name: str
    size: int
    files: int
    kind: str = ""
    children: tuple[Node, ...] = ()
    merged: bool = False


@dataclass
class _Folder:
    """A folder while the tree is built."""

    name: str
    depth: int
    size: int = 0
    files: int = 0
    folders: dict[str, _Folder] = field(default_factory=dict)
    leaves: list[_File] = field(default_factory=list)

    def add(self, record: PathRecord) -> None:
        folder = self
        *parents, name = record.path.split("/")
        for parent in parents:
            folder._count(record.size)
            folder = folder.folders.setdefault(parent, _Folder(parent, folder.depth + 1))
        folder._count(record.size)
        folder.leaves.append(_File(name, folder.depth + 1, record.size, record.path))

    def _count(self, size: int) -> None:
        self.size += size
        self.files += 1

    def everything(self) -> Iterator[_Folder | _File]:
        yield from self.leaves
        for folder in self.folders.values():
            yield folder
            yield from folder.everything()


@dataclass
class _File:
    name: str
    depth: int
    size: int
    path: str
    files: int = 1

    @property
    def kind(self) -> str:
        return kind_of(self.path).name


def tree(sizes: Sizes, most_nodes: int = MOST_NODES) -> Node:
    """Return the tree of an environment.

    Args:
        sizes: Its sizes.
        most_nodes: The number of folders and files that are shown by themselves, the largest of all; besides them,
            each folder that is shown can have one node with everything else in it.
    """
    roots = [(part, _root(part, sizes)) for part in sizes.parts if part.files]
    every = [each for _, root in roots for each in root.everything() if each.size]
    # a folder comes before what is in it, so that what is shown has all its folders shown
    every.sort(key=lambda each: (-each.size, each.depth))
    shown = {id(each) for each in every[:most_nodes]}
    packages = (_node(root, shown, name=_name(part)) for part, root in roots)
    children = tuple(sorted(packages, key=lambda node: (-node.size, node.name)))
    return Node(sizes.manifest.name, sizes.size, sizes.files, children=children)


def _root(part: PartSize, sizes: Sizes) -> _Folder:
    root = _Folder("", 0)
    for record in sizes.table.segments[part.segment]:
        if record.type == "file":
            root.add(record)
    return root


def _name(part: PartSize) -> str:
    return f"{part.name} {part.package.version}" if part.package else part.name


def _node(folder: _Folder, shown: set[int], name: str) -> Node:
    inside: list[_Folder | _File] = [*folder.folders.values(), *folder.leaves]
    small = [each for each in inside if id(each) not in shown]
    if len(small) == 1 and isinstance(small[0], _File):
        small = []
    small_ids = {id(each) for each in small}
    children = sorted(
        (_child(each, shown) for each in inside if id(each) not in small_ids),
        key=lambda node: (-node.size, node.name),
    )
    if small:
        children.append(_merged(small))
    return Node(name, folder.size, folder.files, children=tuple(children))


def _child(each: _Folder | _File, shown: set[int]) -> Node:
    if isinstance(each, _File):
        return Node(each.name, each.size, 1, each.kind)
    name = each.name
    while len(each.folders) == 1 and not each.leaves:
        (each,) = each.folders.values()
        name = f"{name}/{each.name}"
    return _node(each, shown, name)


def _merged(small: list[_Folder | _File]) -> Node:
    kinds = {kind for each in small for kind in _kinds(each)}
    files = sum(each.files for each in small)
    return Node(
        f"{files:,} smaller {'file' if files == 1 else 'files'}",
        sum(each.size for each in small),
        files,
        kind=kinds.pop() if len(kinds) == 1 else "",
        merged=True,
    )


def _kinds(each: _Folder | _File) -> Iterator[str]:
    if isinstance(each, _File):
        yield each.kind
        return
    yield from {inner.kind for inner in each.everything() if isinstance(inner, _File)}
