"""Bundles that mean harm, through the real commands, on a terminal, with little memory: nothing escapes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from confined import RUNTIME, Confined, Done
from envpack.cli.app import COMMANDS
from hostile import HOSTILE, SOUND_BUNDLES

REFUSED = {6, 7}
RAW = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@pytest.fixture(scope="module")
def confined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Confined]:
    helper = Confined(tmp_path_factory.mktemp("home"))
    yield helper
    helper.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder to deploy into, beside what nobody may touch."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/victim").write_text("untouched")
    (tmp_path / "envs").mkdir()
    return tmp_path


def everything(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns if path.is_file() else 0,
            path.read_bytes() if path.is_file() and "hostile" not in path.name else b"",
        )
        for path in sorted(folder.rglob("*"))
    }


def reading(bundle: Path) -> list[list[str]]:
    """Commands that read no more than they need; what they don't need may lie."""
    return [["inspect", "-v", str(bundle)], ["inspect", "--json", str(bundle)], ["check", str(bundle)]]


def tidy(done: Done) -> None:
    assert "Traceback" not in "".join(done.said) and "WATCHDOG" not in "".join(done.said), done.said
    assert "ran into a bug" not in "".join(done.said), done.said
    for said in done.said:
        assert not RAW.search(said), said
        assert len(said) < 100_000


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_bundle_is_refused(what: str, place: Path, confined: Confined) -> None:
    bundle = HOSTILE[what].write(place / "hostile.tar.gz")
    heavy = bundle.stat().st_size > 1 << 20 or "MB" in what or "million" in what
    before = everything(place)
    strict = [["deploy", "-q", "--no-check", str(bundle), "envs/x"]]
    if HOSTILE[what].pack.__name__ == "gz":
        strict.append([RUNTIME, "deploy", "-q", "--no-check", str(bundle), "envs/y"])
    if "verify" in COMMANDS:
        strict.append(["verify", "-q", str(bundle)])
    reads = reading(bundle)[: 1 if heavy else 3]
    done = confined.run(place, *(strict[:1] if heavy else strict), *reads)
    strict = strict[: len(done.codes) - len(reads)]
    tidy(done)
    assert everything(place) == before
    assert strict and done.codes[len(strict) :], done.said
    assert set(done.codes[: len(strict)]) <= REFUSED, done.said
    assert set(done.codes[len(strict) :]) <= REFUSED | {0, 9}, done.said
    if "future" in what and "table" not in what:
        assert done.codes[0] == 6 and "pip install --upgrade" in done.said[0]


@pytest.mark.parametrize("what", SOUND_BUNDLES)
def test_an_odd_bundle_that_is_right_is_deployed(what: str, place: Path, confined: Confined) -> None:
    forgery = SOUND_BUNDLES[what]
    bundle = forgery.write(place / "hostile.tar.gz")
    done = confined.run(place, ["deploy", "-q", "--no-check", str(bundle), "envs/x"], *reading(bundle))
    tidy(done)
    assert done.codes == [0, 0, 0, 0], done.said
    assert (place / "outside/victim").read_text() == "untouched"
    for record, data in forgery.items:
        path = place / "envs/x" / record["path"]
        assert path.is_symlink() == (record["type"] == "symlink")
        if record["type"] == "file":
            assert path.read_bytes() == data


def test_what_is_no_file_is_refused_at_once(place: Path, confined: Confined) -> None:
    os.mkfifo(place / "pipe")
    for path in ("pipe", "/dev/zero", "envs", "none"):
        done = confined.run(
            place, ["deploy", path, "envs/x"], ["inspect", path], [RUNTIME, "deploy", path, "envs/x"]
        )
        tidy(done)
        assert set(done.codes) <= REFUSED, (path, done.said)
