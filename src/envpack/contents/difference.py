"""The difference of two environments, from their manifests and paths tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name

from envpack.runtime.format.manifest import Manifest, Package, PathRecord, PathsTable
from envpack.runtime.format.needs import DetectedNeeds, GpuCode
from envpack.runtime.format.services import mounts_to_json, services_to_json
from envpack.runtime.host.checks.gpu_code import shown


class Contents(NamedTuple):
    """What is known of an environment.

    Attributes:
        name: Its path or URL.
        manifest: Its manifest.
        table: Its paths table; None where only the manifest is at hand, as a release publishes it.
    """

    name: str
    manifest: Manifest
    table: PathsTable | None


class PackageChange(NamedTuple):
    """A package that is in one environment only, or in both and not the same.

    Attributes:
        before: The package before; None for one that was added.
        after: The package after; None for one that was removed.
        fields: What differs of a package that is in both: "version", "build", "sha256", "commit" or "files", the
            last one when the package is the same and files of it are not.
    """

    before: Package | None
    after: Package | None
    fields: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Return "added", "removed" or "changed"."""
        return "added" if self.before is None else "removed" if self.after is None else "changed"

    @property
    def package(self) -> Package:
        """Return the newer one of the two packages that exist."""
        package = self.after or self.before
        assert package is not None
        return package


class SettingChange(NamedTuple):
    """A value of a manifest that differs; None where there is no value.

    Attributes:
        section: "requires", "needs", "variables", "commands", "services", "mounts" or "test".
        name: The key in the section.
    """

    section: str
    name: str
    before: str | None
    after: str | None


