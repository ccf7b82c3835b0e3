"""Whether a deployment, or a bundle, is what its manifest says, to the last byte."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from envpack.runtime.errors import IntegrityError
from envpack.runtime.format.codec import STANDARD, Decoder
from envpack.runtime.format.layout import DIGEST_PATH
from envpack.runtime.format.manifest import Manifest, PathsTable
from envpack.runtime.format.tree_rules import check_bundle_tree, check_tree
from envpack.runtime.parallel.threads import processors
from envpack.runtime.reader.bundle import Bundle, open_bundle
from envpack.runtime.reader.entries import entries
from envpack.runtime.reader.frames import Frames
from envpack.runtime.relocation.files import Content
from envpack.runtime.report import Reporter, human_size
from envpack.runtime.transport.open import local_path
from envpack.runtime.tree.compare import Difference, Differences, compare
from envpack.runtime.tree.head import check_record, read_head
from envpack.runtime.tree.prefix import prefixes_in, written_prefix

SHOWN = 50
"""Lines of an error's details, unless all are asked for."""


@dataclass(frozen=True)
class Verified:
    """What was found of the deployment or bundle at ``path``.

    ``kind``: "deployment" or "bundle"; ``files``, ``size``: paths, and bytes as stored, that were compared;
    ``settled``: whether the place it lies in is written in (of a bundle: False). Of a deployment, ``changed`` and
    ``missing`` paths are damage, ``extra`` ones, that no bundle brought, are not; a bundle has none of them.
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
        return not self.changed and not self.missing

    def as_dict(self) -> dict[str, Any]:
        """JSON's view: the ``result`` of ``envpack.verify/1``."""
        return {
            **vars(self),
            "changed": [dict(vars(item)) for item in self.changed],
            "missing": list(self.missing),
            "extra": list(self.extra),
        }

    def require(self, *, every: bool = False) -> None:
        """Raises IntegrityError when files are changed or missing: its details name them, and what is extra.

        The first SHOWN of them, or ``every`` one.
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
            f"{self.path} is not as {self.name} {self.version} was packed: "
            f"{' and '.join(counts)} of {self.files} paths",
            hint="'envpack repair DEST BUNDLE' mends them from the bundle it was deployed from.",
            details=lines,
        )


def verify(
    path: Path | str, *, reporter: Reporter, jobs: int | None = None, decoders: Mapping[str, Decoder] = STANDARD
) -> Verified:
    """A folder is verified as a deployment, anything else, at a path or URL, as a bundle."""
    path = local_path(path)
    if isinstance(path, Path) and path.is_dir():
        return verify_deployment(path, reporter=reporter, jobs=jobs)
    return verify_bundle(path, reporter=reporter, jobs=jobs, decoders=decoders)


def verify_deployment(root: Path, *, reporter: Reporter, jobs: int | None = None) -> Verified:
    """Compares every path of the deployment at ``root`` with its own manifest and table; changes nothing.

    Files with a prefix written in are taken back to their stored bytes; that the tree was moved and not used
    since is no damage. Raises FormatError when it is no deployment, IntegrityError when manifest or table
    themselves are not what they were; every other damage is in what is returned.
    """
    started = time.monotonic()
    root = Path(os.path.realpath(root))
    manifest, table = read_head(root)
    digest = (root / DIGEST_PATH).read_text(encoding="ascii", errors="replace").split()[0]
    check_record(root, digest)
    settled, prefixes = prefixes_of(root)
    found = compare_tree(root, manifest, table, prefixes, reporter, jobs)
    return Verified(
        path=str(root),
        kind="deployment",
        name=manifest.name,
        version=manifest.version,
        manifest_sha256=digest,
        files=sum(len(records) for records in table.segments.values()),
        size=manifest.size,
        settled=settled,
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
    """`compare`, told as a step."""
    check_tree(table, [segment.id for segment in manifest.segments], manifest.changes.outside)
    total = sum(record.size for record in table)
    with reporter.step(f"Verifying {manifest.name} {manifest.version}", total) as step:
        found = compare(str(root), table, prefixes, step, jobs or processors())
        counts = (("changed", found.changed), ("missing", found.missing), ("extra", found.extra))
        step.detail = ", ".join(f"{len(paths)} {what}" for what, paths in counts if paths) or human_size(total)
    return found


def prefixes_of(root: Path) -> tuple[bool, list[bytes | None]]:
    """Whether the tree is settled where it lies, and which prefixes may stand in its files (None: none yet).

    In a tree that is not settled, a former one and the place it lies in may both: `settle` was stopped, and goes
    on at the next activation.
    """
    here, known = os.fsencode(root), [os.fsencode(prefix) for prefix in prefixes_in(root)]
    written = written_prefix(root)
    if written == str(root):
        return True, [here]
    return False, [*([None] if written is None else []), *dict.fromkeys([*known, here])]


def verify_bundle(
    where: Path | str, *, reporter: Reporter, jobs: int | None = None, decoders: Mapping[str, Decoder] = STANDARD
) -> Verified:
    """Reads the whole bundle at a path or URL, and checks every digest in it; writes nothing.

    Frames, the tar entries in them, each file's content, the table, and that a prefix can be written in where the
    table says. Raises FormatError when it is no bundle, IntegrityError at the first thing that is wrong.
    """
    started = time.monotonic()
    with open_bundle(where, decoders) as bundle:
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
        with Frames(bundle, segments, jobs) as frames:
            for id in segments:
                for record, pieces in entries(frames.take(id), id, table.segments.get(id, ()), step.advance):
                    if record.type != "file":
                        continue
                    content = Content(record.path, record.relocation, record.sha256)
                    for piece in pieces:
                        content.feed(piece)
                    content.finish()
        step.detail = f"{human_size(manifest.size)} in {manifest.files} files"
    return sum(len(records) for records in table.segments.values())
