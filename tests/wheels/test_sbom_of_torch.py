"""The bills of materials of an environment with torch: valid, whole, and the same each time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
from test_real_wheels import CACHE, download

TORCH = "torch==2.13.0+cpu"

pytestmark = [
    pytest.mark.timeout(3000),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="needs Python 3.11, which the wheel is for"),
]


def envpack(*arguments: object) -> bytes:
    done = subprocess.run([sys.executable, "-m", "envpack", *map(str, arguments)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def deployed(channel_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment, beside its bundle ``torch.tar.gz``."""
    download(TORCH, "x86_64")
    folder = tmp_path_factory.mktemp("torch")
    (folder / "torch.yml").write_text(
        f"name: torch\ndependencies: [python, pip, {{pip: ['--find-links {CACHE}', {TORCH}, numpy]}}]\n"
        "envpack: {version: '1.0', test: [python -c 'import torch']}\n"
    )
    envpack(
        "build",
        folder / "torch.yml",
        "-c",
        channel_url,
        "-o",
        folder / "torch.tar.gz",
        "--work-dir",
        folder / "work",
    )
    envpack("deploy", "--no-check", folder / "torch.tar.gz", folder / "deployed")
    return folder / "deployed"


def purls(value: Any) -> Iterator[str]:
    """Yield all package-urls in a document, without their qualifiers."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from purls(item)
    elif isinstance(value, str) and value.startswith("pkg:"):
        yield value.partition("?")[0]


@pytest.mark.parametrize("format", ["cyclonedx-1.6", "cyclonedx-1.7", "spdx-2.3"])
def test_the_document_is_valid_and_names_every_package(deployed: Path, format: str, tmp_path: Path) -> None:
    document = envpack("sbom", deployed.parent / "torch.tar.gz", "--format", format)
    if format.startswith("spdx"):
        (tmp_path / "torch.spdx.json").write_bytes(document)
        assert validate_full_spdx_document(parse_file(str(tmp_path / "torch.spdx.json")), "SPDX-2.3") == []
    else:
        validator = JsonStrictValidator(SchemaVersion.from_version(format.rpartition("-")[2]))
        assert validator.validate_str(document.decode()) is None
    pip = subprocess.run([deployed / "bin/pip", "list", "--format", "json"], capture_output=True, check=True)
    listed = {(canonicalize_name(one["name"]), one["version"]) for one in json.loads(pip.stdout)}
    assert {"torch", "numpy", "sympy", "jinja2", "pip"} <= {name for name, _ in listed}
    stated = set(purls(json.loads(document)))
    assert {f"pkg:pypi/{name}@{version.replace('+', '%2B')}" for name, version in listed} <= stated
    records = [json.loads(path.read_bytes()) for path in (deployed / "conda-meta").glob("*.json")]
    assert {f"pkg:conda/{record['name']}@{record['version']}" for record in records} <= stated
    print(
        f"\n{format}: {len(document):,} bytes, {len(stated)} package-urls, {len(listed)} + {len(records)} packages"
    )


@pytest.mark.parametrize("format", ["cyclonedx-1.6", "cyclonedx-1.7", "spdx-2.3"])
def test_bundle_and_deployment_give_the_same_bytes_each_time(deployed: Path, format: str) -> None:
    bundle = deployed.parent / "torch.tar.gz"
    documents = {envpack("sbom", source, "--format", format) for source in (bundle, deployed, bundle)}
    assert len(documents) == 1
