"""The sizes of an environment, from its manifest and its paths table: nothing else is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from envpack.contents.difference import Contents, stored_size
from envpack.contents.sizes.gpu_code import GpuCodeSizes
from envpack.contents.sizes.kinds import Kind, kind_of, kinds
from envpack.prefix.own.ids import is_own
from envpack.prefix.scan.prune import Selection, profiles
from envpack.runtime.errors import FormatError
from envpack.runtime.format.manifest import Manifest, Package, PathRecord, PathsTable

MOST_DUPLICATES = 100
"""Groups of equal files that are listed; the others are counted."""

MOST_PATHS = 20
"""Paths that are listed of one group."""

EVERY_PROFILE = "all"
"""The name of all prune profiles together."""


class PartSize(NamedTuple):
    """The sizes of a package, or of the files that no package owns.

    Attributes:
        segment: Id of its segment.
        package: The package; None for files without one.
        stored: Its bytes in the bundle, compressed.
        size: Bytes of its files.
        files: The number of its files.
    """

    segment: str
    package: Package | None
    stored: int
    size: int
    files: int

    @property
    def name(self) -> str:
        """Return its name for people."""
        return self.package.name if self.package else f"({self.segment})"


class KindSize(NamedTuple):
    """The sizes of the files of a kind: bytes and number."""

    kind: Kind
    size: int
    files: int


class Duplicate(NamedTuple):
    """Files with the same content.

    Attributes:
        sha256: Digest of the content.
        size: Bytes of one of them.
        paths: The sorted paths of all of them, two or more.
    """

    sha256: str
    size: int
    paths: tuple[str, ...]

    @property
    def extra(self) -> int:
        """Return the bytes of all but one of them."""
        return self.size * (len(self.paths) - 1)


class PruneSize(NamedTuple):
    """What a prune profile of the spec would leave out of the environment.

    Attributes:
        profile: Its name, or EVERY_PROFILE.
        size: Bytes of files.
        files: The number of files.
        stored: The same compressed, estimated: each file is taken to compress as its package does as a whole.
    """

    profile: str
    size: int
    files: int
    stored: int


@dataclass(frozen=True)
class Sizes:
    """The sizes of an environment; bytes of files are those before compression.

    Attributes:
        name: Path or URL of the bundle or deployment.
        manifest: Its manifest.
        table: Its paths table.
        parts: Packages, the largest first.
        kinds: Kinds of file, the largest first; those without a file left out.
        duplicates: Groups of files with the same content, that with the most extra bytes first.
        pruned: What each prune profile would leave out, and all of them together.
        gpu_code: GPU code by target.
    """

    name: str
    manifest: Manifest
    table: PathsTable
    parts: tuple[PartSize, ...]
    kinds: tuple[KindSize, ...]
    duplicates: tuple[Duplicate, ...]
    pruned: tuple[PruneSize, ...]
    gpu_code: GpuCodeSizes

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(part.size for part in self.parts)

    @property
    def files(self) -> int:
        """Return the number of all files."""
        return sum(part.files for part in self.parts)

    @property
    def stored(self) -> int:
        """Return the compressed bytes of all segments."""
        return stored_size(self.manifest)

    def as_dict(self) -> dict[str, Any]:
        """Return the ``result`` of ``envpack.size/1``."""
        manifest, duplicates = self.manifest, self.duplicates
        return {
            "path": self.name,
            "name": manifest.name,
            "version": manifest.version,
            "subdir": manifest.subdir,
            "stored": self.stored,
            "size": self.size,
            "files": self.files,
            "packages": [_part(part) for part in self.parts],
            "kinds": [
                {"kind": each.kind.name, "title": each.kind.title, "size": each.size, "files": each.files}
                for each in self.kinds
            ],
            "gpu_code": self.gpu_code.as_dict(),
            "duplicates": {
                "groups": len(duplicates),
                "files": sum(len(each.paths) - 1 for each in duplicates),
                "extra": sum(each.extra for each in duplicates),
                "largest": [
                    {
                        "sha256": each.sha256,
                        "size": each.size,
                        "count": len(each.paths),
                        "paths": list(each.paths[:MOST_PATHS]),
                    }
                    for each in duplicates[:MOST_DUPLICATES]
                ],
            },
            "prune": [each._asdict() for each in self.pruned],
        }


def _part(part: PartSize) -> dict[str, Any]:
    package = part.package
    return {
        "segment": part.segment,
        "kind": package.kind if package else None,
        "name": package.name if package else None,
        "version": package.version if package else None,
        "stored": part.stored,
        "size": part.size,
        "files": part.files,
    }


def measure(contents: Contents, gpu_code: GpuCodeSizes) -> Sizes:
    """Return the sizes of an environment.

    Hard links count nothing: they are further names of a file.

    Raises:
        FormatError: There is no paths table.
    """
    manifest, table = contents.manifest, contents.table
    if table is None:
        raise FormatError(
            f"{contents.name} lists no files",
            hint="Give the bundle. 'envpack inspect' shows the sizes of packages.",
        )
    return Sizes(
        contents.name,
        manifest,
        table,
        tuple(sorted(_parts(manifest, table), key=lambda part: (-part.stored, part.name))),
        tuple(sorted(_kinds(table), key=lambda each: -each.size)),
        tuple(sorted(_duplicates(table), key=lambda each: (-each.extra, each.paths))),
        tuple(_pruned(manifest, table)),
        gpu_code,
    )


def _files(records: Iterable[PathRecord]) -> Iterator[PathRecord]:
    return (record for record in records if record.type == "file")


def _parts(manifest: Manifest, table: PathsTable) -> Iterator[PartSize]:
    packages = {package.segment: package for package in manifest.packages}
    stored = {segment.id: segment.stored for segment in manifest.segments}
    for id, records in table.segments.items():
        sizes = [record.size for record in _files(records)]
        yield PartSize(id, packages.get(id), stored.get(id, 0), sum(sizes), len(sizes))


def _kinds(table: PathsTable) -> Iterator[KindSize]:
    sizes, counts = Counter[str](), Counter[str]()
    for record in _files(table):
        name = kind_of(record.path).name
        sizes[name] += record.size
        counts[name] += 1
    return (KindSize(kind, sizes[kind.name], counts[kind.name]) for kind in kinds() if counts[kind.name])


def _duplicates(table: PathsTable) -> Iterator[Duplicate]:
    found: dict[tuple[str, int], list[str]] = {}
    for record in _files(table):
        if record.size:
            found.setdefault((record.sha256, record.size), []).append(record.path)
    for (digest, size), paths in found.items():
        if len(paths) > 1:
            yield Duplicate(digest, size, tuple(sorted(paths)))


def _pruned(manifest: Manifest, table: PathsTable) -> Iterator[PruneSize]:
    names = profiles()
    paths = [record.path for record in table if record.type != "directory"]
    ratios = {segment.id: segment.stored / segment.size for segment in manifest.segments if segment.size}
    for name in (*names, EVERY_PROFILE):
        selection = Selection(prune=names if name == EVERY_PROFILE else [name])
        selection.keep_for_compilers_among(paths)
        yield _prune_size(name, selection, table, ratios)


def _prune_size(profile: str, selection: Selection, table: PathsTable, ratios: Mapping[str, float]) -> PruneSize:
    size = files = 0
    stored = 0.0
    for id, records in table.segments.items():
        if is_own(id):
            continue
        linked = {
            record.target for record in records if record.type == "hardlink" and not selection.reason(record.path)
        }
        gone = [
            record.size
            for record in _files(records)
            if selection.reason(record.path) and record.path not in linked
        ]
        size += sum(gone)
        files += len(gone)
        stored += sum(gone) * ratios.get(id, 0.0)
    return PruneSize(profile, size, files, round(stored))
