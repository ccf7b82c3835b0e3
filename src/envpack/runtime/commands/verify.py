"""Verification of a deployment or a bundle against its manifest, byte by byte."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, Sequence

from envpack.runtime.deployment.record import read_record
from envpack.runtime.errors import IntegrityError
from envpack.runtime.format.codec import STANDARD, Decoder
from envpack.runtime.format.manifest import Manifest, PathRecord, PathsTable
from envpack.runtime.format.tree_rules import check_bundle_tree, check_tree
from envpack.runtime.fs.paths import is_folder
from envpack.runtime.parallel.threads import processors
from envpack.runtime.reader.bundle import Bundle, open_bundle
from envpack.runtime.reader.entries import entries
from envpack.runtime.reader.frames import FramePrefetcher, frames_of
from envpack.runtime.relocation.files import deployed_bytes, verify_digest
from envpack.runtime.report import Reporter, human_size
from envpack.runtime.transport.open import located
from envpack.runtime.tree.compare import Difference, Differences, compare
from envpack.runtime.tree.head import check_record, read_head
from envpack.runtime.tree.package_changes import package_changes
from envpack.runtime.tree.prefix import installed_prefix, own_prefix, prefixes_in

SHOWN = 50
"""Maximum number of lines in an error's details, unless all are wanted."""


