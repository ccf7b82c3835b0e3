"""Conversion of a conda-pack archive to a bundle, and of a bundle to one of conda-pack's formats."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from envpack.bundle.codecs import FAST, encoder_for
from envpack.bundle.model import PROMISED_ROOM
from envpack.bundle.pack import PackSettings, pack_contents
from envpack.bundle.writer import BundleWriter
from envpack.interop.detect import is_archive
from envpack.interop.environment.origin import name_of
from envpack.interop.environment.read import as_integrity_error, read_archive
from envpack.interop.output_formats import check_output, format_for
from envpack.interop.write import write_archive
from envpack.runtime.commands.check import Policy
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.deployment.parents import warn_of_parents
from envpack.runtime.deployment.registry import unregister
from envpack.runtime.deployment.source import Fixup
from envpack.runtime.deployment.state import DeploymentState
from envpack.runtime.errors import UsageError
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.fs.paths import folders_for
from envpack.runtime.fs.temporary import work_folder
from envpack.runtime.host.allowances import PARENT_OWNER
from envpack.runtime.parallel.threads import processors
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.report import Reporter


@dataclass(frozen=True)
class Converted:
    """The result of a conversion: the manifest of the output, and how the archive was read.

    The other fields are those of `envpack.runtime.deployment.source.DeployedTree`.
    """

    manifest: Manifest
    made_by: str
    missing_guarantees: tuple[str, ...]
    repairs: tuple[Fixup, ...]


def convert_file(
    old: Path, new: Path, *, settings: PackSettings, reporter: Reporter, dest_prefix: str = ""
) -> Converted:
    """Convert a bundle or an archive to the format that the name of ``new`` asks for.

    Args:
        old: A bundle, or an archive of another tool.
        new: The output.
        settings: Name, version, compression level and number of jobs.
        reporter: Receives the progress.
        dest_prefix: As for `write_archive`.

    Raises:
        UsageError: The name of ``new`` asks for no known format, or the conversion is from bundle to bundle.
        EnvpackError: `convert_archive`, `deploy` or `write_archive` failed.
    """
    archive = is_archive(old)
    if format_for(new, dest_prefix) is None:
        encoder_for(new.name, settings.level)
        if not archive:
            raise UsageError(f"{old} is already a bundle", hint="Convert it to another format, such as .zip.")
        return convert_archive(old, new, settings=settings, reporter=reporter)
    check_output(new, settings.level, dest_prefix)
    with folders_for(new), work_folder(new) as work:
        converted = None
        bundle = old
        if archive:
            bundle = work / "bundle.tar.zst"
            converted = convert_archive(old, bundle, settings=replace(settings, level=1), reporter=reporter)
        with open_bundle(bundle, FAST) as opened:
            manifest = opened.manifest
        # `write_archive` warns of the parents
        unchecked = DeployOptions(policy=Policy(allow=(PARENT_OWNER,), check=False), run_tests=False)
        unpacked = _padded_folder(work, manifest.longest_prefix)
        deploy(bundle, unpacked, unchecked, reporter=reporter, decoders=FAST)
        unregister(DeploymentState(unpacked).path)
        settings = replace(
            settings, name=settings.name or manifest.name, version=settings.version or manifest.version
        )
        manifest_written = write_archive(
            unpacked, new, settings=settings, reporter=reporter, dest_prefix=dest_prefix
        )
    if converted is not None:
        return replace(converted, manifest=manifest_written)
    return Converted(manifest_written, manifest.writer, (), ())


def _padded_folder(folder: Path, max_length: int | None) -> Path:
    """Return a path below ``folder`` that is as long as ``max_length`` allows, at most `PROMISED_ROOM` bytes.

    Files that no digest verifies are packed with room for a prefix no longer than the one they were last installed
    at.
    """
    length = min(max_length or PROMISED_ROOM, PROMISED_ROOM)
    return folder / "env".ljust(max(3, length - len(os.fsencode(os.path.realpath(folder))) - 1), "_")


def convert_archive(archive: Path, output: Path, *, settings: PackSettings, reporter: Reporter) -> Converted:
    """Write a bundle of the environment in ``archive``, unpacked to a working folder beside ``output``.

    Files that packages published are stored as published where a digest verifies that.

    Args:
        archive: An archive of another tool.
        output: The bundle to write.
        settings: Name and version; where they are empty, those of a parcel, or the file's name and 0.0.0.
        reporter: Receives the progress.

    Raises:
        FormatError: The archive holds no environment.
        IntegrityError: The archive is damaged or unsafe.
        DestinationError: The output can't be written; then no output appears.
    """
    encoder = encoder_for(output.name, settings.level)
    warn_of_parents(output.absolute(), reporter)
    with folders_for(output), work_folder(output) as work:
        folder = work / "unpacked"
        folder.mkdir()
        environment = read_archive(archive, folder, reporter)
        origin, contents = environment.origin, environment.contents
        settings = replace(
            settings,
            name=settings.name or origin.name or name_of(archive),
            version=settings.version or origin.version or "0.0.0",
        )
        with (
            BundleWriter(output, encoder, settings.jobs or processors()) as writer,
            as_integrity_error(contents.prefix),
        ):
            manifest = pack_contents(
                contents, environment.normalizer, writer, settings=settings, reporter=reporter
            )
    return Converted(manifest, origin.made_by, environment.missing_guarantees, environment.normalizer.repairs)
