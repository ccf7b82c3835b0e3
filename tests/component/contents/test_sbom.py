"""``envpack sbom`` of a real environment, from its bundle, its deployment and its lock."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from envpack.cli.commands.schema import load
from support.forked import envpack
from support.tiny_wheels import write_wheel

LIBRARIES = '{"bomFormat": "CycloneDX", "components": [{"type": "library", "name": "libbar", "version": "7"}]}'


def parts(components: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for component in components:
        yield component
        yield from parts(component.get("components", []))


@pytest.fixture(scope="module")
def deployed(channel_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment of real packages of conda and of three wheels, beside its bundle ``demo.tar.zst``."""
    folder = tmp_path_factory.mktemp("sbom")
    write_wheel(
        folder, {"app.py": ""}, name="app", metadata="Requires-Dist: Bar_Baz[fast]\nLicense-Expression: MIT\n"
    )
    write_wheel(
        folder,
        {"bar.py": "", "Bar_Baz-1.0.dist-info/sboms/bar.cdx.json": LIBRARIES},
        name="Bar_Baz",
        metadata='Requires-Dist: quick; extra == "fast"\nRequires-Dist: no; extra == "slow"\n',
    )
    write_wheel(folder, {"quick.py": ""}, name="quick")
    spec = folder / "demo.yml"
    wheels = ", ".join(f"./{path.name}" for path in sorted(folder.glob("*.whl")))
    spec.write_text(f"name: demo\ndependencies: [python, pip, {{pip: [{wheels}]}}]\nenvpack: {{version: '1.0'}}\n")
    done = envpack("build", spec, "-c", channel_url, "-o", folder / "demo.tar.zst", "--work-dir", folder / "work")
    assert done.returncode == 0, done.stderr
    done = envpack("deploy", "--no-check", "--no-test", folder / "demo.tar.zst", folder / "deployed")
    assert done.returncode == 0, done.stderr
    return folder / "deployed"


def test_every_package_is_named(deployed: Path) -> None:
    done = envpack("sbom", deployed.parent / "demo.tar.zst")
    assert (done.returncode, done.stderr) == (0, "")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(done.stdout) is None
    found = list(parts(json.loads(done.stdout)["components"]))
    stated = {part["purl"].partition("?")[0] for part in found if "purl" in part}
    pip = subprocess.run([deployed / "bin/pip", "list", "--format", "json"], capture_output=True, check=True)
    listed = {(canonicalize_name(one["name"]), one["version"]) for one in json.loads(pip.stdout)}
    assert {"pip", "app", "bar-baz", "quick"} <= {name for name, _ in listed}
    assert {f"pkg:pypi/{name}@{version}" for name, version in listed} <= stated
    records = [json.loads(path.read_bytes()) for path in (deployed / "conda-meta").glob("*.json")]
    assert {f"pkg:conda/{record['name']}@{record['version']}" for record in records} <= stated
    assert "libbar" in {part["name"] for part in found}


def test_dependencies(deployed: Path) -> None:
    document = json.loads(envpack("sbom", deployed).stdout)
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in document["dependencies"]}
    assert edges["pypi:app-1.0"] == ["pypi:Bar_Baz-1.0"]
    assert edges["pypi:Bar_Baz-1.0"] == ["pypi:quick-1.0"]
    assert "pypi:app-1.0" in edges["envpack:demo@1.0"]
    assert "pypi:quick-1.0" not in edges["envpack:demo@1.0"]


def test_a_bundle_and_its_deployment_give_the_same_bytes(deployed: Path, tmp_path: Path) -> None:
    done = envpack("sbom", deployed, "-o", tmp_path / "demo.cdx.json")
    assert done.stdout == f"{tmp_path / 'demo.cdx.json'}\n"
    again = envpack("sbom", deployed.parent / "demo.tar.zst")
    assert (tmp_path / "demo.cdx.json").read_text() == again.stdout
    answer = json.loads(envpack("sbom", deployed, "--json").stdout)
    jsonschema.validate(answer, load("sbom"))
    assert answer["result"]["document"] == json.loads(again.stdout)


def test_the_newer_format(deployed: Path) -> None:
    document = envpack("sbom", deployed, "--format", "cyclonedx-1.7").stdout
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(document) is None


