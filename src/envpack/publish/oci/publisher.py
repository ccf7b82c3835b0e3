"""A repository of a registry as a place that the releases of one environment are published in.

A release is a tag, which is written last: a release is there as a whole or not at all. What an interrupted one has
uploaded is not uploaded again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from envpack.publish.base import Release, Upload
from envpack.publish.names import SUFFIXES, parse_bundle_name
from envpack.publish.oci.latest import point_index, read_pointer
from envpack.publish.oci.push import push_bundle, put_manifest
from envpack.publish.oci.settings import PushSettings
from envpack.publish.oci.upload import Uploader
from envpack.publish.release import CHECKSUM, checksum_line
from envpack.runtime.errors import DestinationError, FetchError, UsageError
from envpack.runtime.parallel.threads import pool as threads
from envpack.runtime.transport.documents import is_latest, read_latest
from envpack.runtime.transport.oci.auth import is_plain
from envpack.runtime.transport.oci.manifest import (
    BUNDLE,
    DOCUMENT_NAMES,
    DOCUMENTS,
    FILE,
    NAME,
    SHA256,
    Document,
)
from envpack.runtime.transport.oci.reference import LATEST, Reference, parse_reference, tag_for
from envpack.runtime.transport.oci.registry import Registry
from envpack.runtime.transport.oci.source import read_attached

_REQUESTS = 4
"""Manifests that are requested at a time."""
_ENDS = (CHECKSUM, *DOCUMENTS)


def open_repository(target: str, environ: Mapping[str, str], *, insecure: bool) -> OciRepository:
    """Return the publisher of ``oci://host/repository``, without a request.

    Args:
        target: The address.
        environ: Environment variables: credentials and settings.
        insecure: Speak to the registry by http.

    Raises:
        UsageError: The address has a tag or is not valid, or an environment variable is not valid.
    """
    reference = parse_reference(target)
    if reference.tag or reference.digest or reference.part:
        raise UsageError(
            f"{reference}: a tag is not a place to publish to",
            hint=f"Write {reference.place}: the tag is made from the name of the bundle.",
        )
    return OciRepository(reference, PushSettings.of(environ), environ, insecure=insecure)


class OciRepository:
    """A repository, as `envpack.publish.base.Publisher` says."""

    replaces = True

    def __init__(
        self, reference: Reference, settings: PushSettings, environ: Mapping[str, str], *, insecure: bool
    ) -> None:
        self._reference, self._settings = reference, settings
        self._environ, self._plain = environ, insecure or is_plain(reference, environ)

    def address(self, name: str) -> str:
        place = self._reference.place
        if is_latest(name):
            return f"{place}:{LATEST}"
        return f"{place}:{_tag(name)}" if name else place

    def files(self) -> Mapping[str, int]:
        with self._reading() as registry:
            bundles = _bundles(registry)
        found: dict[str, int] = {}
        for manifest in bundles:
            file, checksum = manifest.annotations[FILE], _checksum(manifest)
            found[file] = sum(layer.size for layer in manifest.layers)
            found[file + CHECKSUM] = len(checksum)
            for document in manifest.annotations.get(DOCUMENT_NAMES, "").split():
                found[document] = 0
        return found

    def read(self, name: str) -> bytes:
        with self._reading() as registry:
            if is_latest(name):
                return read_pointer(registry, name)
            manifest = _bundle_with(registry, _tag(name))
            if manifest is not None and name == manifest.annotations[FILE] + CHECKSUM:
                return _checksum(manifest)
            if manifest is not None and name in manifest.annotations.get(DOCUMENT_NAMES, "").split():
                end = next((end for end in DOCUMENTS if name.endswith(end)), "")
                data = read_attached(registry, manifest, end)
                if data is not None:
                    return data
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    @contextmanager
    def reserve(self, claim: Upload, names: Sequence[str], *, resume: bool = False) -> Iterator[Release]:
        """Check that the tag is free: a registry can't reserve one. `_Release.commit` looks again."""
        file = claim.name.removesuffix(CHECKSUM)
        with self._writing() as registry:
            parsed = parse_bundle_name(file)
            if parsed is not None:
                _check_environment(registry, parsed.name)
            if registry.manifest(_tag(file)) is not None:
                raise _exists(self.address(file))
            uploader = Uploader(registry, self._settings.sources, self._settings.chunk)
            yield _OciRelease(registry, uploader, self.address(file))

    def replace(self, file: Upload) -> None:
        """Make the tag ``latest`` lead to a release, for its platform: the file is the pointer to it."""
        if not is_latest(file.name):
            raise DestinationError(f"{file.name}: a registry has no place for such a file")
        pointer = read_latest(b"".join(file.chunks()), file.name)
        tag = pointer.bundle.partition(":")[2]
        with self._writing() as registry:
            manifest = _bundle_with(registry, tag)
            if manifest is None:
                raise DestinationError(f"{self._reference.place}:{tag} is no longer in the registry")
            point_index(registry, manifest, pointer)

    @contextmanager
    def _reading(self) -> Iterator[Registry]:
        with self._registry(("pull",), ()) as registry:
            yield registry

    @contextmanager
    def _writing(self) -> Iterator[Registry]:
        with self._registry(("pull", "push"), self._settings.sources) as registry:
            yield registry

    @contextmanager
    def _registry(self, actions: Sequence[str], sources: Sequence[str]) -> Iterator[Registry]:
        registry = Registry(self._reference, self._environ, plain=self._plain, actions=actions, sources=sources)
        try:
            yield registry
        except FetchError as problem:
            raise DestinationError(problem.message, hint=problem.hint, details=problem.details) from None
        finally:
            registry.close()


