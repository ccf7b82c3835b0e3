"""Packing and deploying by several processes: the same bytes, the same errors, and no process left."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from envpack.runtime.reader.bundle import open_bundle
from support import forked
from support.small_prefix import SmallPrefix
from support.trees import snapshot

FORCED_PARALLEL = [sys.executable, str(Path(__file__).parents[2] / "support/forced_parallel.py")]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked only on Linux")


@pytest.fixture
def made(tmp_path: Path) -> SmallPrefix:
    """Three packages and other files: some with the prefix, links of both kinds, one larger than a frame."""
    made = SmallPrefix(tmp_path / "env")
    noise = random.Random(1)
    for name in ("one", "two", "three"):
        paths = [f"lib/{name}/{number}.txt" for number in range(20)]
        for path in paths:
            made.write(path, f"{name} {path} in {made.path}\n" * noise.randrange(1, 200))
        made.write(f"conda-meta/{name}-1-0.json", record(name, paths))
    made.write("lib/large.bin", noise.randbytes(9_000_000) + os.fsencode(made.path) + b"/lib\0" + bytes(1 << 20))
    made.write("bin/tool", f"#!{made.path}/bin/python\n", 0o755)
    os.link(made.path / "bin/tool", made.path / "bin/same")
    made.link("lib/link", "one/1.txt")
    (made.path / "empty").mkdir(mode=0o750)
    return made


def record(name: str, files: list[str]) -> str:
    """A conda package's, as conda-meta has it."""
    about = {"name": name, "version": "1", "build": "0", "build_number": 0, "depends": [], "files": files}
    return json.dumps(about)


def envpack(*words: str | Path, code: int = 0, **environ: str) -> tuple[int, str]:
    """Return the number of processes that were started, and the messages."""
    done = subprocess.run(
        [*FORCED_PARALLEL, *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    *said, last = done.stderr.strip().split("\n")
    return int(last.removeprefix("processes: ")), done.stdout + "\n".join(said)


@pytest.mark.parametrize("suffix", [".tar.gz", pytest.param(".tar.zst", marks=pytest.mark.long)])
def test_a_bundle_is_the_same_for_every_number_of_processes(
    suffix: str, made: SmallPrefix, tmp_path: Path
) -> None:
    digests = set()
    for jobs in (1, 2, 5):
        output = tmp_path / f"b{jobs}{suffix}"
        processes, _ = envpack("pack", "-p", made.path, "-o", output, "--level", "1", "--jobs", str(jobs))
        assert processes == (0 if jobs == 1 else min(jobs, 4))
        digests.add(hashlib.sha256(output.read_bytes()).hexdigest())
    assert len(digests) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"b{jobs}{suffix}" for jobs in (1, 2, 5)), "env"]


def test_a_deployment_is_the_same_for_every_number_of_processes(made: SmallPrefix, tmp_path: Path) -> None:
    made.pack(tmp_path / "b.tar.zst")
    trees = []
    for jobs in (1, 2, 4):
        processes, _ = envpack("deploy", tmp_path / "b.tar.zst", tmp_path / "d", "--jobs", str(jobs))
        assert processes == (0 if jobs == 1 else jobs)
        trees.append(snapshot(tmp_path / "d", record=False))
        for command in ("verify", "remove"):
            assert forked.envpack(command, tmp_path / "d").returncode == 0
    assert trees[0] == trees[1] == trees[2]
    assert len(trees[0]) > 60 and trees[0]["bin/same"].links == 2


@pytest.mark.long
def test_there_may_be_more_packages_than_one_crew_takes(tmp_path: Path) -> None:
    made = SmallPrefix(tmp_path / "env")
    for number in range(1100):
        made.write(f"lib/{number}", f"{number}\n")
        made.write(f"conda-meta/p{number}-1-0.json", record(f"p{number}", [f"lib/{number}"]))
    assert envpack("pack", "-p", made.path, "-o", tmp_path / "b.tar.zst", "--jobs", "2")[0] == 2
    assert envpack("deploy", tmp_path / "b.tar.zst", tmp_path / "d", "--jobs", "2")[0] == 2
    assert all((tmp_path / f"d/lib/{number}").read_text() == f"{number}\n" for number in range(1100))


def test_packages_packed_before_are_taken_and_the_others_packed_apart(made: SmallPrefix, tmp_path: Path) -> None:
    pack = ("pack", "-p", made.path, "--level", "1", "-o")
    cache = {"ENVPACK_CACHE": str(tmp_path / "cache")}
    for path in made.path.rglob("*"):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
    assert envpack(*pack, tmp_path / "b.tar.gz", "--jobs", "2", **cache)[0] == 2
    (index,) = (tmp_path / "cache/1/prefixes").iterdir()
    assert len(json.loads(index.read_bytes())) == 4  # none of them is read next time
    assert envpack(*pack, tmp_path / "c.tar.gz", "--jobs", "2", **cache)[0] == 0
    for name in ("four", "five"):
        made.write(f"lib/{name}.txt", "new\n")
        made.write(f"conda-meta/{name}-1-0.json", record(name, [f"lib/{name}.txt"]))
    assert envpack(*pack, tmp_path / "d.tar.gz", "--jobs", "2", **cache)[0] == 2
    envpack(*pack, tmp_path / "e.tar.gz", "--jobs", "1")
    assert (tmp_path / "b.tar.gz").read_bytes() == (tmp_path / "c.tar.gz").read_bytes()
    assert (tmp_path / "d.tar.gz").read_bytes() == (tmp_path / "e.tar.gz").read_bytes()


