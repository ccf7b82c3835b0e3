"""The software bill of materials of an environment in CycloneDX's JSON format.

Sources: the CycloneDX 1.6 specification (ECMA-424), the package-url types "conda" and "pypi", and the properties
that conda-sboms writes. Equal environments give equal bytes: no time of day, no random number.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import canonicalize_name

from envpack.contents.inventory import Distribution, Installed
from envpack.runtime.format.manifest import Manifest, Package
from envpack.runtime.version import __version__

VERSIONS = ("1.6", "1.7")
"""Versions of the specification; what is written means the same in both."""

_KEPT = ("type", "group", "name", "version", "purl", "cpe", "hashes", "licenses")
"""Members kept of a component of another document; its other ones may refer to parts of that document."""


def cyclonedx(
    manifest: Manifest, manifest_sha256: str, installed: Sequence[Installed], version: str = VERSIONS[0]
) -> bytes:
    """Return the bill of materials of an environment, as JSON that ends with a line break.

    Args:
        manifest: The manifest of the environment.
        manifest_sha256: Its digest, in hexadecimal.
        installed: The packages of the environment.
        version: One of `VERSIONS`.
    """
    name = f"urn:envpack:{manifest_sha256}"
    root = f"envpack:{manifest.name}@{manifest.version}"
    components = [_component(package) for package in installed]
    document = {
        "$schema": f"http://cyclonedx.org/schema/bom-{version}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": version,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}",
        "version": 1,
        "metadata": {
            **_timestamp(manifest.created),
            "tools": {"components": [{"type": "application", "name": "envpack", "version": __version__}]},
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": manifest.name,
                "version": manifest.version,
                "properties": _properties(
                    {"envpack:manifest_sha256": manifest_sha256, "envpack:subdir": manifest.subdir}
                ),
            },
            "properties": _properties({"cdx:reproducible": "true"}),
        },
        "components": components,
        "dependencies": list(_dependencies(root, installed)),
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _timestamp(seconds: int) -> dict[str, str]:
    try:
        return {"timestamp": datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")}
    except (OverflowError, ValueError, OSError):  # a manifest may state any number
        return {}


def purl(package: Package) -> str:
    """Return the package-url of a package (purl-spec, types conda and pypi)."""
    if package.kind == "conda":
        archive = re.search(r"\.(conda|tar\.bz2)(?:$|[?#])", package.url)
        qualifiers = {
            "build": package.build,
            "channel": package.channel.rstrip("/").rpartition("/")[2],
            "subdir": package.subdir,
            "type": archive[1] if archive else "",
        }
        name = package.name.lower()
    else:
        repository = f"git+{package.url}@{package.commit}" if package.commit and package.url else ""
        qualifiers = {"vcs_url": repository}
        name = canonicalize_name(package.name)
    stated = "&".join(f"{key}={_quoted(value, '/')}" for key, value in qualifiers.items() if value)
    found = f"pkg:{package.kind}/{_quoted(name)}@{_quoted(package.version)}"
    return f"{found}?{stated}" if stated else found


def _quoted(text: str, safe: str = "") -> str:
    return quote(text, safe=safe, errors="surrogatepass")  # a manifest may state any text


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
    try:
        return {"expression": str(canonicalize_license_expression(text))}
    except InvalidLicenseExpression:
        return {"license": {"name": text}}


def _embedded(distribution: Distribution, reference: str) -> dict[str, Any]:
    """Return the components that a wheel's own documents list (PEP 770), with references of this document."""
    found = [
        {"bom-ref": f"{reference}#{number}", **component}
        for number, component in enumerate(_flat(distribution.documents))
    ]
    return {"components": found} if found else {}


def _flat(documents: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the components of other documents, and those inside them; the wheel itself is in ours already."""
    todo = [component for document in documents for component in _list(document.get("components"))]
    while todo:
        component = todo.pop(0)
        kept = {key: component[key] for key in _KEPT if key in component}
        if isinstance(kept.get("type"), str) and isinstance(kept.get("name"), str):
            yield kept
        todo = [*_list(component.get("components")), *todo]


def _list(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items() if value]


def _dependencies(root: str, installed: Sequence[Installed]) -> Iterator[dict[str, Any]]:
    """Yield the edges of the graph: what conda's records and the metadata of distributions require."""
    conda = {one.package.name: one.package.segment for one in installed if one.package.kind == "conda"}
    pypi = {
        distribution.name: one.package.segment
        for one in sorted(installed, key=lambda one: one.package.kind == "pypi")
        for distribution in one.distributions
    }
    edges = {
        one.package.segment: {
            target
            for target in (
                *(conda.get(name, "") for name in one.depends),
                *(pypi.get(name, "") for distribution in one.distributions for name in distribution.requires),
            )
            if target and target != one.package.segment
        }
        for one in installed
    }
    yield {"ref": root, "dependsOn": sorted(_roots(edges))}
    for segment, targets in edges.items():
        yield {"ref": segment, **({"dependsOn": sorted(targets)} if targets else {})}


def _roots(edges: Mapping[str, Collection[str]]) -> set[str]:
    """Return packages from which all others are reached: those that nothing requires, and one of each circle."""
    needed = {target for targets in edges.values() for target in targets}
    roots = set(edges) - needed
    reached: set[str] = set()
    for start in (*sorted(roots), *sorted(edges)):
        if start in reached:
            continue
        roots.add(start)
        todo = [start]
        while todo:
            name = todo.pop()
            if name not in reached:
                reached.add(name)
                todo += edges[name]
    return roots
