"""Upgrading a large environment from a store, beside ``cp -al`` of the same tree, in one run.

    python benchmarks/upgrade.py [--files 43700] [--size 1.7] [--rounds 3] [--work DIR]

Makes an environment of many packages, packs it twice, with one pip package changed the second time, deploys the
first one with a store, and then upgrades it to the second one, which the store has but for that package. Prints
each round's times and the medians' ratio. Times say nothing alone: compare within a run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from envpack.bundle.codecs import encoder_for
from envpack.bundle.writer import BundleWriter, Item
from envpack.runtime.model import Manifest, Package, PathRecord
from envpack.runtime.place import remove_tree
from envpack.runtime.relocate import Relocation

PLACEHOLDER = ("/placehold" * 26)[:255].encode()
PACKAGES = 300


def package(number: int, files: int, size: int, version: int) -> Iterator[Item]:
    """Files as packages have them: most are small sources in a few folders, one is a large library, some hold the
    prefix."""
    noise = random.Random(f"{number} {version}")
    large = size // 2
    yield item(f"lib/lib{number}.so", noise.randbytes(large), 0o755)
    for index in range(files - 2):
        data = noise.randbytes(max(10, int((size - large) / files * noise.lognormvariate(0, 1) / 1.65)))
        yield item(f"lib/python3.11/site-packages/package_{number}/part_{index % 12}/deep/module_{index}.py", data)
    script = b"#!" + PLACEHOLDER + b"/bin/python\n"
    yield item(f"bin/tool-{number}", script, 0o755, Relocation(PLACEHOLDER, text=(2,)))


def item(path: str, data: bytes, mode: int = 0o644, relocation: Relocation | None = None) -> Item:
    from hashlib import sha256

    record = PathRecord(path, "file", mode, len(data), sha256(data).hexdigest(), relocation=relocation)
    return Item(record, [data])


def make(path: Path, files: int, size: int, version: int) -> None:
    """A bundle; ``version`` is that of its last package."""
    with BundleWriter(path, encoder_for(path.name, 1), jobs=2) as writer:
        packages = []
        for number in range(PACKAGES):
            of = version if number == PACKAGES - 1 else 1
            id = f"pypi:package-{number}-{of}"
            packages.append(Package("pypi", f"package-{number}", str(of), segment=id))
            writer.add_segment(id, package(number, files // PACKAGES, size // PACKAGES, of))
        writer.finish(draft(version, tuple(packages)))


def draft(version: int, packages: tuple[Package, ...]) -> Manifest:
    return Manifest("upgrade", str(version), "noarch", 1, "bench", "", 0, 0, 0, "", (), (), packages)


def timed(*command: object, **environ: str) -> float:
    os.sync()
    started = time.monotonic()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env={**os.environ, **environ})
    took = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stderr}")
    if "--json" in command:
        result = json.loads(done.stdout)["result"]
        print(f"  read {result['read']:,} bytes of the bundle; {done.stderr.strip()}", file=sys.stderr)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=43_700)
    parser.add_argument("--size", type=float, default=1.7, help="GB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("build/bench-upgrade"))
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    if work.exists():
        remove_tree(work)
    work.mkdir(parents=True)
    envpack = [sys.executable, "-m", "envpack"]
    quiet = {"XDG_STATE_HOME": str(work / "state"), "XDG_CONFIG_HOME": str(work)}
    copies, upgrades = [], []
    try:
        for version in (1, 2):
            make(work / f"{version}.tar.zst", arguments.files, int(arguments.size * 1e9), version)
        root, store = work / "env", work / "store"
        deploy = [*envpack, "deploy", "--no-check", "--json", "--store", store]
        first = timed(*deploy, work / "1.tar.zst", root, **quiet)
        print(f"first, into an empty store: {first:.2f} s")
        for number in range(arguments.rounds):
            copies.append(timed("cp", "-al", root, work / "copy"))
            shutil.rmtree(work / "copy")
            upgrades.append(timed(*deploy, work / "2.tar.zst", root, **quiet))
            print(f"round {number + 1}: cp -al {copies[-1]:.2f} s, upgrade {upgrades[-1]:.2f} s")
            timed(*envpack, "remove", root, **quiet)
            timed(*envpack, "gc", "--store", store, **quiet)  # the changed package, and all of the others
            timed(*deploy, work / "1.tar.zst", root, **quiet)
        ratio = statistics.median(upgrades) / statistics.median(copies)
        print(f"median: cp -al {statistics.median(copies):.2f} s, upgrade {statistics.median(upgrades):.2f} s")
        print(f"ratio: {ratio:.2f}")
    finally:
        remove_tree(work)


if __name__ == "__main__":
    main()