@pytest.mark.parametrize("which", ["some", pytest.param("every", marks=pytest.mark.long)])
def test_damage_in_any_part_is_found_and_nothing_stays(which: str, made: SmallPrefix, tmp_path: Path) -> None:
    made.pack(tmp_path / "b.tar.gz", level=1)
    data = bytearray((tmp_path / "b.tar.gz").read_bytes())
    with open_bundle(tmp_path / "b.tar.gz") as bundle:
        places = [frame.offset + frame.frame.stored // 2 for frame in bundle.frames()]
    assert len(places) > 6
    for place in places if which == "every" else (places[0], places[len(places) // 2], places[-1]):
        damaged = data[:]
        damaged[place] ^= 1
        (tmp_path / "damaged.tar.gz").write_bytes(damaged)
        said = envpack("deploy", tmp_path / "damaged.tar.gz", tmp_path / "d", "--jobs", "3", code=7)[1]
        assert "damaged at byte" in said and "Traceback" not in said
        assert not (tmp_path / "d").exists() and not (tmp_path / ".d.envpack").exists()


def test_a_file_that_changes_meanwhile_is_reported(made: SmallPrefix, tmp_path: Path) -> None:
    with _started(made.path, "pack", "-p", made.path, "-o", tmp_path / "b.tar.gz", "--jobs", "2") as packing:
        for number in range(20):
            (made.path / f"lib/two/{number}.txt").write_text("written to meanwhile")
        _, said = packing.communicate(timeout=60)
    assert packing.returncode == 5 and b"changed while the environment was packed" in said
    assert [path.name for path in tmp_path.iterdir()] == ["env"]


def _started(place: Path, *words: str | Path, seconds: str = "0.05") -> subprocess.Popen[bytes]:
    """Start a command with processes that work slowly."""
    started = subprocess.Popen(
        [*FORCED_PARALLEL, *map(str, words)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "SLOW": seconds},
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while len(_session(started.pid)) < 3:
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    return started


def _session(leader: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("pack", signal.SIGINT),
        ("deploy", signal.SIGTERM),
        pytest.param("pack", signal.SIGTERM, marks=pytest.mark.long),
        pytest.param("deploy", signal.SIGINT, marks=pytest.mark.long),
    ],
)
def test_an_interrupt_ends_them_all_and_leaves_nothing(
    what: str, number: signal.Signals, made: SmallPrefix, tmp_path: Path
) -> None:
    made.pack(tmp_path / "b.tar.gz", level=1)
    words: Sequence[str | Path] = ["pack", "-p", made.path, "-o", tmp_path / "c.tar.gz"]
    words = words if what == "pack" else ["deploy", tmp_path / "b.tar.gz", tmp_path / "d"]
    with _started(made.path, *words, "--jobs", "2") as started:
        os.killpg(started.pid, number)
        _, said = started.communicate(timeout=60)
    assert started.returncode == 130 and b"Traceback" not in said, said
    assert not _session(started.pid)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar.gz", "env"]


def test_what_a_killed_deployment_left_is_no_hindrance(made: SmallPrefix, tmp_path: Path) -> None:
    """Its processes may still be writing, and hold its lock until they end."""
    made.pack(tmp_path / "b.tar.gz", level=1)
    with _started(made.path, "deploy", tmp_path / "b.tar.gz", tmp_path / "d", "--jobs", "2") as started:
        started.kill()
        envpack("deploy", "--wait", tmp_path / "b.tar.gz", tmp_path / "d", "--jobs", "2")
        assert not _session(started.pid)
        started.communicate()
    envpack("verify", tmp_path / "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar.gz", "d", "env"]


@pytest.mark.parametrize("what", ["pack", "deploy"])
def test_a_process_killed_for_its_memory_is_reported(what: str, made: SmallPrefix, tmp_path: Path) -> None:
    made.pack(tmp_path / "b.tar.gz", level=1)
    words: Sequence[str | Path] = ["pack", "-p", made.path, "-o", tmp_path / "c.tar.gz"]
    words = words if what == "pack" else ["deploy", tmp_path / "b.tar.gz", tmp_path / "d"]
    with _started(made.path, *words, "--jobs", "2") as started:
        os.kill(max(_session(started.pid)), signal.SIGKILL)
        _, said = started.communicate(timeout=60)
    assert started.returncode == 1 and b"ended by signal 9" in said and b"Traceback" not in said, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar.gz", "env"]


def test_a_full_disk_is_reported(made: SmallPrefix, tmp_path: Path) -> None:
    """A limit on the size of files stands for it: what is written is larger."""
    made.pack(tmp_path / "b.tar.gz", level=1)
    for words in (
        ["pack", "-p", str(made.path), "-o", str(tmp_path / "c.tar.gz")],
        ["deploy", str(tmp_path / "b.tar.gz"), str(tmp_path / "d")],
    ):
        limited = ["/bin/sh", "-c", 'ulimit -f 4000; exec "$@"', "sh", *FORCED_PARALLEL, *words, "--jobs", "2"]
        done = subprocess.run(limited, capture_output=True, text=True, timeout=60)
        assert done.returncode == 10 and "File too large" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and done.stderr.strip().endswith("processes: 2")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar.gz", "env"]