class _OciRelease:
    def __init__(self, registry: Registry, uploader: Uploader, address: str) -> None:
        self._registry, self._uploader, self._address = registry, uploader, address
        self._documents: list[Upload] = []

    def put(self, file: Upload) -> None:
        """Keep a document until the manifest is known that it refers to."""
        self._documents.append(file)

    def commit(self, bundle: Upload) -> None:
        """Upload the release, then write its tag.

        Raises:
            FileExistsError: Another release has got the tag meanwhile.
        """
        registry, tag = self._registry, _tag(bundle.name)
        manifest = push_bundle(registry, self._uploader, bundle, self._documents)
        _check_environment(registry, manifest.annotations[NAME])
        if registry.manifest(tag) is not None:
            raise _exists(self._address)
        stored = registry.manifest(manifest.digest)
        if stored is None:
            raise DestinationError(f"{self._address}: the registry has lost the manifest")
        put_manifest(registry, stored[1], tag)
        now = registry.manifest(tag)
        if now is None or now[0].digest != manifest.digest:
            raise _exists(self._address)


def _tag(name: str) -> str:
    """Return the tag of a bundle, of its checksum, or of a document: its name without the environment's."""
    stem = name
    for end in _ENDS:
        stem = stem.removesuffix(end)
    for suffix in SUFFIXES.values():
        stem = stem.removesuffix(suffix)
    parsed = parse_bundle_name(stem + SUFFIXES["gz"])
    return tag_for(stem.removeprefix(f"{parsed.name}-") if parsed is not None else stem)


def _bundle_with(registry: Registry, tag: str) -> Document | None:
    """Return the manifest with a tag, if it is a bundle's."""
    found = registry.manifest(tag)
    if found is None or found[0].artifact != BUNDLE or not found[0].annotations.get(FILE):
        return None
    return found[0]


def _bundles(registry: Registry) -> list[Document]:
    tags = [tag for tag in registry.tags() if tag != LATEST and not tag.startswith("sha256-")]
    with threads(_REQUESTS, "list") as pool:
        return [found for found in pool.map(lambda tag: _bundle_with(registry, tag), tags) if found is not None]


def _checksum(manifest: Document) -> bytes:
    return checksum_line(manifest.annotations.get(SHA256, ""), manifest.annotations[FILE]).encode()


def _check_environment(registry: Registry, name: str) -> None:
    """Check that the repository is empty, or has releases of this environment."""
    latest = registry.manifest(LATEST)
    there = latest[0].annotations.get(NAME, "") if latest is not None else ""
    if not there:
        there = next((found.annotations.get(NAME, "") for found in _bundles(registry)), name)
    if there != name:
        raise DestinationError(
            f"{registry.reference.place} has the releases of {there}, not of {name}",
            hint="A repository has one environment: publish this one to another repository.",
        )


def _exists(address: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), address)
