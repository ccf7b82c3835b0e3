"""Bundles changed at random, by seed: the JSON before its digests are made, the tar stream before it is packed,
the file as it lies.

``python tests/support/bundle_fuzzer.py --count 20000`` deploys that many, each by both decoders, and says what
became of them; ``make fuzz`` calls it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from envpack.bundle.codecs import FAST
from envpack.cli.commands.inspect import describe
from envpack.runtime.commands.check import Policy, check_manifest
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.commands.verify import verify
from envpack.runtime.errors import FormatError, IntegrityError, RelocationError
from envpack.runtime.extract import extraction
from envpack.runtime.format.codec import STANDARD
from envpack.runtime.fs.paths import remove_tree
from envpack.runtime.host.detect.gather import gather
from envpack.runtime.host.facts import HostFacts
from envpack.runtime.parallel.processes import Advance
from envpack.runtime.reader import partition
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.report import Reporter
from support.hostile_bundles import SOUND, Forgery, Json, P, file, folder, gz, hard, link, zst

REFUSED = (FormatError, IntegrityError, RelocationError)
"""The last one because a manifest may state any room for the destination's path."""

SECONDS = 60
MEMORY = 3 << 30


def _relocated(path: str, data: bytes, **relocation: Any) -> tuple[Json, bytes]:
    return file(path, data, relocation={"placeholder": 0, **relocation})


_JSON = json.dumps(P.decode())[1:-1].replace("/", "\\/").encode()
RICH = [
    *SOUND,
    _relocated("bin/script", b"#!" + P + b"/bin/perl -w\nx", shebang=["#!", "/bin/perl -w"]),
    _relocated("bin/long", b"#!" + P + b"/bin/x\n", shebang=["#!", "/bin/x", "env"]),
    _relocated(
        "lib/lib.so", b"\x7fELF" + P + b"/lib\0" + P + b"\0", padded=[4], strings=[[4 + 255 + 5, 4 + 255 * 2 + 5]]
    ),
    _relocated(
        "lib/a.pyc",
        bytes(16) + b"z\xff" + P + b"s\xff\0\0\0" + P,
        marshal=[[16, 122, 255, 18], [273, 115, 255, 278]],
    ),
    _relocated("lib/b.pyc", bytes(12) + (300).to_bytes(4, "little") + b"N", bytecode=[300, 1, 255]),
    _relocated(
        "share/u.json",
        b'{"a": "' + _JSON + b'", "b": "file://' + P + b'"}',
        encoded={"json-slashes": [7], "url": [7 + len(_JSON) + 16]},
    ),
    folder("a/b/c"),
    link("a/b/up", "../../lib"),
    link("x", "a/b/up/data"),
    file("one/two/three/four", b"4" * 5000),
    hard("one/two/five", "one/two/three/four"),
    file("\u00fc", b""),
    file("n" * 120, b"n"),
]
NEEDS = {
    "cuda": {"value": "12.4", "source": "x"},
    "glibc": {"value": "2.17", "source": "y"},
    "cpu": {"value": "x86-64-v2", "source": "z"},
    "gpu_code": [
        {"library": "l", "package": "p", "sass": ["sm_90"], "ptx": ["compute_90"], "ptx_isa": "8.5", "main": True}
    ],
    "jit": [{"value": "triton", "source": "t"}],
    "disk": 10,
}
ODD: list[Any] = [
    *(-1, 0, 1, 7, 255, 256, 4096, 1 << 31, (1 << 33) + 1, 1 << 62, 1 << 63, 1 << 64, 10**30, 0.5, 1e308),
    *(True, None, [], {}, [[0]], [1, 2, 3], {"a": 1}, ["a"]),
    *("", ".", "..", "/", "/etc", "a/../..", "../x", "x\0y", "x\ny", "\x1b[2J", "\ud800", "\udcff", "n" * 300),
    *("a/" * 200 + "a", ".envpack", ".envpack/prefix", ".envpack/manifest.json", "bin/.tool.envpack-new"),
    *("lib", "lib/data", "file", "symlink", "hardlink", "directory", "fifo", "gzip", "zstd", "json"),
    *("0" * 64, "{}", "9" * 30, "99.9.9.9", "sm_", "compute_90a", ">=", ">= 1,<2"),
]


