"""The reader of an environment: one call that returns everything in it, grouped by the package that owns it."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path

from envpack.prefix.model import ENVIRONMENT, SOURCE_MTIME, Entry, Group, PrefixContents, Published
from envpack.prefix.owners.conda_meta import Claim, CondaRecord, portable_text, read_record, scrub
from envpack.prefix.owners.conda_scripts import keep_scripts, renamed
from envpack.prefix.owners.editable_policy import Policy, handle_editable
from envpack.prefix.owners.ownership import Ownership, assign
from envpack.prefix.owners.pypi import Distribution, metadata_folder, metadata_folders, read_distribution
from envpack.prefix.owners.redeploy import placeholders_of_deployment
from envpack.prefix.relocate.restore_published import unpatch
from envpack.prefix.scan.prefix_aliases import former, spellings
from envpack.prefix.scan.walk import GENERATED, Outside, Tree, walk
from envpack.runtime.errors import PackError
from envpack.runtime.format.manifest import Package
from envpack.runtime.report import Reporter


def read_prefix(
    prefix: Path,
    *,
    keep: Callable[[str], bool] | None = None,
    outside: Outside = "error",
    editable: Policy = "error",
    reporter: Reporter | None = None,
    written: Sequence[bytes] = (),
) -> PrefixContents:
    """Return everything in the environment at ``prefix``, grouped by owner.

    Only metadata is read, and those files that more than one package claims.

    Args:
        prefix: The environment's folder.
        keep: Returns whether a path is packed; it is called with files, links, and empty folders with ``/`` at
            the end. None packs all paths.
        outside: How to treat links that lead out of the environment.
        editable: How to treat editable installs whose sources lie outside the environment.
        reporter: Receives progress and notes.
        written: The prefixes that are written in the files, where these differ from the environment's own path.

    Raises:
        PackError: ``prefix`` is no environment, its metadata is broken, or some paths can't be packed: all
            of these are listed.
    """
    reporter = reporter if reporter is not None else Reporter()
    prefix = Path(prefix)
    _check_environment(prefix)
    with reporter.step("Reading the environment", unit="files") as step:
        names = spellings(prefix)
        prefix = Path(os.fsdecode(names[0]))
        moved = None if written else former(prefix)
        names = tuple(written) or names
        names += (moved,) if moved else ()
        tree = walk(prefix, keep, names, outside)
        records = _conda_records(prefix, tree)
        disk = _Disk(prefix, names, tree.places)
        hidden = {path: claim for record in records for path, claim in record.claims.items() if path in GENERATED}
        kept = keep_scripts(tree, prefix, hidden, disk.proves, keep)
        python, version = _python(tree, records)
        step.detail = f"{len(tree.files)} files"
    handled = handle_editable(tree, prefix, python, version, names, disk.read, editable)
    with reporter.step("Finding whose they are", unit="files") as step:
        distributions = _distributions(tree, records, disk)
        claims = [*(record.claims for record in records), *(d.claims for d in distributions)]
        claims = [_through_links(renamed(claimed, kept), tree, prefix) for claimed in claims]
        ownership = assign({**tree.files, **tree.links}, claims, len(records), disk.proves)
        groups = _groups(prefix, names, tree, ownership, records, distributions, handled.contents)
        step.detail = f"{len(groups) - 1} packages"
    for told in sorted(tree.others):
        reporter.note(f"left out: {told}")
    for path, name in kept.items():
        reporter.note(f"conda's {path} is packed as {name}: bundles have their own")
    if moved:
        reporter.note(f"made in {os.fsdecode(moved)}, where nothing is now: what mentions that is relocated, too")
    present = {*tree.excluded, *tree.generated, *handled.left_out}
    return PrefixContents(
        prefix,
        names,
        groups,
        missing=tuple(path for path in ownership.missing if path not in present),
        foreign=_foreign(tree, ownership),
        left_out=handled.left_out,
        outside=tuple(sorted(tree.outside, key=os.fsencode)),
        replaced=tuple(sorted({*ownership.replaced, *tree.generated}, key=os.fsencode)),
        python=python,
        python_version=version,
        newest=max((record.made for record in records), default=0) or SOURCE_MTIME,
    )


def _check_environment(prefix: Path) -> None:
    if not prefix.is_dir():
        raise PackError(
            f"{prefix} is no folder", hint="Give the path of an environment, such as ~/miniforge3/envs/x."
        )
    if not (prefix / "conda-meta").is_dir() and not os.path.lexists(prefix / "bin" / "python"):
        raise PackError(
            f"{prefix} is no environment: it has neither conda-meta nor bin/python",
            hint="Give the path of the environment itself, such as ~/miniforge3/envs/x.",
        )
    if os.path.realpath(prefix) == "/":
        raise PackError("the root of the file system can't be packed as an environment")


def _conda_records(prefix: Path, tree: Tree) -> list[CondaRecord]:
    paths = sorted(path for path in tree.files if path.startswith("conda-meta/") and path.endswith(".json"))
    paths = [path for path in paths if path.count("/") == 1]
    records = [read_record(path, (prefix / path).read_bytes()) for path in paths]
    return sorted(records, key=lambda record: (os.fsencode(record.package.segment), record.path))


class _Disk:
    """A reader of files that several packages claim, to decide which package installed the file that is there."""

    def __init__(self, prefix: Path, names: Sequence[bytes], places: Mapping[str, str]) -> None:
        self._prefix, self._names, self._places = prefix, names, places

    def read(self, path: str) -> bytes:
        return (self._prefix / self._places.get(path, path)).read_bytes()

    def proves(self, path: str, claim: Claim) -> bool:
        linked = path not in self._places and (self._prefix / path).is_symlink()
        if linked or not (claim.recorded or claim.published):
            return False
        data = self.read(path)
        if claim.published is not None and unpatch(data, claim.published, self._names) is not None:
            return True
        return bool(claim.recorded) and hashlib.sha256(data).hexdigest() == claim.recorded


def _distributions(tree: Tree, records: Sequence[CondaRecord], disk: _Disk) -> list[Distribution]:
    """Return the distributions, sorted, that no conda package installed (those have metadata of their own)."""
    by_conda: dict[str, Claim] = {}
    for record in records:
        by_conda.update(record.claims)
    inside: dict[str, list[str]] = {folder: [] for folder in metadata_folders(tree.files)}
    for path in tree.files:
        folder = metadata_folder(path)
        if folder in inside:
            inside[folder].append(path)
    found = []
    for folder, paths in inside.items():
        distribution = read_distribution(folder, paths, disk.read)
        claim = by_conda.get(distribution.record)
        if claim is None or _was_reinstalled(distribution, claim, disk):
            found.append(distribution)
    return sorted(found, key=lambda d: (os.fsencode(d.package.segment), d.folder))


def _was_reinstalled(distribution: Distribution, claim: Claim, disk: _Disk) -> bool:
    """Return whether pip rewrote metadata that a conda package had installed: same version, so the same paths."""
    if not distribution.installer or distribution.installer == "conda" or claim.published is None:
        return False
    return not disk.proves(distribution.record, claim)


def _through_links(claims: Mapping[str, Claim], tree: Tree, prefix: Path) -> Mapping[str, Claim]:
    """Return the claims by the real location of their paths: a parent may have become a link to another folder."""
    if not tree.links:
        return claims
    moved = {}
    for path in claims:
        if path in tree.files or path in tree.links:
            continue
        parents = (path[:index] for index, character in enumerate(path) if character == "/")
        if any(parent in tree.links for parent in parents):
            folder = os.path.realpath(prefix / posixpath.dirname(path))
            real = posixpath.relpath(posixpath.join(folder, posixpath.basename(path)), prefix)
            if real in tree.files or real in tree.links:
                moved[path] = real
    return {moved.get(path, path): claim for path, claim in claims.items()} if moved else claims


# --- groups ---


@dataclass
class _Draft:
    id: str
    package: Package | None
    paths: list[tuple[str, Claim]]


_NOTHING = Claim()

_WITHOUT_CREDENTIALS = frozenset({"conda-meta/history", ".condarc", ".mambarc"})
"""Files that conda writes for an environment, with the channels' URLs in them; packed without credentials."""


