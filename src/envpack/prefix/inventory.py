"""The reader of an environment: one call that returns everything in it, grouped by the package that owns it."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envpack.prefix.groups import foreign_paths, group_paths
from envpack.prefix.kernels import kernels_of_environment
from envpack.prefix.model import SOURCE_MTIME, Group, PrefixContents
from envpack.prefix.owners.conda_meta import Claim, CondaRecord, read_record
from envpack.prefix.owners.conda_scripts import keep_scripts, renamed
from envpack.prefix.owners.editable_policy import Handled, Policy, handle_editable
from envpack.prefix.owners.ownership import Ownership, assign
from envpack.prefix.owners.pypi import Distribution, metadata_folder, metadata_folders, read_distribution
from envpack.prefix.owners.redeploy import as_deployed
from envpack.prefix.relocate.restore_published import restore_published
from envpack.prefix.scan.prefix_aliases import aliases, previous_prefix, scripts_of_others
from envpack.prefix.scan.walk import GENERATED, Outside, Tree, walk, warn_of_privileged
from envpack.runtime.errors import PackError
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.paths import is_folder
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
        editable: The treatment of editable installs with sources outside the environment.
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
        scan = _scan(prefix, keep, outside, written)
        step.detail = f"{len(scan.tree.files)} files"
    handled = handle_editable(
        scan.tree, scan.prefix, scan.python, scan.python_version, scan.aliases, scan.disk.read, editable
    )
    with reporter.step("Matching files to packages", unit="files") as step:
        distributions = _distributions(scan.tree, scan.records, scan.disk)
        ownership = _ownership(scan, distributions)
        kernels = kernels_of_environment(scan.tree, scan.aliases[0], scan.disk.read)
        contents = {**kernels, **handled.contents}
        groups = group_paths(
            scan.prefix, scan.aliases, scan.tree, ownership, scan.records, distributions, contents
        )
        step.detail = f"{len(groups) - 1} packages"
    _note(scan, reporter)
    for path in kernels:
        reporter.note(f"{path} is packed with the environment's own Python in place of the one on PATH")
    return _contents(scan, handled, ownership, groups)


@dataclass(frozen=True)
class _Scan:
    """The contents of the folder of an environment.

    Attributes:
        prefix: The environment's real path.
        aliases: Every path under which files may mention the prefix.
        previous: The path where it was made, when it was moved since.
        tree: Its files, links and folders.
        records: Its conda packages.
        renamed_scripts: Conda's scripts that are packed under another name: path -> name.
        disk: Reads its files.
        python: Path of the interpreter, or "".
        python_version: Version of the interpreter, or "".
    """

    prefix: Path
    aliases: tuple[bytes, ...]
    previous: bytes | None
    tree: Tree
    records: Sequence[CondaRecord]
    renamed_scripts: Mapping[str, str]
    disk: _Disk
    python: str
    python_version: str


def _scan(prefix: Path, keep: Callable[[str], bool] | None, outside: Outside, written: Sequence[bytes]) -> _Scan:
    found = aliases(prefix)
    prefix = Path(os.fsdecode(found[0]))
    previous = None if written else previous_prefix(prefix)
    names = (*(written or found), *([previous] if previous else []))
    tree = walk(prefix, keep, names, outside)
    records = _conda_records(prefix, tree)
    disk = _Disk(prefix, names, tree.places)
    generated = {path: claim for record in records for path, claim in record.claims.items() if path in GENERATED}
    scripts = keep_scripts(tree, prefix, generated, disk.proves, keep)
    python, version = _python(tree, records)
    return _Scan(prefix, names, previous, tree, records, scripts, disk, python, version)


def _ownership(scan: _Scan, distributions: Sequence[Distribution]) -> Ownership:
    tree = scan.tree
    claims = [*(record.claims for record in scan.records), *(d.claims for d in distributions)]
    claims = [_through_links(renamed(claimed, scan.renamed_scripts), tree, scan.prefix) for claimed in claims]
    return assign({**tree.files, **tree.links}, claims, len(scan.records), scan.disk.proves)


def _note(scan: _Scan, reporter: Reporter) -> None:
    """Tell the user what is not packed as it is."""
    for path in sorted(scan.tree.others):
        reporter.note(f"left out: {path}")
    for path, name in scan.renamed_scripts.items():
        reporter.note(f"conda's {path} is packed as {name}, because bundles contain their own")
    warn_of_privileged(scan.tree.privileged, reporter)
    for other, scripts in scripts_of_others(scan.prefix, scan.aliases).items():
        shown = _first(scripts)
        count = "1 script runs" if len(scripts) == 1 else f"{len(scripts)} scripts run"
        reporter.warn(
            f"{count} a program of another environment, {os.fsdecode(other)}: {shown}. If this environment is a "
            "copy of that one, pack the original, or make the copy with 'conda create --clone'. Otherwise "
            "reinstall the packages of these scripts"
        )
    if scan.previous:
        made = os.fsdecode(scan.previous)
        reporter.note(f"the environment was moved from {made}: mentions of that path are relocated, too")


def _first(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if paths[3:] else "")


def _contents(scan: _Scan, handled: Handled, ownership: Ownership, groups: tuple[Group, ...]) -> PrefixContents:
    tree = scan.tree
    present = {*tree.excluded, *tree.generated, *handled.left_out}
    unclaimed = [path for path in tree.generated if not any(path in record.claims for record in scan.records)]
    own = as_deployed(scan.prefix, unclaimed)
    return PrefixContents(
        scan.prefix,
        scan.aliases,
        groups,
        missing=tuple(path for path in ownership.missing if path not in present),
        foreign=foreign_paths(tree, ownership),
        left_out=handled.left_out,
        outside=tuple(sorted(tree.outside, key=os.fsencode)),
        replaced=tuple(sorted({*ownership.replaced, *tree.generated} - own, key=os.fsencode)),
        python=scan.python,
        python_version=scan.python_version,
        newest=max((record.made for record in scan.records), default=0) or SOURCE_MTIME,
    )


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def _check_environment(prefix: Path) -> None:
    if not is_folder(prefix, follow=True):
        raise PackError(
            f"{prefix} is not a directory", hint="Give the path of an environment, such as ~/miniforge3/envs/x."
        )
    if not (prefix / "conda-meta").is_dir() and (prefix / "pyvenv.cfg").is_file():
        raise PackError(
            f"{prefix} is a venv: its Python and the standard library are outside of it",
            hint="Write an environment.yml with a python and, under pip:, the packages that "
            f"'{prefix}/bin/python -m pip freeze' prints. 'envpack build environment.yml' packs that.",
        )
    python = prefix / "bin/python"
    if (prefix / "pyvenv.cfg").is_file() and not _is_below(os.path.realpath(python), os.path.realpath(prefix)):
        raise PackError(
            f"{prefix} is a conda environment that was made a venv later: its bin/python is {python.resolve()}",
            hint="Remove pyvenv.cfg and reinstall its Python: conda install --force-reinstall python",
        )
    if not (prefix / "conda-meta").is_dir() and not os.path.lexists(prefix / "bin" / "python"):
        raise PackError(
            f"{prefix} is not an environment: it has neither conda-meta nor bin/python",
            hint="Give the path of the environment itself, such as ~/miniforge3/envs/x.",
        )
    if os.path.realpath(prefix) == "/":
        raise PackError("the root of the filesystem can't be packed as an environment")


def _conda_records(prefix: Path, tree: Tree) -> list[CondaRecord]:
    paths = sorted(path for path in tree.files if path.startswith("conda-meta/") and path.endswith(".json"))
    paths = [path for path in paths if path.count("/") == 1]
    records = [read_record(path, read_file(prefix / path)) for path in paths]
    return sorted(records, key=lambda record: (os.fsencode(record.package.segment), record.path))


class _Disk:
    """A reader of files that several packages claim, to decide which package installed the file that is there."""

    def __init__(self, prefix: Path, names: Sequence[bytes], places: Mapping[str, str]) -> None:
        self._prefix, self._names, self._places = prefix, names, places

    def read(self, path: str) -> bytes:
        return read_file(self._prefix / self._places.get(path, path))

    def proves(self, path: str, claim: Claim) -> bool:
        linked = path not in self._places and (self._prefix / path).is_symlink()
        if linked or not (claim.recorded or claim.published):
            return False
        data = self.read(path)
        if claim.published is not None and restore_published(data, claim.published, self._names) is not None:
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
    minor = ".".join(version.split(".")[:2])
    if minor in found:
        return found[minor], version
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