def _nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every value in a document, as its container and its key."""
    if isinstance(value, (list, dict)):
        for key in range(len(value)) if isinstance(value, list) else list(value):
            yield value, key
            yield from _nodes(value[key])


def _descent(document: Any, random: random.Random) -> tuple[Any, Any]:
    """Return a value chosen level by level, so that long lists are not chosen more often."""
    container = document
    while True:
        key = random.choice(list(range(len(container)) if isinstance(container, list) else container))
        if not isinstance(container[key], (list, dict)) or not container[key] or random.random() < 0.1:
            return container, key
        container = container[key]


def _change(document: Any, random: random.Random) -> Any:
    nodes = list(_nodes(document))
    if not nodes:
        return random.choice(ODD)
    container, key = random.choice(nodes) if random.random() < 0.5 else _descent(document, random)
    value = container[key]
    action = random.randrange(9)
    if action == 0:
        del container[key]
    elif action == 1 and isinstance(container, list):
        container.insert(random.randrange(len(container) + 1), json.loads(json.dumps(value)))
    elif action == 2 and isinstance(container, list):
        random.shuffle(container)
    elif action == 3 and isinstance(value, int):
        container[key] = value + random.choice([-512, -255, -1, 1, 255, 512])
    elif action == 4 and isinstance(value, str) and value:
        at = random.randrange(len(value))
        container[key] = (
            value[:at] + random.choice(["", "/", ".", "\0", "é", value]) + value[at + random.randrange(2) :]
        )
    elif action in (5, 6):
        other, where = random.choice(nodes)
        with contextlib.suppress(LookupError, TypeError):
            container[key] = json.loads(json.dumps(other[where]))
    elif action == 7 and isinstance(container, dict):
        container[str(random.choice(ODD))] = container.pop(key)
    else:
        container[key] = random.choice(ODD)
    return document


def _bytes(data: bytes, random: random.Random, most: int = 4) -> bytes:
    for _ in range(random.randint(1, most)):
        at = random.randrange(len(data) + 1)
        length = random.choice([1, 1, 1, 2, 8, 100, 512, 1024])
        action = random.randrange(6)
        if action == 0 and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        elif action == 1:
            data = data[:at] + data[at + length :]
        elif action == 2:
            data = data[:at] + random.randbytes(length) + data[at:]
        elif action == 3:
            data = data[:at] + data[max(0, at - length) : at] + data[at:]
        elif action == 4:
            data = data[:at]
        else:
            data = data[:at] + bytes(length) + data[at + length :]
    return data


def mutant(seed: int) -> Forgery:
    """Return the bundle of this seed. Some are still valid: not every byte matters."""
    chance = random.Random(seed)
    made = Forgery(RICH[len(SOUND) :], pack=chance.choice([gz, gz, zst]))
    what = chance.choice(
        ["manifest", "manifest", "table", "table", "table", "both", "stream", "first", "frame", "text", "whole"]
    )

    def changed(document: Json) -> Json | bytes:
        if "codec" in document and chance.random() < 0.5:
            document["needs"] = json.loads(json.dumps(NEEDS))
            document["requires"] = {"glibc": ">=2.17", "disk": "1 GB"}
        for _ in range(chance.choice([1, 1, 1, 2, 5])):
            document = _change(document, chance)
        return document if isinstance(document, dict) else json.dumps(document).encode()

    def text(document: Json) -> bytes:
        return _bytes(json.dumps(document).encode(), chance)

    if what in ("manifest", "both"):
        made.manifest = changed
    if what in ("table", "both"):
        made.table = changed
    if what == "text":
        setattr(made, chance.choice(["manifest", "table"]), text)
    if what in ("stream", "first", "frame", "whole"):
        setattr(made, what, lambda data: _bytes(data, chance))
    return made


FACTS = gather(Path("/"), gpu=False)


def try_one(seed: int, folder: Path, facts: HostFacts = FACTS) -> str:
    """Return what happened to the mutant: "refused" or "deployed".

    Raises:
        AssertionError: Something was written outside, files are left, or two ways to read it differ.
        Exception: Any other error that envpack should not raise.
    """
    bundle = mutant(seed).write(folder / "b.tar.gz")
    outside = folder / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "victim").write_text("untouched")
    ends = [_try(bundle, folder, FAST)]
    with patch.multiple(extraction, ProcessPool=_Here, can_fork=lambda: True), patch.object(partition, "SIZE", 1):
        ends.append(_try(bundle, folder, FAST, jobs=2))
    if bundle.read_bytes()[:1] == b"\x1f":
        ends.append(_try(bundle, folder, STANDARD))
    assert len(set(ends)) == 1, f"the decoders differ: {ends}"
    try:
        verify(bundle, reporter=Reporter(), jobs=1, decoders=FAST)
    except REFUSED:
        assert ends[0] != "deployed", "deployed, and verify refuses it"
    else:
        assert ends[0] != "refused", "refused, and verify finds nothing"
    with contextlib.suppress(*REFUSED), open_bundle(bundle, FAST) as opened:
        json.dumps(describe(opened.manifest, "b", opened.size, opened.head_size))
        check_manifest(opened.manifest, "b", facts, Policy())
    assert sorted(path.name for path in folder.iterdir()) == ["b.tar.gz", "outside"]
    assert [path.name for path in outside.iterdir()] == ["victim"]
    assert (outside / "victim").read_text() == "untouched"
    return ends[0]


class _Here:
    """A `ProcessPool` that runs all parts in this process, one after the other."""

    def __init__(self, count: int, units: int, work: Callable[[int, int, Advance], None]) -> None:
        self._units, self._work = units, work

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def results(self, advance: Advance) -> Iterator[None]:
        for unit in range(self._units):
            yield self._work(0, unit, advance)


def _try(bundle: Path, folder: Path, decoders: Any, jobs: int = 1) -> str:
    place = folder / "x"
    try:
        options = DeployOptions(policy=Policy(check=False), run_tests=False, jobs=jobs)
        deploy(bundle, place, options, reporter=Reporter(), decoders=decoders)
    except RelocationError:
        return "no room"
    except REFUSED as error:
        assert error.code in (6, 7) and error.message
        return "refused"
    try:
        found = verify(place, reporter=Reporter(), jobs=1)
        assert not (found.changed or found.missing or found.extra), found
    finally:
        remove_tree(place)
    return "deployed"


def _many(job: tuple[int, int]) -> tuple[Counter[str], list[str]]:
    ends: Counter[str] = Counter()
    failures = []
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _too_long)
    with tempfile.TemporaryDirectory(prefix="envpack-fuzz-") as name:
        os.environ["XDG_STATE_HOME"] = f"{name}/state"
        for seed in range(*job):
            folder = Path(name) / str(seed)
            folder.mkdir()
            signal.alarm(SECONDS)
            try:
                ends[try_one(seed, folder)] += 1
            except BaseException:
                failures.append(f"seed {seed}: {traceback.format_exc()}")
            finally:
                signal.alarm(0)
                shutil.rmtree(folder, ignore_errors=True)
    return ends, failures


def _too_long(signum: int, frame: object) -> None:
    raise AssertionError(f"longer than {SECONDS} seconds")


def main() -> int:
    parser = argparse.ArgumentParser(description="Deploy bundles that were changed at random.")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    started = time.monotonic()
    last = arguments.first + arguments.count
    jobs = [(first, min(first + 100, last)) for first in range(arguments.first, last, 100)]
    ends: Counter[str] = Counter()
    failures: list[str] = []
    with multiprocessing.get_context("spawn").Pool(arguments.jobs, maxtasksperchild=20) as pool:
        for counted, failed in pool.imap_unordered(_many, jobs):
            ends += counted
            failures += failed
    counts = ", ".join(f"{count:,} {what}" for what, count in sorted(ends.items()))
    print(
        f"{arguments.count:,} mutants in {time.monotonic() - started:.0f} s: {counts}, {len(failures):,} failures"
    )
    for failure in failures[:20]:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