def _groups(
    prefix: Path,
    names: Sequence[bytes],
    tree: Tree,
    ownership: Ownership,
    records: Sequence[CondaRecord],
    distributions: Sequence[Distribution],
    contents: Mapping[str, bytes],
) -> tuple[Group, ...]:
    drafts = []
    taken: set[str] = set()
    for package, place in [(r.package, r.path) for r in records] + [(d.package, d.folder) for d in distributions]:
        id = package.segment if package.segment not in taken else f"{package.segment}@{place}"
        taken.add(id)
        drafts.append(_Draft(id, replace(package, segment=id), []))
    rest = _Draft(ENVIRONMENT, None, [])
    useless, owners, unowned = ownership.useless, ownership.owners, (-1, _NOTHING)
    for path in (*tree.files, *tree.links):
        if path in useless:
            continue
        owner, claim = owners.get(path, unowned)
        # conda-meta describes the environment as a whole: it changes when any package does
        draft = rest if owner < 0 or path.startswith("conda-meta/") else drafts[owner]
        draft.paths.append((path, claim))
    rest.paths.extend((path, _NOTHING) for path in tree.folders)
    generated = {**contents, **{record.path: record.portable for record in records}}
    for path in _WITHOUT_CREDENTIALS & tree.files.keys():
        data = (prefix / tree.places.get(path, path)).read_bytes()
        if path == "conda-meta/history":
            generated[path] = portable_text(data, names)
        elif scrub(data) != data:
            generated[path] = scrub(data)
    placeholders = placeholders_of_deployment(prefix)
    return tuple(
        Group(draft.id, draft.package, tuple(_entries(draft.paths, tree, generated, placeholders)))
        for draft in (*drafts, rest)
    )


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
        published = claim.published
        if published is not None and published.placeholder is None and path in placeholders:
            known = placeholders[path]
            published = known if known.sha256 == published.sha256 else published
        if facts.device is not None:
            same = (facts.device, inode, published)
            if first.setdefault(same, path) != path:
                yield Entry(path, "hardlink", mode, facts.size, mtime, first[same])
                continue
        place = tree.places.get(path, "")
        yield Entry(
            path,
            "file",
            mode,
            facts.size,
            mtime,
            "",
            published,
            claim.recorded,
            None,
            place,
            facts.stamp,
        )


