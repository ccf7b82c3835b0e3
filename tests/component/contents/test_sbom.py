"""``envpack sbom`` of a real environment, from its bundle and its deployment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from envpack.cli.commands.schema import load
from support.tiny_wheels import write_wheel

LIBRARIES = '{"bomFormat": "CycloneDX", "components": [{"type": "library", "name": "libbar", "version": "7"}]}'


def envpack(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "envpack", *map(str, arguments)], capture_output=True)


def parts(components: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for component in components:
        yield component
        yield from parts(component.get("components", []))


@pytest.fixture(scope="module")
def deployed(channel_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment of real packages of conda and of three wheels, beside its bundle ``demo.tar.gz``."""
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
    done = envpack("build", spec, "-c", channel_url, "-o", folder / "demo.tar.gz", "--work-dir", folder / "work")
    assert done.returncode == 0, done.stderr.decode()
    done = envpack("deploy", "--no-check", "--no-test", folder / "demo.tar.gz", folder / "deployed")
    assert done.returncode == 0, done.stderr.decode()
    return folder / "deployed"


def test_every_package_is_named(deployed: Path) -> None:
    done = envpack("sbom", deployed.parent / "demo.tar.gz")
    assert (done.returncode, done.stderr) == (0, b"")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(done.stdout.decode()) is None
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
    assert done.stdout.decode() == f"{tmp_path / 'demo.cdx.json'}\n"
    again = envpack("sbom", deployed.parent / "demo.tar.gz")
    assert (tmp_path / "demo.cdx.json").read_bytes() == again.stdout
    answer = json.loads(envpack("sbom", deployed, "--json").stdout)
    jsonschema.validate(answer, load("sbom"))
    assert answer["result"]["document"] == json.loads(again.stdout)


def test_the_newer_format(deployed: Path) -> None:
    document = envpack("sbom", deployed, "--format", "cyclonedx-1.7").stdout
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(document.decode()) is None


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
    places = {"folder": str(tmp_path), "bundle": str(deployed.parent / "demo.tar.gz")}
    done = envpack("sbom", *(word.format(**places) for word in arguments))
    assert done.returncode == code, done.stderr.decode()
    assert message.format(**places) in done.stderr.decode()
    assert b"Traceback" not in done.stderr and not list(tmp_path.iterdir())


def test_a_deployment_without_a_record(deployed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    done = envpack("deploy", "--no-check", "--no-test", deployed.parent / "demo.tar.gz", other)
    assert done.returncode == 0
    next(iter((other / "conda-meta").glob("pip-*.json"))).unlink()
    done = envpack("sbom", other)
    assert done.returncode == 7
    assert f"envpack verify {other}" in done.stderr.decode()
