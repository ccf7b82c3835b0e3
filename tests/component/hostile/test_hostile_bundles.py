"""Bundles that mean harm, through the real commands, on a terminal, with little memory: nothing escapes."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from envpack.cli.app import COMMANDS
from support.hostile_bundles import HOSTILE, SOUND_BUNDLES, Forgery, file, folder
from support.sandbox import RUNTIME, Done, Sandbox
from support.trees import snapshot

REFUSED = {6, 7}
LONG = {"a first frame with a name of 80 MB", "a table of 6 million", "a table of 8 million paths"}
"""Those that take seconds to make, and are refused for the reason of another one."""
WRITTEN = (
    "a file with",
    "a frame of another",
    "a frame that unpacks",
    "a relocation where",
    "another name",
    "data in",
)
"""The first words of some that are refused when files have been written; processes write as one does."""
RAW = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    helper = Sandbox(tmp_path_factory.mktemp("home"))
    yield helper
    helper.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder to deploy into, beside files that must not change."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/victim").write_text("untouched")
    (tmp_path / "envs").mkdir()
    return tmp_path


def reading(bundle: Path) -> list[list[str]]:
    """Commands that read no more than they need; what they don't need may lie."""
    return [["inspect", "-v", str(bundle)], ["inspect", "--json", str(bundle)], ["check", str(bundle)]]


def is_heavy(what: str) -> bool:
    return any(word in what for word in ("MB", "million", "40,000", "GB", "bomb", "without end", "states less"))


def tidy(done: Done) -> None:
    assert "Traceback" not in "".join(done.said) and "WATCHDOG" not in "".join(done.said), done.said
    assert "ran into a bug" not in "".join(done.said), done.said
    for said in done.said:
        assert not RAW.search(said), said
        assert len(said) < 100_000


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[pytest.mark.long] if what in LONG else []) for what in HOSTILE]
)
def test_a_hostile_bundle_is_refused(what: str, place: Path, sandbox: Sandbox) -> None:
    bundle = HOSTILE[what].write(place / "hostile.tar.gz")
    heavy = is_heavy(what)
    assert heavy or bundle.stat().st_size < 1 << 20
    before = snapshot(place)
    strict = [["deploy", "-q", "--no-check", str(bundle), "envs/x"]]
    if HOSTILE[what].pack.__name__ == "gz":
        strict.append([RUNTIME, "deploy", "-q", "--no-check", str(bundle), "envs/y"])
    if "verify" in COMMANDS:
        strict.append(["verify", "-q", str(bundle)])
    reads = reading(bundle)[: 1 if heavy else 3]
    done = sandbox.run(place, *(strict[:1] if heavy else strict), *reads)
    strict = strict[: len(done.codes) - len(reads)]
    tidy(done)
    assert snapshot(place) == before
    assert strict and done.codes[len(strict) :], done.said
    assert set(done.codes[: len(strict)]) <= REFUSED, done.said
    assert set(done.codes[len(strict) :]) <= REFUSED | {0, 9}, done.said
    if "future" in what and "table" not in what:
        assert done.codes[0] == 6 and "pip install --upgrade" in done.said[0]


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(what, marks=[] if what.startswith(WRITTEN) else [pytest.mark.long])
        for what in HOSTILE
        if not is_heavy(what) or "payload" in what  # the others are refused before a file is written
    ],
)
def test_processes_refuse_what_one_process_does(what: str, place: Path, sandbox: Sandbox) -> None:
    bundle = HOSTILE[what].write(place / "hostile.tar.gz")
    before = snapshot(place)
    deployed = ["deploy", "-q", "--no-check", str(bundle), "envs/x"]
    done, parallel = sandbox.run(place, deployed), sandbox.run(place, deployed, parallel=True)
    tidy(parallel)
    assert set(parallel.codes) <= REFUSED and parallel.codes == done.codes, parallel.said
    assert snapshot(place) == before


