"""Many deployments of two bundles at once on one store, with rollbacks and gc between them: every one whole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envpack.bundle.model import Item
from envpack.runtime.commands.verify import verify_deployment
from envpack.runtime.deployment.history import history
from envpack.runtime.report import Reporter
from envpack.runtime.store.gc import collect
from support.bundle_factory import file, link, make_bundle, text

AT_ONCE = 8

WORKER = """
import sys
from pathlib import Path
from envpack.runtime.store.gc import collect
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.report import Reporter
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.commands.verify import verify_deployment
what, root, store, bundle = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
if what == "deploy":
    done = deploy(bundle, root, DeployOptions(jobs=2, store=store, wait=True), reporter=Reporter())
elif what == "rollback":
    rollback(root, reporter=Reporter(), wait=True)
else:
    collect(store, reporter=Reporter())
"""


def segments(version: int) -> dict[str, list[Item]]:
    def package(name: str, number: int) -> list[Item]:
        return [
            *(file(f"lib/{name}/{index}.py", f"{name} {number} {index}\n".encode() * 300) for index in range(40)),
            text(f"bin/{name}", b"#!/bin/sh\necho @ %d\n" % number, 0o755),
            link(f"lib/{name}/latest", "0.py"),
        ]

    shared = {f"conda:p{number}": package(f"p{number}", 1) for number in range(6)}
    return {
        "runtime": [file("bin/activate", b"true\n")],
        **shared,
        f"pypi:demo-{version}": package("demo", version),
    }


def commands(tmp_path: Path, deployments: int, places: int) -> Iterator[tuple[str, Path, Path]]:
    """A rollback after every fourth deployment, a gc after every fifth."""
    for number in range(deployments):
        root = tmp_path / f"envs/{number % places}"
        yield "deploy", root, tmp_path / f"{1 + number // places % 2}.tar.gz"
        if number % 4 == 3 and number > places:
            yield "rollback", tmp_path / f"envs/{number % places}", root
        if number % 5 == 4:
            yield "gc", root, root


@pytest.mark.parametrize(
    ("deployments", "places", "least"), [(16, 4, 1), pytest.param(50, 10, 4, marks=pytest.mark.long)]
)
def test_deployments_with_rollbacks_and_gc_between_them(
    tmp_path: Path, deployments: int, places: int, least: int
) -> None:
    for version in (1, 2):
        make_bundle(tmp_path / f"{version}.tar.gz", segments(version), version=str(version))
    store = tmp_path / "store"
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}

    def run(command: tuple[str, Path, Path]) -> tuple[str, subprocess.CompletedProcess[str]]:
        what, root, bundle = command
        arguments = [sys.executable, "-c", WORKER, what, str(root), str(store), str(bundle)]
        return what, subprocess.run(arguments, capture_output=True, text=True, env=environment)

    todo = list(commands(tmp_path, deployments, places))
    run(todo.pop(0))  # so that there is a store
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = list(pool.map(run, todo))
    for what, process in done:
        # a rollback may come before there are two deployments to choose from
        nothing_kept = what == "rollback" and "DestinationError" in process.stderr
        assert process.returncode == 0 or nothing_kept, process.stderr
    assert sum(what == "rollback" and not process.returncode for what, process in done) >= least
    for number in range(places):
        root = tmp_path / f"envs/{number}"
        trees = [root, *(path for path in (tmp_path / f"envs/.{number}.envpack").glob("[0-9]*"))]
        assert len(trees) == 2
        assert len(history(root).generations) == deployments // places
        for tree in trees:
            found = verify_deployment(tree, reporter=Reporter(), jobs=1)
            assert (found.changed, found.missing, found.extra) == ((), (), ())
        assert verify_deployment(root, reporter=Reporter(), jobs=1).settled
    after = collect(store, reporter=Reporter())
    assert len(after.deployments) == places and after.kept == 9
    assert list((store / "1/work").iterdir()) == [] and list((store / "1/damaged").iterdir()) == []
