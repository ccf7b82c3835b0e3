"""``envpack size`` of real bundles and deployments."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from envpack.cli.commands.schema import load
from envpack.runtime.format.manifest import Package
from envpack.runtime.format.needs import DetectedNeeds, GpuCode
from envpack.runtime.transport.documents import Part, SplitBundle
from support.bundle_factory import file, make_bundle
from support.forked import envpack as forked
from support.gpu_files import PTX, SASS, Code, elf, fatbin
from support.servers import serving

HOSTILE = "evil\x1b]0;owned\x07<script>alert(1)</script>"
SITE = "lib/python3.11/site-packages"
LIBRARY = f"{SITE}/torch/lib/libtorch_cuda.so"
CODE = elf(
    fatbins={
        ".nv_fatbin": fatbin(Code(SASS, 80, size=20 << 20), Code(SASS, 90, size=4 << 20))
        + fatbin(Code(PTX, 90, (8, 5), size=1 << 20))
    }
)
TARGETS = {"sm_80": (20 << 20) + 64, "sm_90": (4 << 20) + 64, "compute_90": (1 << 20) + 64}
SAME = os.urandom(300_000)


def envpack(*arguments: object, stdin: Any = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    if stdin == subprocess.DEVNULL:
        return forked(*arguments)
    return subprocess.run(
        [sys.executable, "-m", "envpack", *map(str, arguments)], stdin=stdin, capture_output=True, text=True
    )


def result(*arguments: object, stdin: Any = subprocess.DEVNULL) -> dict[str, Any]:
    document = json.loads(envpack("size", "--json", *arguments, stdin=stdin).stdout)
    jsonschema.validate(document, load("size"))
    found: dict[str, Any] = document["result"]
    return found


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a library of several frames that has GPU code, and with names that nobody should print."""
    path = tmp_path_factory.mktemp("size") / "demo.tar.gz"
    segments = {
        "torch": [file(f"{SITE}/torch/__init__.py", b"x" * 5000), file(LIBRARY, CODE), file("lib/same.so", SAME)],
        "evil": [file("lib/copy.so", SAME), file(f"lib/{HOSTILE}", b"1234"), file("share/doc/x", b"y" * 100)],
    }
    packages = (
        Package("pypi", "torch", "2.9", segment="torch", size=len(CODE) + 305_000),
        Package("conda", HOSTILE, HOSTILE, segment="evil", size=300_104),
    )
    needs = DetectedNeeds(gpu_code=(GpuCode(LIBRARY, "torch", ("sm_80", "sm_90"), ("compute_90",)),))
    make_bundle(path, segments, name="demo", version="1.0", packages=packages, needs=needs)
    return path


@pytest.fixture(scope="module")
def deployed(bundle: Path) -> Path:
    done = envpack("deploy", "--no-check", bundle, bundle.parent / "deployed")
    assert done.returncode == 0, done.stderr
    return bundle.parent / "deployed"


def test_a_bundle(bundle: Path) -> None:
    found = result(bundle)
    assert {each["name"]: each["size"] for each in found["packages"]} == {
        "torch": len(CODE) + 305_000,
        HOSTILE: 300_104,
    }
    assert sum(each["stored"] for each in found["packages"]) <= found["stored"] < bundle.stat().st_size
    assert found["size"] == sum(each["size"] for each in found["kinds"]) == len(CODE) + 605_104
    assert [(each["count"], each["paths"]) for each in found["duplicates"]["largest"]] == [
        (2, ["lib/copy.so", "lib/same.so"])
    ]
    assert {each["profile"]: each["files"] for each in found["prune"]}["docs"] == 1


def test_of_a_bundle_the_head_alone_is_read(bundle: Path) -> None:
    with serving({"/demo.tar.gz": bundle.read_bytes()}) as server:
        found = result(f"{server.url}/demo.tar.gz")
        assert server.served < 100_000
    assert found["gpu_code"]["size"] is None
    assert [each["target"] for each in found["gpu_code"]["targets"]] == ["sm_80", "sm_90", "compute_90"]
    with bundle.open("rb") as stream:
        assert result("-", stdin=stream)["size"] == found["size"]