@dataclass(frozen=True)
class Verified:
    """The result of a verification.

    For a deployment, ``changed`` and ``missing`` paths are damage; ``extra`` ones, which no bundle brought, are
    not. A bundle has none of them.

    Attributes:
        path: The deployment's directory, or the bundle, as text.
        kind: "deployment" or "bundle".
        name: Name of the environment.
        version: Version of the environment.
        manifest_sha256: Digest of the manifest, in hexadecimal.
        files: Number of paths that were compared.
        size: Bytes that were compared, as stored.
        settled: Whether the tree's path is written into its files as the prefix; False for a bundle.
        seconds: Duration of the whole verification.
        changed: Paths that differ, each with the reason.
        missing: Paths that do not exist.
        extra: Files that no bundle brought.
    """

    path: str
    kind: str
    name: str
    version: str
    manifest_sha256: str
    files: int
    size: int
    settled: bool
    seconds: float
    changed: tuple[Difference, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Return whether nothing is changed or missing."""
        return not self.changed and not self.missing

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON ``result`` of ``envpack.verify/1``."""
        return {
            **vars(self),
            "changed": [dict(vars(item)) for item in self.changed],
            "missing": list(self.missing),
            "extra": list(self.extra),
        }

    def require(self, *, every: bool = False) -> None:
        """Raise IntegrityError when files are changed or missing; its details list these and the extra ones.

        Args:
            every: Whether to list all of them instead of the first SHOWN.
        """
        if self.whole:
            return
        lines = [f"changed: {item.path}: {item.reason}" for item in self.changed]
        lines += [f"missing: {path}" for path in self.missing]
        lines += [f"extra: {path}" for path in self.extra]
        more = len(lines) - SHOWN
        if more > 0 and not every:
            lines[SHOWN:] = [f"... and {more} more"]
        counts = [f"{len(self.changed)} changed"] if self.changed else []
        counts += [f"{len(self.missing)} missing"] if self.missing else []
        raise IntegrityError(
            f"{self.path} differs from {self.name} {self.version} as it was packed: "
            f"{' and '.join(counts)} of {self.files} paths",
            hint="Restore them from the same bundle: envpack repair DEST BUNDLE.",
            details=lines,
        )


def verify(
    path: Path | str,
    *,
    reporter: Reporter,
    jobs: int | None = None,
    decoders: Mapping[str, Decoder] = STANDARD,
    approve: Callable[[bytes, Path | str], None] | None = None,
) -> Verified:
    """Verify a directory as a deployment, anything else, at a path or URL, as a bundle.

    Args:
        path: Directory of a deployment, or path or URL of a bundle.
        reporter: Receives progress.
        jobs: Processors to use (default: those this process may use).
        decoders: Decoders by codec name.
        approve: Called first with the bytes of a bundle's manifest, and ``path``; what it raises passes through.

    Returns:
        The result; see `verify_deployment` and `verify_bundle`, also for the errors.
    """
    path = located(path)
    if isinstance(path, Path) and is_folder(path, follow=True):
        return verify_deployment(path, reporter=reporter, jobs=jobs)
    return verify_bundle(path, reporter=reporter, jobs=jobs, decoders=decoders, approve=approve)


def verify_deployment(root: Path, *, reporter: Reporter, jobs: int | None = None) -> Verified:
    """Compare every path of the deployment at ``root`` with its own manifest and paths table; change nothing.

    Files with a prefix written into them are compared after conversion back to their stored bytes. A tree that was
    moved and not activated since is not damaged.

    Args:
        root: Directory of the deployment.
        reporter: Receives progress.
        jobs: Processors to use (default: those this process may use).

    Returns:
        The result, with every damage other than that of manifest and table.

    Raises:
        FormatError: ``root`` is no deployment.
        IntegrityError: The manifest or the paths table is changed.
    """
    started = time.monotonic()
    root = Path(os.path.realpath(root))
    manifest, table, digest = read_head(root)
    check_record(root, digest)
    is_rewritten, prefixes = prefixes_of(root)
    found = compare_tree(root, manifest, table, prefixes, reporter, jobs)
    record = read_record(root)
    packages = package_changes(root, record.deployed) if record is not None else None
    if packages:
        reporter.warn(f"packages were changed since it was deployed: {packages}")
    return Verified(
        path=str(root),
        kind="deployment",
        name=manifest.name,
        version=manifest.version,
        manifest_sha256=digest,
        files=sum(len(records) for records in table.segments.values()),
        size=manifest.size,
        settled=is_rewritten,
        seconds=round(time.monotonic() - started, 3),
        changed=tuple(found.changed),
        missing=tuple(found.missing),
        extra=tuple(found.extra),
    )


def compare_tree(
    root: Path,
    manifest: Manifest,
    table: PathsTable,
    prefixes: Sequence[bytes | None],
    reporter: Reporter,
    jobs: int | None,
) -> Differences:
    """Compare the tree with its paths table, as a step of the reporter; see `compare`.

    Args:
        root: Directory of the tree.
        manifest: Its manifest.
        table: Its paths table.
        prefixes: Prefixes that may be written into its files; None in it: no prefix is written yet.
        reporter: Receives progress.
        jobs: Processors to use (default: those this process may use).
    """
    check_tree(table, [segment.id for segment in manifest.segments], manifest.changes.outside)
    total = sum(record.size for record in table)
    with reporter.step(f"Verifying {manifest.name} {manifest.version}", total) as step:
        found = compare(str(root), table, prefixes, step, jobs or processors())
        counts = (("changed", found.changed), ("missing", found.missing), ("extra", found.extra))
        step.detail = ", ".join(f"{len(paths)} {what}" for what, paths in counts if paths) or human_size(total)
    return found


def prefixes_of(root: Path) -> tuple[bool, list[bytes | None]]:
    """Return whether the prefix of the tree is rewritten to its path, and the prefixes that its files may contain.

    None in the list means that no prefix is written yet. In a tree whose prefix is not rewritten, files may
    contain an earlier prefix or the present path: `rewrite_prefix` was stopped, and continues at the next
    activation.
    """
    here, known = os.fsencode(root), [os.fsencode(prefix) for prefix in prefixes_in(root)]
    written = installed_prefix(root)
    own = own_prefix(root)
    if own is not None:
        return True, [os.fsencode(own)]
    return False, [*([None] if written is None else []), *dict.fromkeys([*known, here])]


def verify_bundle(
    where: Path | str,
    *,
    reporter: Reporter,
    jobs: int | None = None,
    decoders: Mapping[str, Decoder] = STANDARD,
    approve: Callable[[bytes, Path | str], None] | None = None,
) -> Verified:
    """Read the whole bundle and check every digest in it; write nothing.

    Checked are the frames, the tar entries in them, the content of each file, the paths table, and that a prefix
    can be written where the table says.

    Args:
        where: Path or URL of the bundle.
        reporter: Receives progress.
        jobs: Processors to use (default: those this process may use).
        decoders: Decoders by codec name.
        approve: Called first with the bytes of the manifest that all else is checked against, and ``where``.

    Raises:
        FormatError: It is no bundle.
        IntegrityError: Something is wrong; the first such thing ends the verification.
    """
    started = time.monotonic()
    with open_bundle(where, decoders) as bundle:
        if approve is not None:
            approve(bundle.manifest_bytes, where)
        files = _check_contents(bundle, reporter, jobs or processors())
        bundle.finish()
        manifest = bundle.manifest
        return Verified(
            path=bundle.name,
            kind="bundle",
            name=manifest.name,
            version=manifest.version,
            manifest_sha256=hashlib.sha256(bundle.manifest_bytes).hexdigest(),
            files=files,
            size=manifest.size,
            settled=False,
            seconds=round(time.monotonic() - started, 3),
        )


def _check_contents(bundle: Bundle, reporter: Reporter, jobs: int) -> int:
    manifest, table = bundle.manifest, bundle.table()
    segments = [segment.id for segment in manifest.segments]
    check_bundle_tree(manifest, table)
    total = sum(segment.size for segment in manifest.segments)
    with reporter.step(f"Verifying {manifest.name} {manifest.version}", total) as step:
        with FramePrefetcher(bundle, frames_of(bundle, segments), jobs) as frames:
            for id in segments:
                for record, pieces in entries(frames.take(id), id, table.segments.get(id, ()), step.advance):
                    if record.type != "file":
                        continue
                    for _ in _verified(record, pieces):
                        pass
        step.detail = f"{human_size(manifest.size)} in {manifest.files} files"
    return sum(len(records) for records in table.segments.values())


def _verified(record: PathRecord, pieces: Iterable[memoryview]) -> Iterable[bytes | memoryview]:
    """Yield a file's pieces; raise IntegrityError for another digest, or where no prefix could be written in."""
    verified = verify_digest(pieces, record.path, record.sha256)
    # the placeholder is replaced by itself, which fits every file and changes nothing
    placeholder = record.relocation.placeholder if record.relocation is not None else b""
    return deployed_bytes(verified, record.relocation, record.size, placeholder, record.path)
