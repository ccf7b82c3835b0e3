"""The bill of materials in CycloneDX's format, checked with the schemas that the project publishes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from envpack.contents.cyclonedx import VERSIONS, cyclonedx
from envpack.contents.described import purl
from envpack.contents.inventory import Distribution, Installed
from envpack.runtime.format.manifest import Package
from support.bundle_factory import draft

NUMPY = Package(
    "conda",
    "numpy",
    "2.1.0",
    build="py311h71ddf71_0",
    subdir="linux-64",
    channel="https://conda.anaconda.org/conda-forge",
    url="https://conda.anaconda.org/conda-forge/linux-64/numpy-2.1.0-py311h71ddf71_0.conda",
    sha256="ab" * 32,
    license="BSD-3-Clause",
    size=30_000_000,
    segment="conda:numpy-2.1.0-py311h71ddf71_0",
)
SIX = Package("pypi", "six", "1.16.0", license="MIT License", segment="pypi:six-1.16.0")
COMMIT = Package(
    "pypi", "My_App", "1.0+cu124", url="https://example.org/app.git", commit="c" * 40, segment="pypi:app"
)


def installed(package: Package, *requires: str, depends: tuple[str, ...] = (), **fields: Any) -> Installed:
    inside = fields.pop("distributions", (Distribution(package, frozenset(requires)),))
    return Installed(package, frozenset(depends), inside, **fields)


def document(*packages: Installed, version: str = "1.6") -> dict[str, Any]:
    data = cyclonedx(draft(subdir="linux-64"), "d" * 64, packages, version)
    problem = JsonStrictValidator(SchemaVersion.from_version(version)).validate_str(data.decode())
    assert problem is None, problem
    found: dict[str, Any] = json.loads(data)
    return found


def edges(found: dict[str, Any]) -> dict[str, list[str]]:
    return {edge["ref"]: edge.get("dependsOn", []) for edge in found["dependencies"]}


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        (
            NUMPY,
            "pkg:conda/numpy@2.1.0?build=py311h71ddf71_0&channel=conda-forge&subdir=linux-64&type=conda",
        ),
        (
            Package(
                "conda", "_libgcc_mutex", "0.1", build="main", url="file:///c/linux-64/_libgcc_mutex-0.1.tar.bz2"
            ),
            "pkg:conda/_libgcc_mutex@0.1?build=main&type=tar.bz2",
        ),
        *(
            (
                Package("conda", "x", "1", build="0", subdir="linux-64", channel=channel),
                f"pkg:conda/x@1?build=0{f'&channel={name}' if name else ''}&subdir=linux-64",
            )
            for channel, name in {
                "https://conda.anaconda.org/conda-forge/linux-64": "conda-forge",
                "https://conda.anaconda.org/pytorch/label/nightly/linux-64/": "pytorch/label/nightly",
                "https://conda.anaconda.org/bioconda/label/main": "bioconda",
                "https://repo.anaconda.com/pkgs/main": "main",
                "conda-forge": "conda-forge",
                "": "",
            }.items()
        ),
        (SIX, "pkg:pypi/six@1.16.0"),
        (
            COMMIT,
            f"pkg:pypi/my-app@1.0%2Bcu124?vcs_url=git%2Bhttps://example.org/app.git%40{'c' * 40}",
        ),
        (Package("pypi", "a/b?c", "1 0"), "pkg:pypi/a%2Fb%3Fc@1%200"),
    ],
)
def test_package_urls(package: Package, expected: str) -> None:
    assert purl(package) == expected
    read = PackageURL.from_string(expected)
    assert (read.type, read.version) == (package.kind, package.version)


@pytest.mark.parametrize("version", VERSIONS)
def test_both_versions_of_the_specification(version: str) -> None:
    found = document(installed(NUMPY), installed(SIX), installed(COMMIT, "six"), version=version)
    assert found["specVersion"] == version
    numpy, six, app = found["components"]
    assert numpy["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert numpy["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert six["licenses"] == [{"license": {"name": "MIT License"}}]
    assert app["externalReferences"] == [{"type": "vcs", "url": "https://example.org/app.git"}]


def test_the_same_environment_gives_the_same_bytes() -> None:
    one, other = (cyclonedx(draft(), digest * 64, [installed(NUMPY)]) for digest in "ab")
    assert one == cyclonedx(draft(), "a" * 64, [installed(NUMPY)])
    assert json.loads(one)["serialNumber"] != json.loads(other)["serialNumber"]


def test_a_conda_package_contains_its_distributions() -> None:
    opencv = replace(NUMPY, name="py-opencv", segment="conda:py-opencv")
    inside = Distribution(Package("pypi", "opencv_python", "4.9.0", license="Apache-2.0"), frozenset({"numpy"}))
    found = document(
        installed(NUMPY, distributions=(Distribution(Package("pypi", "numpy", "2.1.0")),)),
        installed(opencv, distributions=(inside,), depends=("numpy", "not-there")),
    )
    part = found["components"][1]["components"][0]
    assert (part["purl"], part["licenses"]) == ("pkg:pypi/opencv-python@4.9.0", [{"expression": "Apache-2.0"}])
    assert edges(found)["conda:py-opencv"] == [NUMPY.segment]


def test_libraries_in_a_wheel_are_below_it() -> None:
    """With references of our own: those of other documents may be the same in each."""
    other = {
        "bomFormat": "CycloneDX",
        "components": [
            {
                "type": "library",
                "bom-ref": "x",
                "name": "libfoo",
                "purl": "pkg:rpm/libfoo",
                "components": [{"type": "library", "bom-ref": "x", "name": "inner"}],
            },
            {"type": "library"},
            "no component",
        ],
    }
    found = document(
        installed(SIX, distributions=(Distribution(SIX, frozenset(), (other, {"components": 1})),)),
        installed(NUMPY, distributions=(Distribution(Package("pypi", "numpy", "2.1.0"), frozenset(), (other,)),)),
    )
    assert [part["name"] for part in found["components"][0]["components"]] == ["libfoo", "inner"]
    assert [part["name"] for part in found["components"][1]["components"][0]["components"]] == ["libfoo", "inner"]
    references = [part["bom-ref"] for part in parts(found["components"])]
    assert len(references) == len(set(references)) == 7


def test_what_is_not_valid_in_a_document_of_a_wheel_is_left_out() -> None:
    good = {"alg": "SHA-256", "content": "ab" * 32}
    components = [
        {"type": "library", "name": "a", "version": 1, "purl": [], "licenses": {}, "hashes": "x"},
        {
            "type": "quantum",
            "name": "b",
            "hashes": [good, {"alg": "Streebog-256", "content": "ab" * 32}, {"alg": []}],
        },
        {"type": "library", "name": "c", "licenses": [{"license": {"id": "MIT"}}]},
        {
            "type": "library",
            "name": "d",
            "licenses": [{"license": {"id": "MIT"}}, {"license": {"name": "own"}}, 1],
        },
        {"type": "library", "name": "e", "licenses": [{"expression": "MIT or nothing"}], "group": 1},
    ]
    other = {"bomFormat": "CycloneDX", "components": components}
    found = document(installed(SIX, distributions=(Distribution(SIX, frozenset(), (other,)),)))
    inside = found["components"][0]["components"]
    assert [{key: value for key, value in each.items() if key != "bom-ref"} for each in inside] == [
        {"type": "library", "name": "a"},
        {"type": "library", "name": "b", "hashes": [good]},
        {"type": "library", "name": "c", "licenses": [{"expression": "MIT"}]},
        {"type": "library", "name": "d", "licenses": [{"license": {"name": "MIT"}}, {"license": {"name": "own"}}]},
        {"type": "library", "name": "e", "licenses": [{"license": {"name": "MIT or nothing"}}]},
    ]


def parts(components: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for component in components:
        yield component
        yield from parts(component.get("components", []))


def test_the_environment_depends_on_what_nothing_else_needs() -> None:
    def package(name: str, *requires: str) -> Installed:
        return installed(Package("pypi", name, "1", segment=name), *requires)

    found = edges(
        document(package("app", "lib"), package("lib"), package("ring", "other"), package("other", "ring"))
    )
    assert found["envpack:synthetic@1.0"] == ["app", "other"]
    assert (found["app"], found["lib"], found["ring"]) == (["lib"], [], ["other"])


def test_modified_files_are_properties() -> None:
    found = document(installed(NUMPY, modified=("lib/numpy.py",)))["components"][0]
    assert {"name": "envpack:modified", "value": "lib/numpy.py"} in found["properties"]


def test_hostile_values() -> None:
    """A bundle may state anything that its format allows."""
    odd = Package("conda", "\udcff\u202e", "\n", url="javascript:1", license="(", channel="/", segment="\udcff")
    data = cyclonedx(draft(created=10**15, name=""), "d" * 64, [installed(odd)])
    assert "timestamp" not in json.loads(data)["metadata"]
