"""The grouping of an environment's paths by the package that owns them, and the entry of each path."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import filter
from operator import itemgetter
from pathlib import Path

from envpack.prefix.model import ENVIRONMENT, Entry, Group, Published
from envpack.prefix.owners.conda_meta import Claim, CondaRecord, portable_text, scrub, without_digests
from envpack.prefix.owners.ownership import Ownership
from envpack.prefix.owners.pypi import Distribution
from envpack.prefix.owners.redeploy import placeholders_of_deployment
from envpack.prefix.scan.walk import Tree
from envpack.runtime.format.manifest import Package
from envpack.runtime.fs.io import read_file

_NOTHING = Claim()

_WITHOUT_CREDENTIALS = ("conda-meta/history", ".condarc", ".mambarc", "condarc", "condarc.d/*")
"""Files that conda writes for an environment, with the channels' URLs in them; packed without credentials."""


@dataclass
class _Draft:
    """A group before its entries are made."""

    id: str
    package: Package | None
    paths: list[tuple[str, Claim]] = field(default_factory=list)


def group_paths(
    prefix: Path,
    aliases: Sequence[bytes],
    tree: Tree,
    ownership: Ownership,
    records: Sequence[CondaRecord],
    distributions: Sequence[Distribution],
    contents: Mapping[str, bytes],
) -> tuple[Group, ...]:
    """Return every path of an environment in the group of its owner: packages in their order, then ENVIRONMENT.

    Args:
        prefix: The environment's folder.
        aliases: All paths of the prefix.
        tree: The environment's tree.
        ownership: The owners of its paths: numbers of the records and then of the distributions.
        records: Its conda packages.
        distributions: Its Python distributions.
        contents: Bytes that replace those of a file, by path.
    """
    drafts = _drafts([(r.package, r.path) for r in records] + [(d.package, d.folder) for d in distributions])
    rest = _Draft(ENVIRONMENT, None)
    _share_out(tree, ownership, drafts, rest)
    generated = {
        **contents,
        **{record.path: _portable(record, contents) for record in records},
        **_without_credentials(prefix, aliases, tree),
    }
    placeholders = placeholders_of_deployment(prefix)
    return tuple(
        Group(draft.id, draft.package, tuple(_entries(draft.paths, tree, generated, placeholders)))
        for draft in (*drafts, rest)
    )


def _portable(record: CondaRecord, contents: Mapping[str, bytes]) -> bytes:
    changed = record.claims.keys() & contents.keys()
    return without_digests(record.portable, changed) if changed else record.portable


def _drafts(packages: Iterable[tuple[Package, str]]) -> list[_Draft]:
    """Return an empty group for each package with the path of its metadata, which tells two of one name apart."""
    drafts: dict[str, _Draft] = {}
    for package, place in packages:
        id = package.segment if package.segment not in drafts else f"{package.segment}@{place}"
        drafts[id] = _Draft(id, replace(package, segment=id))
    return list(drafts.values())


def _share_out(tree: Tree, ownership: Ownership, drafts: Sequence[_Draft], rest: _Draft) -> None:
    useless, owners, unowned = ownership.useless, ownership.owners, (-1, _NOTHING)
    for path in (*tree.files, *tree.links):
        if path in useless:
            continue
        owner, claim = owners.get(path, unowned)
        # conda-meta describes the environment as a whole: it changes when any package does
        draft = rest if owner < 0 or path.startswith("conda-meta/") else drafts[owner]
        draft.paths.append((path, claim))
    rest.paths.extend((path, _NOTHING) for path in tree.folders)


def _without_credentials(prefix: Path, aliases: Sequence[bytes], tree: Tree) -> dict[str, bytes]:
    """Return the new bytes of conda's files of the environment that may have credentials in them, by path."""
    generated = {}
    for path in (path for glob in _WITHOUT_CREDENTIALS for path in filter(tree.files, glob)):
        data = read_file(prefix / tree.places.get(path, path))
        if path == "conda-meta/history":
            generated[path] = portable_text(data, aliases)
        elif scrub(data) != data:
            generated[path] = scrub(data)
    return generated


def _entries(
    paths: list[tuple[str, Claim]],
    tree: Tree,
    generated: Mapping[str, bytes],
    placeholders: Mapping[str, Published],
) -> Iterator[Entry]:
    first: dict[tuple[int, int, Published | None], str] = {}
    plain = all(path.isascii() for path, _ in paths)  # as text they sort in the same order, and faster
    for path, claim in sorted(paths, key=itemgetter(0) if plain else lambda item: os.fsencode(item[0])):
        facts = tree.files.get(path)
        if facts is None:
            if path in tree.links:
                yield Entry(path, "symlink", target=tree.links[path])
            else:
                yield Entry(path, "directory", tree.folders[path] & 0o777 | stat.S_IRWXU)
            continue
        mode = 0o755 if facts.executable else 0o644
        changed, _, inode = facts.stamp
        mtime = changed // 1_000_000_000
        if path in generated:
            yield Entry(path, "file", mode, len(generated[path]), mtime, content=generated[path])
            continue
        published = _published(claim, placeholders.get(path)) if placeholders else claim.published
        if facts.device is not None:
            same = (facts.device, inode, published)
            if first.setdefault(same, path) != path:
                yield Entry(path, "hardlink", mode, facts.size, mtime, first[same])
                continue
        place = tree.places.get(path, "")
        yield Entry(path, "file", mode, facts.size, mtime, "", published, claim.recorded, None, place, facts.stamp)


def _published(claim: Claim, deployed: Published | None) -> Published | None:
    """Return a file as published; a deployment's record knows the placeholder that its conda record has lost."""
    published = claim.published
    if published is None or published.placeholder is not None or deployed is None:
        return published
    return deployed if deployed.sha256 == published.sha256 else published


def foreign_paths(tree: Tree, ownership: Ownership) -> tuple[str, ...]:
    """Return the paths that no package owns, without those of conda-meta."""
    known = ownership.owners.keys() | ownership.useless
    paths = (path for path in (*tree.files, *tree.links) if path not in known)
    return tuple(sorted((path for path in paths if not path.startswith("conda-meta/")), key=os.fsencode))
