"""An archive that conda-pack made becomes a bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from envpack.bundle.codecs import encoder_for
from envpack.bundle.pack import PackSettings, pack_contents
from envpack.bundle.writer import BundleWriter
from envpack.interop.environment import as_integrity, read_archive
from envpack.interop.origin import name_of
from envpack.runtime.deploy import processors
from envpack.runtime.errors import DestinationError
from envpack.runtime.model import Manifest
from envpack.runtime.place import work_folder
from envpack.runtime.report import Reporter
from envpack.runtime.source import Repair


@dataclass(frozen=True)
class Converted:
    """A bundle made of an archive: its manifest; the rest is as in `envpack.runtime.source.Written`."""

    manifest: Manifest
    made_by: str
    lacks: tuple[str, ...]
    repairs: tuple[Repair, ...]


def convert_archive(archive: Path, output: Path, *, settings: PackSettings, reporter: Reporter) -> Converted:
    """Makes a bundle of the environment in ``archive``: what packages published is stored as published, where that
    is proved. Name and version, where ``settings`` have none, are a parcel's own or the file's name and 0.0.0.

    It is unpacked beside ``output``. Raises FormatError and IntegrityError for the archive, DestinationError when
    the output can't be written; then no output appears.
    """
    encoder = encoder_for(output.name, settings.level)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DestinationError(f"can't write to {output.parent}: {problem.strerror}") from None
    with work_folder(output.with_name(f".{output.name}.envpack-work")) as work:
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
            as_integrity(contents.prefix),
        ):
            manifest = pack_contents(contents, environment.storer, writer, settings=settings, reporter=reporter)
    return Converted(manifest, origin.made_by, environment.lacks, environment.storer.repairs)
