"""The bill of materials in SPDX's format, checked by the library of the SPDX project."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from envpack.contents.described import Locked
from envpack.contents.inventory import Distribution, Installed
from envpack.contents.spdx import spdx
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
    segment="conda:numpy-2.1.0-py311h71ddf71_0",
)
SIX = Package("pypi", "six", "1.16.0", license="MIT License", segment="pypi:six-1.16.0")
APP = Package(
    "pypi", "My_App", "1.0", url="https://example.org/app.git#subdirectory=py", commit="c" * 40, segment="pypi:app"
)


def installed(package: Package, *requires: str, depends: tuple[str, ...] = (), **fields: Any) -> Installed:
    inside = fields.pop("distributions", (Distribution(package, frozenset(requires)),))
    return Installed(package, frozenset(depends), inside, **fields)


@pytest.fixture
def document(tmp_path: Path) -> Any:
    def make(*packages: Installed) -> dict[str, Any]:
        path = tmp_path / "demo.spdx.json"
        path.write_bytes(spdx(draft(subdir="linux-64"), "d" * 64, packages))
        assert validate_full_spdx_document(parse_file(str(path)), "SPDX-2.3") == []
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found

    return make


def related(found: dict[str, Any], how: str) -> set[tuple[str, str]]:
    names = {package["SPDXID"]: package["name"] for package in found["packages"]}
    return {
        (names.get(edge["spdxElementId"], "document"), names[edge["relatedSpdxElement"]])
        for edge in found["relationships"]
        if edge["relationshipType"] == how
    }


def test_packages_with_their_checksums_licenses_and_package_urls(document: Any) -> None:
    found = document(installed(NUMPY), installed(SIX), installed(APP, "six"))
    root, numpy, _, six, app = found["packages"]
    assert (root["name"], root["primaryPackagePurpose"]) == ("synthetic", "APPLICATION")
    assert numpy["SPDXID"] == "SPDXRef-conda-numpy-2.1.0-py311h71ddf71-0"
    assert numpy["checksums"] == [{"algorithm": "SHA256", "checksumValue": "ab" * 32}]
    assert (numpy["licenseDeclared"], numpy["downloadLocation"]) == ("BSD-3-Clause", NUMPY.url)
    (reference,) = numpy["externalRefs"]
    assert reference["referenceLocator"].startswith("pkg:conda/numpy@2.1.0?build=")
    assert (six["licenseDeclared"], app["licenseDeclared"]) == ("LicenseRef-MIT-License", "NOASSERTION")
    assert found["hasExtractedLicensingInfos"] == [
        {"licenseId": "LicenseRef-MIT-License", "extractedText": "MIT License"}
    ]
    assert app["downloadLocation"] == f"git+https://example.org/app.git@{'c' * 40}#py"


def test_relationships(document: Any) -> None:
    opencv = replace(NUMPY, name="py-opencv", segment="conda:py-opencv")
    inside = Distribution(Package("pypi", "opencv_python", "4.9.0", license="Apache-2.0"), frozenset({"numpy"}))
    found = document(
        installed(NUMPY, distributions=(Distribution(Package("pypi", "numpy", "2.1.0")),)),
        installed(opencv, distributions=(inside,)),
        installed(SIX),
    )
    assert related(found, "DESCRIBES") == {("document", "synthetic")}
    assert related(found, "DEPENDS_ON") == {
        ("py-opencv", "numpy"),
        ("synthetic", "py-opencv"),
        ("synthetic", "six"),
    }
    assert related(found, "CONTAINS") == {
        ("synthetic", "numpy"),
        ("numpy", "numpy"),
        ("synthetic", "py-opencv"),
        ("py-opencv", "opencv_python"),
        ("synthetic", "six"),
    }


def test_libraries_in_a_wheel_are_in_its_package(document: Any) -> None:
    library = {
        "type": "library",
        "name": "libfoo",
        "version": "7",
        "purl": "pkg:rpm/libfoo@7",
        "cpe": "cpe:2.3:a:foo:foo:7:*:*:*:*:*:*:*",
        "hashes": [{"alg": "SHA-1", "content": "0" * 40}, {"alg": "odd", "content": "1"}, 1],
        "licenses": [{"expression": "MIT"}],
        "components": [{"type": "library", "name": "inner", "purl": ["no text"], "version": 1, "licenses": {}}],
    }
    found = document(installed(SIX, distributions=(Distribution(SIX, frozenset(), ({"components": [library]},)),)))
    assert related(found, "CONTAINS") == {("synthetic", "six"), ("six", "libfoo"), ("six", "inner")}
    foo, inner = found["packages"][2:]
    assert foo["checksums"] == [{"algorithm": "SHA1", "checksumValue": "0" * 40}]
    assert [one["referenceType"] for one in foo["externalRefs"]] == ["purl", "cpe23Type"]
    assert (foo["licenseDeclared"], inner["licenseDeclared"]) == ("MIT", "NOASSERTION")
    assert "externalRefs" not in inner and "versionInfo" not in inner


def test_ids_are_never_used_twice(document: Any) -> None:
    twins = [replace(SIX, segment=segment, license=segment) for segment in ("a_b", "a-b", "a b", "???")]
    found = document(*map(installed, twins))
    ids = [package["SPDXID"] for package in found["packages"]]
    assert ids[1:] == ["SPDXRef-a-b", "SPDXRef-a-b-2", "SPDXRef-a-b-3", "SPDXRef-unnamed"]
    texts = [info["extractedText"] for info in found["hasExtractedLicensingInfos"]]
    assert texts == [twin.segment for twin in twins]


def test_the_same_license_has_one_reference_and_own_ones_are_declared(document: Any) -> None:
    own = replace(NUMPY, license="LicenseRef-Own AND MIT")
    found = document(installed(SIX), installed(replace(SIX, segment="other")), installed(own))
    ids = [info["licenseId"] for info in found["hasExtractedLicensingInfos"]]
    assert ids == ["LicenseRef-MIT-License", "LicenseRef-Own"]


def test_modified_files_are_a_comment(document: Any) -> None:
    found = document(installed(NUMPY, modified=("lib/numpy.py",), distributions=()))
    assert found["packages"][1]["comment"].endswith(": lib/numpy.py")


def test_the_same_environment_gives_the_same_bytes() -> None:
    one, other = (spdx(draft(), digest * 64, [installed(NUMPY)]) for digest in "ab")
    assert one == spdx(draft(), "a" * 64, [installed(NUMPY)])
    assert json.loads(one)["documentNamespace"] != json.loads(other)["documentNamespace"]


def test_a_lock_says_what_it_does_not_state() -> None:
    documents = [
        json.loads(spdx(Locked("demo", "1.0", subdir, 0), "d" * 64, [installed(SIX)]))
        for subdir in ("linux-64", "linux-aarch64")
    ]
    assert "the files of packages" in documents[0]["comment"]
    assert documents[0]["creationInfo"]["created"] == "1970-01-01T00:00:00Z"
    assert documents[0]["documentNamespace"] != documents[1]["documentNamespace"]


def test_values_that_a_hostile_bundle_states(document: Any) -> None:
    odd = Package("conda", "\u202e", "\n", url="javascript:1", license="(", channel="/", segment="\u202e")
    found = document(installed(replace(odd, sha256="x")), installed(replace(odd, url="https://x/ y", segment="s")))
    assert {package["downloadLocation"] for package in found["packages"]} == {"NOASSERTION"}
    data = spdx(draft(created=10**15), "d" * 64, [installed(replace(odd, name="\udcff", segment="\udcff"))])
    assert json.loads(data)["creationInfo"]["created"] == "1970-01-01T00:00:00Z"