def test_gpu_code_of_a_bundle(bundle: Path) -> None:
    found = result("--gpu-code", bundle)["gpu_code"]
    assert {each["target"]: each["size"] for each in found["targets"]} == TARGETS
    assert found["libraries"] == [{"path": LIBRARY, "size": len(CODE), "targets": list(TARGETS), "sizes": TARGETS}]


def test_gpu_code_can_not_be_read_from_a_pipe(bundle: Path) -> None:
    with subprocess.Popen(["cat", bundle], stdout=subprocess.PIPE) as cat:
        done = envpack("size", "--gpu-code", "-", stdin=cat.stdout)
    assert done.returncode == 2 and "pipe" in done.stderr


def test_a_deployment_has_the_sizes_of_its_bundle(bundle: Path, deployed: Path) -> None:
    found, expected = result(deployed), result("--gpu-code", bundle)
    assert found.pop("path") != expected.pop("path")
    assert found == expected


def test_a_library_that_is_missing_in_a_deployment(bundle: Path, tmp_path: Path) -> None:
    assert envpack("deploy", "--no-check", bundle, tmp_path / "x").returncode == 0
    (tmp_path / "x" / LIBRARY).unlink()
    assert result(tmp_path / "x")["gpu_code"]["libraries"][0]["sizes"] is None
    (tmp_path / "x" / LIBRARY).symlink_to("/dev/zero")
    assert result(tmp_path / "x")["gpu_code"]["libraries"][0]["sizes"] is None


def test_what_people_see(bundle: Path) -> None:
    done = envpack("size", "--gpu-code", bundle)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("demo 1.0 for ")
    assert "\x1b" not in done.stdout and "\\x1b]0;owned" in done.stdout
    titles = [line.partition(":")[0] for line in lines if line and not line.startswith(" ")][1:]
    assert titles == ["packages", "kinds of file", "GPU code", "duplicate files", "prune profiles"]
    assert any(line.split()[:3] == ["sm_80", "21.0", "MB"] for line in lines)


def test_damage_is_reported(bundle: Path, tmp_path: Path) -> None:
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / "demo.tar.gz"
    damaged.write_bytes(data)
    done = envpack("size", "--gpu-code", damaged)
    assert done.returncode == 7 and "damaged" in done.stderr
    done = envpack("size", tmp_path)
    assert done.returncode == 6


def test_published_bundles_and_bundles_in_parts(bundle: Path, tmp_path: Path) -> None:
    expected = result("--gpu-code", bundle)
    made = tmp_path / f"demo-1.0-20260104-{expected['subdir']}.tar.gz"
    made.write_bytes(bundle.read_bytes())
    assert envpack("publish", made, tmp_path / "place").returncode == 0
    data = made.read_bytes()
    pieces = data[:50_000], data[50_000:]
    parts = [Part(f"{made.name}.{n:03}", len(p), hashlib.sha256(p).hexdigest()) for n, p in enumerate(pieces, 1)]
    for part, piece in zip(parts, pieces, strict=True):
        (tmp_path / part.name).write_bytes(piece)
    whole = SplitBundle(made.name, len(data), hashlib.sha256(data).hexdigest(), parts)
    (tmp_path / f"{made.name}.parts.json").write_text(json.dumps(whole.as_dict()))
    for source in (
        tmp_path / f"place/demo-latest-{expected['subdir']}.json",
        tmp_path / f"{made.name}.parts.json",
    ):
        assert result("--gpu-code", source) == {**expected, "path": result(source)["path"]}


def test_a_manifest_lists_no_files(tmp_path: Path) -> None:
    (tmp_path / "x.manifest.json").write_text("{}")
    assert envpack("size", tmp_path / "x.manifest.json").returncode == 6
