"""Packages that several channels have: conda's flexible priority, and the strict one of pixi."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from envpack.lock.solve import solve_lock
from envpack.runtime.errors import BuildError
from envpack.spec.parse import parse_spec
from envpack.spec.pixi import parse_pixi
from support.reporters import RecordingReporter
from support.servers import serving

FIRST = {"app": ("1", ()), "base": ("1", ()), "other": ("1", ())}
SECOND = {"app": ("2", ("base ==2", "other")), "base": ("2", ()), "other": ("2", ()), "own": ("2", ())}
"""The packages of two channels, by name. ``app`` of the second one needs its ``base``; both have ``other``."""

SECRET = "s3cret"
PINNED = "  - app ==2\n  - own\n"


def repodata(packages: Mapping[str, tuple[str, tuple[str, ...]]]) -> bytes:
    records = {
        f"{name}-{version}-0.tar.bz2": {
            "name": name,
            "version": version,
            "build": "0",
            "build_number": 0,
            "subdir": "noarch",
            "depends": list(depends),
            "sha256": "00" * 32,
            "size": 1,
        }
        for name, (version, depends) in packages.items()
    }
    return json.dumps({"info": {"subdir": "noarch"}, "packages": records}).encode()


@pytest.fixture(scope="module")
def channels() -> Iterator[str]:
    """The address of a server with the channels "first" and "second"."""
    empty = json.dumps({"info": {"subdir": "linux-64"}, "packages": {}}).encode()
    data = {
        "/first/noarch/repodata.json": repodata(FIRST),
        "/second/noarch/repodata.json": repodata(SECOND),
        "/first/linux-64/repodata.json": empty,
        "/second/linux-64/repodata.json": empty,
    }
    with serving(data, user=f"Basic {base64.b64encode(f'me:{SECRET}'.encode()).decode()}") as files:
        yield files.url.replace("://", f"://me:{SECRET}@").rstrip("/")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CONDARC", "MAMBARC", "CONDA_PREFIX", "MAMBA_ROOT_PREFIX", "CONDA_CHANNEL_PRIORITY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def solved(channels: str, dependencies: str) -> tuple[dict[str, str], list[str]]:
    """Return the versions that a spec with both channels has, and the notes."""
    text = f"name: x\nchannels: [{channels}/first, {channels}/second]\ndependencies:\n{dependencies}"
    reporter = RecordingReporter()
    lock = solve_lock(parse_spec(text, "x.yml"), platforms=["linux-64"], reporter=reporter)
    records = lock.platform("linux-64").conda
    return {record.name.normalized: str(record.version) for record in records}, reporter.notes


def test_the_first_channel_of_a_package_is_used_where_it_can_be(channels):
    assert solved(channels, "  - base\n  - own\n") == ({"base": "1", "own": "2"}, [])


def test_a_later_channel_gives_what_the_first_can_not_as_in_conda(channels):
    versions, (note,) = solved(channels, PINNED)
    assert versions == {"app": "2", "base": "2", "other": "1", "own": "2"}
    second = f"http://{channels.partition('@')[2]}/second"
    assert note.startswith("x has no solution on linux-64 with packages of the first channel that has them;")
    assert note.endswith(f" gives app 2 of {second}, base 2 of {second}")
    assert SECRET not in note


def test_strict_priority_in_the_configuration_refuses_it(channels, home):
    (home / ".condarc").write_text("channel_priority: strict\n")
    with pytest.raises(BuildError, match="the dependencies of x can't be satisfied") as caught:
        solved(channels, PINNED)
    assert "They have strict priority." in caught.value.hint
    assert any("strict channel priority" in line for line in caught.value.details)


def test_without_priority_the_newest_version_is_used(channels, home):
    (home / ".condarc").write_text("channel_priority: disabled\n")
    assert solved(channels, "  - base\n  - other\n") == ({"base": "2", "other": "2"}, [])


def test_no_solution_in_any_channel_is_explained_without_a_note(channels):
    reporter = RecordingReporter()
    text = f"name: x\nchannels: [{channels}/first, {channels}/second]\ndependencies: [app ==2, base ==1]\n"
    with pytest.raises(BuildError, match="can't be satisfied") as caught:
        solve_lock(parse_spec(text, "x.yml"), platforms=["linux-64"], reporter=reporter)
    assert reporter.notes == []
    assert "strict" not in caught.value.hint


@pytest.mark.parametrize("priority", ["", "channel-priority = 'strict'\n"])
def test_projects_of_pixi_have_strict_priority(channels, priority):
    text = f"[workspace]\nname = 'x'\nchannels = ['{channels}/first', '{channels}/second']\n{priority}"
    spec = parse_pixi(f"{text}[dependencies]\napp = '==2'\n", "pixi.toml")
    with pytest.raises(BuildError, match="can't be satisfied"):
        solve_lock(spec, platforms=["linux-64"])
