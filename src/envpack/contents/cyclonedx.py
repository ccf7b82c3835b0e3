"""The software bill of materials of an environment in CycloneDX's JSON format.

Sources: the CycloneDX 1.6 specification (ECMA-424), the package-url types "conda" and "pypi", and the properties
that conda-sboms writes. Equal environments give equal bytes: no time of day, no random number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from envpack.contents.described import (
    NOT_STATED,
    Locked,
    document_urn,
    embedded,
    license_expression,
    purl,
    timestamp,
)
from envpack.contents.graph import dependencies, roots
from envpack.contents.inventory import Distribution, Installed
from envpack.runtime.format.manifest import Manifest, Package
from envpack.runtime.version import __version__

VERSIONS = ("1.6", "1.7")
"""Versions of the specification; what is written means the same in both."""


def cyclonedx(
    manifest: Manifest | Locked, sha256: str, installed: Sequence[Installed], version: str = VERSIONS[0]
) -> bytes:
    """Return the bill of materials of an environment, as JSON that ends with a line break.

    Args:
        manifest: The manifest of the environment, or what its lock says.
        sha256: The digest of the manifest or of the lock, in hexadecimal.
        installed: The packages of the environment.
        version: One of `VERSIONS`.
    """
    locked = isinstance(manifest, Locked)
    lifecycle = {"lifecycles": [{"phase": "pre-build"}]} if locked else {}
    created = timestamp(manifest.created)
    root = f"envpack:{manifest.name}@{manifest.version}"
    components = [_component(package) for package in installed]
    document = {
        "$schema": f"http://cyclonedx.org/schema/bom-{version}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": version,
        "serialNumber": document_urn(manifest, sha256),
        "version": 1,
        "metadata": {
            **({"timestamp": created} if created else {}),
            **lifecycle,
            "tools": {"components": [{"type": "application", "name": "envpack", "version": __version__}]},
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": manifest.name,
                "version": manifest.version,
                "properties": _properties(
                    {
                        f"envpack:{'lock' if locked else 'manifest'}_sha256": sha256,
                        "envpack:subdir": manifest.subdir,
                        "envpack:not_stated": NOT_STATED if locked else "",
                    }
                ),
            },
            "properties": _properties({"cdx:reproducible": "true"}),
        },
        "components": components,
        "dependencies": list(_dependencies(root, installed, locked=locked)),
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _component(installed: Installed) -> dict[str, Any]:
    """Return the component of a package. Distributions in a conda package are components inside it."""
    package = installed.package
    properties = {"envpack:segment": package.segment, "envpack:size": str(package.size) if package.size else ""}
    inside: list[dict[str, Any]] = []
    if package.kind == "conda":
        for key in ("build", "subdir", "channel"):
            properties[f"conda:package:{key}"] = getattr(package, key)
        for distribution in installed.distributions:
            found = _described(distribution.package, f"{package.segment}#{purl(distribution.package)}")
            inside.append({**found, **_embedded(distribution, found["bom-ref"])})
    modified = [{"name": "envpack:modified", "value": path} for path in installed.modified]
    component = _described(package, package.segment)
    component["properties"] = [*_properties(properties), *modified]
    if package.kind != "conda":
        for distribution in installed.distributions:
            inside += _embedded(distribution, component["bom-ref"]).get("components", [])
    if inside:
        component["components"] = inside
    return component


def _described(package: Package, reference: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": reference,
        "name": package.name,
        "version": package.version,
    }
    if package.sha256:
        found["hashes"] = [{"alg": "SHA-256", "content": package.sha256}]
    if package.license:
        found["licenses"] = [_license(package.license)]
    found["purl"] = purl(package)
    if package.url:
        kind = "vcs" if package.commit else "distribution"
        found["externalReferences"] = [{"type": kind, "url": package.url}]
    return found


def _license(text: str) -> dict[str, Any]:
    """Return a license as an SPDX expression where it is one, else by the name that its package gives it."""
    expression = license_expression(text)
    return {"expression": expression} if expression else {"license": {"name": text}}


def _embedded(distribution: Distribution, reference: str) -> dict[str, Any]:
    """Return the components that a wheel's own documents list (PEP 770), with references of this document."""
    found = [
        {"bom-ref": f"{reference}#{number}", **component}
        for number, component in enumerate(embedded(distribution.documents))
    ]
    return {"components": found} if found else {}


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items() if value]


def _dependencies(root: str, installed: Sequence[Installed], *, locked: bool) -> Iterator[dict[str, Any]]:
    """Yield the edges. A component without any depends on nothing; one that is not listed, on nothing known."""
    edges = dependencies(installed)
    not_known = {one.package.segment for one in installed if locked and one.package.kind == "pypi"}
    yield {"ref": root, "dependsOn": roots(edges)}
    for segment, targets in edges.items():
        if segment not in not_known:
            yield {"ref": segment, **({"dependsOn": targets} if targets else {})}