@pytest.mark.parametrize("parallel", [False, True], ids=["one process", "processes"])
@pytest.mark.parametrize("what", SOUND_BUNDLES)
def test_an_odd_bundle_that_is_right_is_deployed(what: str, parallel: bool, place: Path, sandbox: Sandbox) -> None:
    forgery = SOUND_BUNDLES[what]
    bundle = forgery.write(place / "hostile.tar.gz")
    deployed = ["deploy", "-q", "--no-check", "--jobs", "3", str(bundle), "envs/x"]
    done = sandbox.run(place, deployed, *reading(bundle), parallel=parallel)
    tidy(done)
    assert done.codes == [0, 0, 0, 0], done.said
    assert (place / "outside/victim").read_text() == "untouched"
    subprocess.run(["chmod", "-R", "u+rwX", place / "envs/x"], check=True)  # some are closed to their owner
    for record, data in forgery.items:
        path = place / "envs/x" / record["path"]
        assert path.is_symlink() == (record["type"] == "symlink")
        if record["type"] == "file":
            assert path.read_bytes() == data


@pytest.mark.parametrize(
    "what", [what for what in HOSTILE if what.startswith(("a name of a", "the lock", "the prefix is", "places"))]
)
def test_a_hostile_bundle_that_tar_has_unpacked_is_refused(what: str, place: Path, sandbox: Sandbox) -> None:
    bundle = HOSTILE[what].write(place / "hostile.tar.gz")
    (place / "envs/x").mkdir()
    subprocess.run(["tar", "-xzf", bundle, "-C", place / "envs/x"], check=True, capture_output=True)
    before = snapshot(place)
    done = sandbox.run(place, [RUNTIME, "unpack", "-q", "envs/x"])
    tidy(done)
    assert done.codes[0] in (7, 10), done.said
    changed = snapshot(place).items() ^ before.items()
    assert not [path for path, _ in changed if not path.startswith("envs/x")]


def test_nothing_is_written_through_a_link_with_the_name_of_a_temporary_file(
    place: Path, sandbox: Sandbox
) -> None:
    """Names of temporary files can be guessed, and a link of that name could lead anywhere."""
    bundle = Forgery().write(place / "sound.tar.gz")
    assert sandbox.run(place, ["deploy", "-q", "--no-check", str(bundle), "envs/x"]).codes == [0]
    (place / "envs/x/bin/.tool.envpack-new").symlink_to(place / "outside/victim")
    (place / "envs/x").rename(place / "envs/y")
    done = sandbox.run(place, [RUNTIME, "unpack", "-q", "envs/y"])
    assert done.codes == [0], done.said
    assert (place / "outside/victim").read_text() == "untouched"
    assert (place / "envs/y/bin/tool").read_text().startswith(f"#!{place}/envs/y/bin/python")
    assert not (place / "envs/y/bin/.tool.envpack-new").is_symlink()


def test_modes_and_owners_follow_who_deploys(place: Path, sandbox: Sandbox) -> None:
    """A bundle can't give away what it brings, nor make it writable for more than the umask allows."""
    wide = Forgery([file("x", mode=0o777), folder("d", 0o777), folder("e/f", 0o700)]).write(place / "wide.tar.gz")
    for umask, expected in ((0o022, 0o755), (0o077, 0o700), (0o002, 0o775)):
        done = sandbox.run(place, ["deploy", "-q", "--no-check", str(wide), f"envs/{umask}"], umask=umask)
        assert done.codes == [0], done.said
        root = place / f"envs/{umask}"
        assert [(root / name).stat().st_mode & 0o7777 for name in ("x", "d", "bin/tool")] == [
            expected,
            expected,
            0o755 & expected,
        ]
        assert root.stat().st_mode & 0o7777 == expected
        assert (root / "e/f").stat().st_mode & 0o7777 == 0o700
        owners = {(path.lstat().st_uid, path.lstat().st_gid) for path in root.rglob("*")}
        assert owners == {(os.geteuid(), os.getegid())}


def test_what_is_no_file_is_refused_at_once(place: Path, sandbox: Sandbox) -> None:
    os.mkfifo(place / "pipe")
    for path in ("pipe", "/dev/zero", "envs", "none"):
        done = sandbox.run(
            place, ["deploy", path, "envs/x"], ["inspect", path], [RUNTIME, "deploy", path, "envs/x"]
        )
        tidy(done)
        assert set(done.codes) <= REFUSED, (path, done.said)
