"""``envpack audit`` of a real environment, with a conda package of another name than its distribution on PyPI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from envpack.cli.commands.schema import load
from support.advisories import advisory, rated, write_zip
from support.conda_packages import Channel
from support.forked import envpack as forked
from support.servers import serving

SITE = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
HOSTILE = "owned \x1b]0;title\x07 \u202e"


def envpack(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return forked(*arguments, env={**os.environ, **variables})


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(document, load("audit"))
    return document


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment beside its bundle ``demo.tar.gz`` and a database ``all.zip``, in a registry of its own."""
    folder = tmp_path_factory.mktemp("audit")
    info = f"{SITE}/opencv_python-4.5.1.48.dist-info"
    channel = Channel(folder / "channel")
    metadata = "Metadata-Version: 2.1\nName: opencv-python\nVersion: 4.5.1.48\n"
    record = {f"{info}/INSTALLER": "conda\n", f"{info}/RECORD": ""}
    files = {f"{info}/METADATA": metadata, **record, f"{SITE}/cv2.py": ""}
    channel.add("py-opencv", files, version="4.5.1")
    channel.add("zlib", {"lib/libz.so": "x"})
    spec = folder / "demo.yml"
    spec.write_text("name: demo\ndependencies: [py-opencv, zlib]\nenvpack: {version: '1.0'}\n")
    done = envpack(
        *("build", spec, "-c", channel.index(), "-o", folder / "demo.tar.gz", "--work-dir", folder / "work")
    )
    assert done.returncode == 0, done.stderr
    bundle, state = folder / "demo.tar.gz", str(folder / "state")
    done = envpack("deploy", "--no-check", "--no-test", bundle, folder / "deployed", ENVPACK_STATE=state)
    assert done.returncode == 0, done.stderr
    write_zip(
        folder / "all.zip",
        advisory("PYSEC-1", "opencv-python", versions=["4.5.1.48"], details=HOSTILE),
        advisory(
            *("GHSA-1", "OpenCV_Python", {"introduced": "0"}, {"fixed": "4.8.1.78"}),
            **{"aliases": ["PYSEC-1"], **rated("HIGH")},
        ),
        advisory("GHSA-2", "py-opencv", {"introduced": "0"}, **rated("CRITICAL")),
        advisory("GHSA-3", "zlib", {"introduced": "0"}, **rated("CRITICAL")),
    )
    return folder / "deployed"


def test_a_conda_package_of_another_name(deployed: Path) -> None:
    database = deployed.parent / "all.zip"
    for source in (deployed, deployed.parent / "demo.tar.gz"):
        (environment,) = answer(envpack("audit", source, "--db", database, "--json"))["result"]["environments"]
        (found,) = environment["vulnerabilities"]
        assert (found["id"], found["aliases"], found["severity"]) == ("GHSA-1", ["PYSEC-1"], "high")
        assert found["package"]["name"] == "py-opencv" and found["fixed"] == "4.8.1.78"
        assert found["distribution"] == {"name": "opencv-python", "version": "4.5.1.48"}
        assert (environment["packages"], environment["judged"]) == (2, 1)
        assert [package["name"] for package in environment["unjudged"]] == ["zlib"]


def test_secrets_in_urls_are_not_shown(deployed: Path, tmp_path: Path) -> None:
    sarif = tmp_path / "audit.sarif"
    with serving({"/demo.tar.gz": (deployed.parent / "demo.tar.gz").read_bytes()}) as server:
        url = f"{server.url.replace('://', '://ann:swordfish@')}/demo.tar.gz?signature=swordfish"
        done = envpack("audit", url, "--db", deployed.parent / "all.zip", "--json", "--sarif", sarif)
    assert done.returncode == 0, done.stderr
    assert "swordfish" not in done.stdout + done.stderr + sarif.read_text()
    assert answer(done)["result"]["environments"][0]["path"].endswith("/demo.tar.gz")


