"""The history and the records of byte-code in a prefix that was built."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from rattler import BuildString, PackageRecord, RepoDataRecord

from envpack.build.conda_meta import dist_name, record_bytecode, write_history


def record(name: str, channel: str, subdir: str = "noarch", made: int = 0) -> RepoDataRecord:
    package = PackageRecord(name, "1.0", BuildString("h0_0"), 0, subdir)
    package.timestamp = datetime.fromtimestamp(made, timezone.utc)
    file = f"{name}-1.0-h0_0.conda"
    url = f"{channel.rstrip('/')}/{subdir}/{file}"
    return RepoDataRecord(package, file_name=file, url=url, channel=channel)


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        ("https://conda.anaconda.org/conda-forge/", "conda-forge"),
        ("https://conda.anaconda.org/nvidia/label/cuda-12.4.0", "nvidia/label/cuda-12.4.0"),
        ("https://repo.anaconda.com/pkgs/main", "defaults"),
        ("https://me:pw@conda.example/team/", "https://conda.example/team"),
        ("file:///srv/channel", "file:///srv/channel"),
    ],
)
def test_a_package_has_the_name_that_conda_gives_it(channel: str, name: str) -> None:
    assert dist_name(record("a", channel, "linux-64")) == f"{name}/linux-64::a-1.0-h0_0"


@pytest.mark.parametrize(("requested", "specs"), [(["b >=1", "a"], "['b >=1', 'a']"), ([], "['a', 'b']")])
def test_the_history_has_one_revision(tmp_path: Path, requested: list[str], specs: str) -> None:
    (tmp_path / "conda-meta").mkdir()
    channel = "https://conda.anaconda.org/conda-forge"
    packages = [record("b", channel, made=1_700_000_000), record("a", channel, "linux-64")]
    write_history(tmp_path, packages, requested)
    assert (tmp_path / "conda-meta/history").read_text().splitlines() == [
        "==> 2023-11-14 22:13:20 <==",
        "# cmd: envpack build",
        "+conda-forge/linux-64::a-1.0-h0_0",
        "+conda-forge/noarch::b-1.0-h0_0",
        f"# update specs: {specs}",
    ]


def test_byte_code_is_in_the_record_of_its_source(tmp_path: Path) -> None:
    (tmp_path / "conda-meta").mkdir()
    cache = tmp_path / "lib/a/__pycache__"
    cache.mkdir(parents=True)
    for name in ("m.cpython-311.pyc", "m.cpython-311.opt-1.pyc", "n.cpython-311.pyc"):
        (cache / name).write_bytes(b"")
    place, published = tmp_path / "conda-meta/a.json", tmp_path / "published.json"
    published.write_text(json.dumps({"files": ["lib/a/m.py"], "paths_data": {"paths": [{"_path": "lib/a/m.py"}]}}))
    place.hardlink_to(published)
    other = tmp_path / "conda-meta/b.json"
    other.write_text('{"files": ["lib/b.py"]}')
    for _ in range(2):
        record_bytecode(tmp_path, ["lib/a/m.py", "lib/a/n.py"])
        document = json.loads(place.read_text())
        made = ["lib/a/__pycache__/m.cpython-311.opt-1.pyc", "lib/a/__pycache__/m.cpython-311.pyc"]
        assert document["files"] == ["lib/a/m.py", *made]
        assert document["paths_data"]["paths"][1:] == [{"_path": path, "path_type": "pyc_file"} for path in made]
    assert "pyc" not in published.read_text()
    assert other.read_text() == '{"files": ["lib/b.py"]}'
