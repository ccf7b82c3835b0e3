"""Repair of a deployment from the bundle it came from: only files that are changed or missing are written.

After an interruption the next repair continues. Files that no bundle brought are left alone.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Collection, Iterator, Mapping, Sequence

from envpack.runtime.commands.verify import compare_tree, prefixes_of
from envpack.runtime.deployment.exclusive import exclusive
from envpack.runtime.deployment.record import read_record
from envpack.runtime.deployment.state import InPlace, state_of
from envpack.runtime.errors import DestinationError, FormatError, failed_path
from envpack.runtime.extract.restore import TreeRestorer
from envpack.runtime.format.codec import STANDARD, Decoder
from envpack.runtime.format.layout import DEPLOYMENT_PATH, DIGEST_PATH, LOCK_PATH, MANIFEST_PATH, OWN_FOLDER
from envpack.runtime.format.manifest import PathsTable
from envpack.runtime.format.manifest_json import digest_line
from envpack.runtime.format.paths_json import table_from_json
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.lock import locked
from envpack.runtime.fs.paths import check_links, is_folder, umask_of
from envpack.runtime.parallel.threads import processors
from envpack.runtime.reader.bundle import Bundle, open_bundle
from envpack.runtime.report import Reporter
from envpack.runtime.store.store import Store
from envpack.runtime.tree.compare import Differences
from envpack.runtime.tree.conda_digests import add_digests, is_conda_record, read_digests
from envpack.runtime.tree.head import allows_room
from envpack.runtime.tree.prefix import check_prefix, refuse_generation
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix


@dataclass(frozen=True)
class Repaired:
    """The result of a repair.

    Attributes:
        path: Directory of the deployment.
        name: Name of the environment.
        version: Version of the environment.
        bundle: The bundle, as given.
        mended: Paths that were repaired, in the order of the paths table.
        read: Bytes that were read of the bundle's segments, as stored.
        extra: Files that no bundle brought, left as they are.
        seconds: Duration of the whole repair.
    """

    path: str
    name: str
    version: str
    bundle: str
    mended: tuple[str, ...]
    read: int
    extra: tuple[str, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON ``result`` of ``envpack.repair/1``."""
        return {**vars(self), "mended": list(self.mended), "extra": list(self.extra)}


def repair(
    root: Path,
    bundle: Path | str,
    *,
    reporter: Reporter,
    jobs: int | None = None,
    decoders: Mapping[str, Decoder] = STANDARD,
    approve: Callable[[bytes, Path | str], None] | None = None,
    any_parent: bool = False,
    mirrors: Sequence[str] = (),
) -> Repaired:
    """Restore every path of the deployment at ``root`` to what ``bundle`` has.

    Args:
        root: Directory of the deployment.
        bundle: Path or URL of the bundle that it was deployed from.
        reporter: Receives progress and warnings.
        jobs: Processors to use (default: those this process may use).
        decoders: Decoders by codec name.
        approve: See `envpack.runtime.commands.deploy.deploy`.
        any_parent: Whether root may work where other users could replace what is written.
        mirrors: See `envpack.runtime.commands.deploy.DeployOptions`.

    Raises:
        DestinationError: The deployment came from another bundle, another envpack has locked it, it can't be
            written to, or a directory with other files is where a file belongs.
        FormatError: ``root`` is no deployment, or the bundle can't be read.
        IntegrityError: The bundle is damaged.
    """
    started = time.monotonic()
    check_links(root.parent)
    root = Path(os.path.realpath(root))
    refuse_generation(root)
    if not is_folder(root):
        raise FormatError(f"{root} is not a directory", hint="Give the path of a deployment.")
    with open_bundle(bundle, decoders) as opened:
        if approve is not None:
            approve(opened.manifest_bytes, bundle)
        opened.use_mirrors(mirrors, reporter.warn)
        _check_same(root, opened)
        with exclusive(state_of(root), reporter, any_parent=any_parent), locked(root / LOCK_PATH, wait=True):
            manifest = opened.manifest
            check_prefix(manifest, str(root), any_length=allows_room(root))
            table_bytes = opened.table_bytes()
            table = table_from_json(table_bytes)
            restorer = TreeRestorer(root, opened, table, table_bytes)
            with _os_errors_as_destination_error(root), umask_of(root / OWN_FOLDER), restorer.writable_folders():
                mended = restorer.restore_head()
                _, prefixes = prefixes_of(root)
                before = compare_tree(root, manifest, table, prefixes, reporter, jobs)
                broken = {item.path for item in before.changed} | set(before.missing)
                restored, read = restorer.restore(broken, reporter, jobs or processors())
                mended += restored
                _add_digests(root, table, set(restored), restorer.owner)
                _mark_damaged(root, table, before, reporter)
            after = compare_tree(root, manifest, table, prefixes, reporter, jobs) if restored else before
        if after.changed or after.missing:
            left = [f"{item.path}: {item.reason}" for item in after.changed] + after.missing
            raise DestinationError(
                f"{len(left)} paths in {root} could not be repaired, because another process changes them",
                hint="Stop the programs that use the environment, then repair it again.",
                details=left,
            )
    rewrite_prefix(root, reporter)
    return Repaired(
        path=str(root),
        name=manifest.name,
        version=manifest.version,
        bundle=opened.name,
        mended=tuple(mended),
        read=read,
        extra=tuple(path for path in after.extra if path.split("/")[0] != InPlace.NAME),
        seconds=round(time.monotonic() - started, 3),
    )


