"""Deployment of a conda-pack archive, as of a bundle: atomic, movable and checked."""

from __future__ import annotations

import os
from pathlib import Path

from envpack.bundle.pack import PackSettings, pack_contents
from envpack.interop.environment.origin import name_of
from envpack.interop.environment.read import as_integrity_error, read_archive
from envpack.interop.folder_writer import FolderWriter
from envpack.runtime.commands.check import Policy
from envpack.runtime.commands.deploy import DEFAULTS, Deployment, DeployOptions, deploy_source
from envpack.runtime.commands.deploy_checks import check_before, check_platform, check_room
from envpack.runtime.deployment.source import DeployedTree
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.fs.paths import remove_tree
from envpack.runtime.report import Reporter
from envpack.runtime.tree.head import ROOM
from envpack.runtime.tree.prefix import check_characters, check_prefix

_UNPACKED = ".envpack-unpacked"


class ArchiveSource:
    """Another tool's archive as the source of a deployment (`envpack.runtime.deployment.source.Source`)."""

    tests: tuple[str, ...]

    def __init__(self, archive: Path, policy: Policy) -> None:
        self._archive, self._policy = archive, policy
        self.name, self.origin = str(archive), os.path.abspath(archive)
        self.tests = ()
        self.size = archive.stat().st_size  # the least it can unpack to

    def check(self, prefix: str) -> None:
        check_characters(prefix)

    def write(self, root: Path, prefix: Path, reporter: Reporter, jobs: int) -> DeployedTree:
        folder = root / _UNPACKED
        folder.mkdir()
        environment = read_archive(self._archive, folder, reporter)
        if environment.subdir:
            check_platform(environment.subdir)
        any_length = ROOM in self._policy.allow
        writer = FolderWriter(root, os.fsencode(prefix), any_length=any_length)
        origin = environment.origin
        settings = PackSettings(name=origin.name or name_of(self._archive), version=origin.version or "0.0.0")
        with as_integrity_error(environment.contents.prefix):
            manifest = pack_contents(
                environment.contents,
                environment.normalizer,
                writer,
                settings=settings,
                reporter=reporter,
                title=f"Writing {settings.name}",
            )
        check_prefix(manifest, str(prefix), any_length=any_length)
        checked = check_before(manifest, self.name, prefix, self._policy, reporter)
        remove_tree(folder)
        _warn(manifest, reporter)
        return DeployedTree(
            manifest,
            writer.manifest_bytes,
            origin.made_by,
            environment.missing_guarantees,
            environment.normalizer.repairs,
            host_check=check_room(manifest, str(prefix), self._policy, checked, reporter),
            read=self.size,
            stored=self.size,
        )


def _warn(manifest: Manifest, reporter: Reporter) -> None:
    """Warn of files that differ from what was installed: damage that no checksum shows, or edits."""
    changed = manifest.changes.modified
    if changed:
        shown = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
        files = "1 file is" if len(changed) == 1 else f"{len(changed):,} files are"
        reporter.warn(f"{files} not as installed (edited or damaged): {shown}")


def deploy_archive(
    archive: Path, destination: Path, options: DeployOptions = DEFAULTS, *, reporter: Reporter
) -> Deployment:
    """Deploy an archive of an environment: tar, plain or compressed, or zip.

    Arguments, result and errors are those of `envpack.runtime.commands.deploy.deploy`; the store is not used.
    """
    return deploy_source(ArchiveSource(archive, options.policy), destination, options, reporter=reporter)