def _foreign(tree: Tree, ownership: Ownership) -> tuple[str, ...]:
    """Return the paths that no package owns, without those of conda-meta."""
    known = ownership.owners.keys() | ownership.useless
    paths = (path for path in (*tree.files, *tree.links) if path not in known)
    return tuple(sorted((path for path in paths if not path.startswith("conda-meta/")), key=os.fsencode))


# --- the interpreter ---

_INTERPRETER = re.compile(r"bin/(?:python|pypy)(\d+\.\d+)")


def _python(tree: Tree, records: Sequence[CondaRecord]) -> tuple[str, str]:
    """Return the path and the version of the interpreter; "" and "" when there is none."""
    version = next((r.package.version for r in records if r.package.name in ("python", "pypy")), "")
    found = {}
    for path in tree.files:
        match = _INTERPRETER.fullmatch(path)
        if match:
            found[match.group(1)] = path
    wanted = ".".join(version.split(".")[:2])
    if wanted in found:
        return found[wanted], version
    path = "bin/python"
    for _ in range(8):
        if path not in tree.links:
            break
        path = posixpath.normpath(posixpath.join("bin", tree.links[path]))
    match = _INTERPRETER.fullmatch(path)
    if path in tree.files:
        return path, version or (match.group(1) if match else "")
    if found:
        newest = max(found, key=lambda minor: [int(part) for part in minor.split(".")])
        return found[newest], newest
    return "", ""