def _check_same(root: Path, bundle: Bundle) -> None:
    """Raise DestinationError where the bundle's manifest is not the deployment's.

    The manifest, its digest and the record name it; one match is enough, as any of them may be the damaged file.
    """
    sha256 = hashlib.sha256(bundle.manifest_bytes).hexdigest()
    known: list[str] = []
    with suppress(OSError):
        known.append(hashlib.sha256(read_file(root / MANIFEST_PATH)).hexdigest())
    with suppress(OSError, ValueError, AttributeError):
        known.append(str(json_value(read_file(root / DEPLOYMENT_PATH)).get("manifest_sha256")))
    with suppress(OSError):
        line = read_file(root / DIGEST_PATH)
        known.append(sha256 if line == digest_line(bundle.manifest_bytes) else "")
    if not known:
        raise FormatError(f"{root} is not an environment that envpack unpacked")
    if sha256 not in known:
        manifest = bundle.manifest
        raise DestinationError(
            f"{root} was not deployed from {bundle.name}: the manifests differ",
            hint="Use the bundle that was deployed; .envpack/deployment.json names it.",
            details=[f"manifest of the bundle: {manifest.name} {manifest.version}, sha256 {sha256}"],
        )


@contextmanager
def _os_errors_as_destination_error(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise DestinationError(
            f"can't repair {root}: {problem.strerror}: {failed_path(problem, root)}",
            hint="Run this as the owner of the environment, and with enough free disk space.",
        ) from None


def _add_digests(root: Path, table: PathsTable, restored: Collection[str], owner: os.stat_result | None) -> None:
    """Write the digests of files with the prefix into the restored records, as a deployment does."""
    records = [record for record in table if record.path in restored and is_conda_record(record.path)]
    add_digests(root, records, read_digests(root, table, [record.path for record in records]), owner)


def _mark_damaged(root: Path, table: PathsTable, found: Differences, reporter: Reporter) -> None:
    """Mark segments of the store with changed files as damaged, and warn.

    A changed file of the deployment may be a hard link to the store's file, which other deployments share and
    which later ones would get: the store does not use it any more.
    """
    deployed = read_record(root)
    if deployed is None or not deployed.store or not found.changed:
        return
    store = Store(Path(deployed.store))
    changed = {item.path for item in found.changed}
    for id, records in table.segments.items():
        key = table.digests[id]
        for index, record in enumerate(records):
            if record.type != "file" or record.path not in changed or not store.is_changed(key, index, record):
                continue
            with suppress(OSError):
                store.mark_damaged(key)
            reporter.warn(
                f"{record.path} is also changed in the store {store.path}, which will not use that copy again; "
                "verify the other deployments that use this store"
            )