def test_spdx_names_the_same_packages(deployed: Path, tmp_path: Path) -> None:
    path = tmp_path / "demo.spdx.json"
    assert envpack("sbom", deployed, "--format", "spdx-2.3", "-o", path).returncode == 0
    assert validate_full_spdx_document(parse_file(str(path)), "SPDX-2.3") == []
    bundle = envpack("sbom", deployed.parent / "demo.tar.zst", "--format", "spdx-2.3", "--json")
    answer = json.loads(bundle.stdout)
    jsonschema.validate(answer, load("sbom"))
    found = json.loads(path.read_bytes())
    assert answer["result"]["document"] == found
    purls = {one["referenceLocator"] for package in found["packages"] for one in package.get("externalRefs", ())}
    other = parts(json.loads(envpack("sbom", deployed).stdout)["components"])
    assert purls == {part["purl"] for part in other if "purl" in part}


@pytest.fixture(scope="module")
def locked(deployed: Path, channel_url: str) -> Path:
    """The lock of the environment."""
    path = deployed.parent / "demo.lock"
    done = envpack("lock", deployed.parent / "demo.yml", "-c", channel_url, "-o", path)
    assert done.returncode == 0, done.stderr
    return path


def test_a_lock_names_the_packages_that_are_built(deployed: Path, locked: Path, tmp_path: Path) -> None:
    done = envpack("sbom", locked)
    assert (done.returncode, done.stderr) == (0, "")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(done.stdout) is None
    document = json.loads(done.stdout)
    built = json.loads(envpack("sbom", deployed).stdout)["components"]
    assert {part["purl"] for part in document["components"]} == {part["purl"] for part in built}
    assert document["metadata"]["lifecycles"] == [{"phase": "pre-build"}]
    stated = {one["name"]: one["value"] for one in document["metadata"]["component"]["properties"]}
    assert stated["envpack:lock_sha256"] == hashlib.sha256(locked.read_bytes()).hexdigest()
    assert "the files of packages" in stated["envpack:not_stated"]
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in document["dependencies"]}
    python = next(ref for ref in edges if ref.startswith("conda:python-"))
    pip = next(ref for ref in edges if ref.startswith("conda:pip-"))
    assert python in edges[pip]
    assert not [ref for ref in edges if ref.startswith("pypi:")]  # a lock does not say what they depend on
    assert envpack("sbom", locked).stdout == done.stdout

    path = tmp_path / "demo.spdx.json"
    assert envpack("sbom", locked, "--format", "spdx-2.3", "-o", path).returncode == 0
    assert validate_full_spdx_document(parse_file(str(path)), "SPDX-2.3") == []


@pytest.mark.parametrize(
    ("source", "options", "code", "message"),
    [
        ("demo.lock", ("--platform", "linux-aarch64"), 3, "not linux-aarch64"),
        ("demo.lock", ("--environment", "gpu"), 3, "no environment 'gpu'"),
        ("demo.tar.zst", ("--platform", "linux-64"), 2, "is not a lock"),
        ("demo.yml", (), 6, "demo.yml"),
    ],
)
def test_wrong_locks(locked: Path, source: str, options: tuple[str, ...], code: int, message: str) -> None:
    done = envpack("sbom", locked.parent / source, *options)
    assert done.returncode == code, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    {
        "missing": (("missing.tar.gz",), 6, "missing.tar.gz"),
        "no deployment": (("{folder}",), 6, "is not an environment that envpack unpacked"),
        "format": (("x", "--format", "spdx"), 2, "spdx"),
        "standard output": (("x", "-o", "-"), 2, "can't be '-'"),
        "no folder": (("{bundle}", "-o", "{folder}/no/x.json"), 10, "No such file or directory"),
        "a folder": (("{bundle}", "-o", "{folder}"), 10, "{folder}"),
    }.values(),
)
def test_wrong_arguments(
    arguments: tuple[str, ...], code: int, message: str, deployed: Path, tmp_path: Path
) -> None:
    places = {"folder": str(tmp_path), "bundle": str(deployed.parent / "demo.tar.zst")}
    done = envpack("sbom", *(word.format(**places) for word in arguments))
    assert done.returncode == code, done.stderr
    assert message.format(**places) in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


def test_a_deployment_without_a_record(deployed: Path, tmp_path: Path) -> None:
    record = next(iter((deployed / "conda-meta").glob("pip-*.json")))
    record.rename(tmp_path / "record")
    done = envpack("sbom", deployed)
    (tmp_path / "record").rename(record)
    assert done.returncode == 7
    assert f"envpack verify {deployed}" in done.stderr