def test_for_people(deployed: Path) -> None:
    done = envpack("audit", deployed, "--db", deployed.parent / "all.zip")
    assert done.returncode == 0, done.stderr
    assert "1 vulnerability in 1 package: 1 high" in done.stdout
    assert "high  opencv-python 4.5.1.48  GHSA-1  fixed in 4.8.1.78" in done.stdout
    assert "in the conda package py-opencv 4.5.1" in done.stdout
    assert "1 of 2 packages can be judged; 1 conda package has no advisory source" in done.stdout
    assert "4 advisories, the newest of 2025-06-01 00:00 UTC" in done.stdout
    assert "days old: newer vulnerabilities are not in it" in done.stderr
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout)


def test_all_deployments_of_the_host(deployed: Path, tmp_path: Path) -> None:
    state, other = str(tmp_path / "state"), tmp_path / "other"
    for place in (deployed.parent / "one", other):
        done = envpack(
            *("deploy", "--no-check", "--no-test", deployed.parent / "demo.tar.gz", place), ENVPACK_STATE=state
        )
        assert done.returncode == 0, done.stderr
    arguments = ("audit", "--all", "--db", deployed.parent / "all.zip")
    done = envpack(*arguments, ENVPACK_STATE=state)
    assert done.returncode == 0, done.stderr
    assert "1 vulnerability" in done.stdout and f"in {other}\n" in done.stdout
    (other / ".envpack/paths.json").write_text("{}")
    done = envpack(*arguments, "--json", ENVPACK_STATE=state)
    assert done.returncode == 12
    problems = {one["path"]: one["problem"] for one in answer(done)["result"]["environments"]}
    assert problems[str(other)] and problems[str(deployed.parent / "one")] is None
    done = envpack(*arguments, ENVPACK_STATE=str(tmp_path / "none"))
    assert done.returncode == 0 and "no deployments are known" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    {
        "high": (("--fail-on", "high"), 12, "GHSA-1"),
        "critical": (("--fail-on", "critical"), 0, ""),
        "ignored": (("--fail-on", "any", "--ignore", "PYSEC-1:no:2999-01-01"), 0, ""),
        "expired": (("--fail-on", "any", "--ignore", "PYSEC-1:no:2000-01-01"), 12, "counts again"),
        "unmatched": (("--ignore", "X:no:2999-01-01"), 0, "matches nothing"),
        "old": (("--max-age", "30"), 12, "--max-age is 30"),
        "coverage": (("--require-coverage", "51"), 12, "--require-coverage is 51 %"),
    }.values(),
)
def test_exit_codes(arguments: tuple[str, ...], code: int, message: str, deployed: Path, tmp_path: Path) -> None:
    report = tmp_path / "audit.sarif"
    done = envpack("audit", deployed, "--db", deployed.parent / "all.zip", "--sarif", report, *arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr and "coverage" in done.stdout
    assert len(json.loads(report.read_bytes())["runs"][0]["results"]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    {
        "no database": (("{dest}",), 2, "--db is missing"),
        "missing database": (("{dest}", "--db", "{folder}/no.zip"), 6, "No such file"),
        "empty database": (("{dest}", "--db", "{folder}"), 6, "no advisory about a package of PyPI"),
        "no source": (("--db", "{db}"), 2, "give a bundle"),
        "both": (("{dest}", "--all", "--db", "{db}"), 2, "can't be combined"),
        "no deployment": (("{folder}", "--db", "{db}"), 6, "is not an environment"),
        "ignore": (("{dest}", "--db", "{db}", "--ignore", "X"), 2, "ID:REASON:UNTIL"),
    }.values(),
)
def test_wrong_arguments(
    arguments: tuple[str, ...], code: int, message: str, deployed: Path, tmp_path: Path
) -> None:
    places = {"folder": tmp_path, "dest": deployed, "db": deployed.parent / "all.zip"}
    done = envpack("audit", *(word.format(**places) for word in arguments))
    assert done.returncode == code, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr and not done.stdout