class FileChanges(NamedTuple):
    """Sorted paths of the files and links that differ by content, type or permissions."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


class Upgrade(NamedTuple):
    """What an upgrade from one environment to the other reads of the bundle, besides its head.

    Attributes:
        segments: The number of segments.
        stored: Their compressed size in bytes.
    """

    segments: int
    stored: int


@dataclass(frozen=True)
class Difference:
    """The difference of two environments.

    Attributes:
        before: The first environment.
        after: The second one.
        packages: Packages that differ, by name.
        settings: Values of the manifests that differ, by section and name.
        files: Files that differ; None where a paths table is missing.
        upgrade: What an upgrade reads; None where a paths table is missing.
    """

    before: Contents
    after: Contents
    packages: tuple[PackageChange, ...]
    settings: tuple[SettingChange, ...]
    files: FileChanges | None
    upgrade: Upgrade | None

    def unexplained_files(self) -> FileChanges | None:
        """Return the files that differ, without those of packages with another version, build or archive."""
        if self.files is None:
            return None
        explained: set[str] = set()
        for contents, side in ((self.before, 0), (self.after, 1)):
            assert contents.table is not None
            for change in self.packages:
                package = change[side]
                if isinstance(package, Package) and change.fields != ("files",):
                    explained.update(record.path for record in contents.table.segments.get(package.segment, ()))
        return FileChanges(*(tuple(path for path in paths if path not in explained) for paths in self.files))

    def as_dict(self) -> dict[str, Any]:
        """Return the ``result`` of ``envpack.diff/1``."""
        return {
            "before": _environment(self.before),
            "after": _environment(self.after),
            "packages": [
                {
                    "change": change.kind,
                    "kind": change.package.kind,
                    "name": change.package.name,
                    "fields": list(change.fields),
                    "before": change.before and vars(change.before),
                    "after": change.after and vars(change.after),
                }
                for change in self.packages
            ],
            "settings": [change._asdict() for change in self.settings],
            "files": self.files and {name: list(paths) for name, paths in self.files._asdict().items()},
            "upgrade": self.upgrade and self.upgrade._asdict(),
        }


def _environment(contents: Contents) -> dict[str, Any]:
    manifest = contents.manifest
    return {
        "path": contents.name,
        "name": manifest.name,
        "version": manifest.version,
        "subdir": manifest.subdir,
        "created": manifest.created,
        "size": manifest.size,
        "files": manifest.files,
        "stored": stored_size(manifest),
        "packages": len(manifest.packages),
    }


def stored_size(manifest: Manifest) -> int:
    """Return the compressed bytes of all segments."""
    return sum(segment.stored for segment in manifest.segments)


def difference(before: Contents, after: Contents) -> Difference:
    """Return the difference of two environments.

    Args:
        before: The environment that is replaced.
        after: The environment that replaces it.
    """
    files = upgrade = None
    if before.table is not None and after.table is not None:
        files = _files(before.table, after.table)
        upgrade = _upgrade(before.table, after.table, after.manifest)
    return Difference(
        before,
        after,
        tuple(_packages(before, after)),
        tuple(_settings(before.manifest, after.manifest)),
        files,
        upgrade,
    )


def _packages(before: Contents, after: Contents) -> Iterator[PackageChange]:
    old, new = _by_name(before.manifest.packages), _by_name(after.manifest.packages)
    for key in sorted({*old, *new}):
        left, right = old.get(key, []), new.get(key, [])
        for one, other in zip(left, right, strict=False):
            fields = tuple(_fields(one, other, before.table, after.table))
            if fields:
                yield PackageChange(one, other, fields)
        for one in left[len(right) :]:
            yield PackageChange(one, None)
        for other in right[len(left) :]:
            yield PackageChange(None, other)


def _by_name(packages: Iterable[Package]) -> dict[tuple[str, str], list[Package]]:
    """Return the packages by name and kind. Two of a name are rare: a distribution that pip installed twice."""
    found: dict[tuple[str, str], list[Package]] = {}
    for package in packages:
        name = canonicalize_name(package.name) if package.kind == "pypi" else package.name
        found.setdefault((name, package.kind), []).append(package)
    return found


def _fields(one: Package, other: Package, old: PathsTable | None, new: PathsTable | None) -> Iterator[str]:
    """Yield what differs of a package. Where it came from does not count if it is the same archive."""
    differ = [name for name in ("version", "build") if getattr(one, name) != getattr(other, name)]
    yield from differ
    for name in ("sha256", "commit"):
        values = getattr(one, name), getattr(other, name)
        if not differ and all(values) and len(set(values)) == 2:
            differ.append(name)
            yield name
    if differ or old is None or new is None or not one.segment or not other.segment:
        return
    if _contents(old.segments.get(one.segment, ())) != _contents(new.segments.get(other.segment, ())):
        yield "files"


def _content(record: PathRecord) -> tuple[object, ...]:
    return record.type, record.mode, record.size, record.sha256, record.target


def _contents(records: Iterable[PathRecord]) -> dict[str, tuple[object, ...]]:
    return {record.path: _content(record) for record in records if record.type != "directory"}


def _files(before: PathsTable, after: PathsTable) -> FileChanges:
    old, new = _contents(before), _contents(after)
    return FileChanges(
        tuple(sorted(new.keys() - old.keys())),
        tuple(sorted(old.keys() - new.keys())),
        tuple(sorted(path for path in old.keys() & new.keys() if old[path] != new[path])),
    )


def _upgrade(before: PathsTable, after: PathsTable, manifest: Manifest) -> Upgrade:
    """Count the segments that a deployment does not have yet, as `PreviousDeployment` compares them."""
    missing = [
        segment
        for segment in manifest.segments
        if before.segments.get(segment.id, ()) != after.segments.get(segment.id, ())
    ]
    return Upgrade(len(missing), sum(segment.stored for segment in missing))


def _settings(before: Manifest, after: Manifest) -> Iterator[SettingChange]:
    old, new = _sections(before), _sections(after)
    for section in old:
        for name in sorted({*old[section], *new[section]}):
            values = old[section].get(name), new[section].get(name)
            if values[0] != values[1]:
                yield SettingChange(section, name, *values)


def _sections(manifest: Manifest) -> dict[str, Mapping[str, str]]:
    return {
        "requires": manifest.requires,
        "needs": _needs(manifest.needs),
        "variables": manifest.variables,
        "commands": manifest.commands,
        "services": {name: _json(value) for name, value in services_to_json(manifest.services).items()},
        "mounts": {path: _json(value) for path, value in mounts_to_json(manifest.mounts).items()},
        "test": {f"{number}": command for number, command in enumerate(manifest.test, 1)},
    }


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _needs(needs: DetectedNeeds) -> dict[str, str]:
    """Return what the files need of a host, without the evidence, which names other files after each upgrade."""
    single = {"CUDA": needs.cuda, "ROCm": needs.rocm, "glibc": needs.glibc, "CPU": needs.cpu}
    found = {name: evidence.value for name, evidence in single.items() if evidence is not None}
    main = [code for code in needs.gpu_code if code.main]
    code = GpuCode("", "", _union(code.sass for code in main), _union(code.ptx for code in main))
    lists = {
        "GPU code": shown(code),
        "compilers": ", ".join(sorted(compiler.value for compiler in needs.jit)),
        "libraries": ", ".join(sorted(library.value for library in needs.libraries if not library.inside)),
    }
    return {**found, **{name: text for name, text in lists.items() if text}}


def _union(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Return all targets once, in the order of their numbers: sm_90 before sm_100."""
    return tuple(
        sorted({target for targets in lists for target in targets}, key=lambda target: (len(target), target))
    )
