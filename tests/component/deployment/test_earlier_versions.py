"""Bundles, deployments, stores and caches that an earlier version made: this one reads and changes them.

``tests/data/earlier`` has an archive for each commit, made by its own code with the script beside it:

- ``demo-1`` to ``demo-3``, the bundles of ``sample_deployments`` in both formats, and ``kinds``, an environment
  with files of every kind that is relocated; signatures by ``ci.key``, and ``host``, which requires them
- ``x``, where 2 was deployed over 1; ``y``, the same with the store ``store``; ``changed``, the same edited by
  hand; ``by-hand``, the same moved by ``mv``; ``kinds`` deployed once; ``state``, the list of them
- ``cache``, which packing ``kinds`` filled
- ``crashed``, whatever each command left that was killed between two changes of names

Their records name the folder they were made in. Unpacked here, they name this one: nothing else can be touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envpack.cli.app import main
from envpack.cli.console import Console
from envpack.runtime.__main__ import main as runtime_main
from support.sample_deployments import state_entries, whole_version

DATA = Path(__file__).resolve().parents[2] / "data" / "earlier"
ARCHIVES = sorted(DATA.glob("*.tar.gz"))
BUNDLES = [f"demo-{version}{suffix}" for version in "123" for suffix in (".tar.gz", ".tar.zst")]
BUNDLES += ["kinds.tar.gz", "kinds.tar.zst"]
USUAL = {"demo-1.tar.gz", "demo-3.tar.zst", "kinds.tar.gz", "kinds.tar.zst"}
SOME_BUNDLES = [pytest.param(name, marks=[] if name in USUAL else [pytest.mark.long]) for name in BUNDLES]


class Earlier:
    """Extract an archive into ``folder``; of ``crashed`` only the state that ``command`` left."""

    def __init__(self, archive: Path, folder: Path, command: str) -> None:
        self.folder = folder
        folder.mkdir()
        others = [f"--exclude=./crashed/{name}-[0-9]*" for name in FINISHED if name != command]
        subprocess.run(["tar", "-xzf", archive, "-C", folder, *others], check=True)
        self.made_in = (folder / "made-in").read_text()
        records = [*folder.rglob(".envpack/deployment.json"), *folder.rglob(".envpack/.deployment.json.new")]
        records += [*folder.glob("state/*"), *folder.glob("store/*/roots/*"), *folder.rglob("moving")]
        for path in (*records, *folder.glob("cache/*/bundles/*.json")):
            self._name_this_folder(path)
        assert not [path for path in folder.rglob("*.json") if self.made_in in path.read_text()]

    def _name_this_folder(self, path: Path) -> None:
        text = path.read_text()
        path.write_text(text.replace(self.made_in, str(self.folder)))
        if path.parent.name in ("state", "roots"):  # named by the digest of the place
            place = text.rstrip("\n") if path.parent.name == "state" else json.loads(text)["path"]
            assert path.stem == hashlib.sha256(os.fsencode(place)).hexdigest()
            here = place.replace(self.made_in, str(self.folder))
            path.rename(path.with_name(hashlib.sha256(os.fsencode(here)).hexdigest() + path.suffix))

    def __truediv__(self, path: str) -> Path:
        return self.folder / path


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def earlier(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Earlier:
    parameters = request.node.callspec.params
    made = Earlier(request.param, tmp_path / "earlier", parameters.get("command", ""))
    monkeypatch.setenv("ENVPACK_STATE", str(made / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return made


def run(*words: object, code: int = 0, root: Path = Path("/")) -> None:
    """Run envpack on a host with the root folder ``root``."""
    console = Console.of_process()
    console.root = root
    assert main([str(word) for word in words], console) == code, words


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    capsys.readouterr()
    run(*words, "--json")
    return json.loads(capsys.readouterr().out)["result"]


def runtime(*words: object) -> None:
    """The runtime of a bundle, which activation and hosts without envpack use."""
    assert runtime_main([str(word) for word in words]) == 0, words


def whole_kinds(earlier: Earlier, root: Path) -> None:
    """Makes sure that ``kinds`` stands at ``root``, written for its place."""
    for name in ("show", "show-too", "script", "packaged"):
        done = subprocess.run([root / "bin" / name], capture_output=True, text=True, check=True)
        assert done.stdout == f"{root}\n", name
    for path in root.rglob("*"):
        if path.is_file() and path.name != "deployment.json":
            assert os.fsencode(earlier.made_in) not in path.read_bytes(), path
            assert not path.name.endswith((".envpack-new", ".new")), path
    assert (root / "share/absolute").read_bytes() == b"x"
    assert (root / "bin/show").samefile(root / "bin/show-too")
    run("verify", root)


# --- bundles ---


@pytest.mark.parametrize("name", SOME_BUNDLES)
def test_its_bundles_are_read_converted_and_deployed(earlier: Earlier, name: str) -> None:
    bundle, root = earlier / name, earlier / "new"
    run("inspect", bundle)
    run("verify", bundle)
    run("check", bundle)
    run("deploy", bundle, root, "--no-check")
    if name.startswith("kinds"):
        whole_kinds(earlier, root)
        run("convert", bundle, earlier / "converted.zip")
        run("inspect", earlier / "converted.zip")
    else:
        assert whole_version(root) == name[len("demo-")]


@pytest.mark.parametrize("name", SOME_BUNDLES)
def test_its_signatures_hold_and_its_key_signs(earlier: Earlier, name: str) -> None:
    bundle, root = earlier / name, earlier / "new"
    run("verify", bundle, "--key", earlier / "ci.pub")
    run("deploy", bundle, root, "--no-check", root=earlier / "host")
    (earlier / f"{name}.minisig").unlink()
    run("verify", bundle, "--key", earlier / "ci.pub", code=7)
    run("deploy", bundle, root, "--no-check", code=7, root=earlier / "host")
    run("sign", bundle, "--key", earlier / "ci.key")
    run("verify", bundle, "--key", earlier / "ci.pub")


# --- deployments ---


@pytest.mark.parametrize("name", ["x", "y"])
def test_its_deployments_are_upgraded_rolled_back_moved_and_removed(earlier: Earlier, name: str) -> None:
    root, moved = earlier / name, earlier / "moved"
    store = ("--store", earlier / "store") if name == "y" else ()
    runtime("unpack", root)
    assert whole_version(root) == "2" and state_entries(root) == ["1"]
    run("verify", root)
    run("check", root)
    run("history", root)
    run("deploy", earlier / "demo-3.tar.gz", root, "--no-check", *store)
    assert whole_version(root) == "3" and state_entries(root) == ["2"]
    run("rollback", root)
    assert whole_version(root) == "2"
    run("move", root, moved)
    assert whole_version(moved) == "2"
    run("verify", moved)
    run("remove", moved)
    assert not moved.exists() and not root.exists()


def test_its_list_is_read(earlier: Earlier, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "list")["deployments"]
    assert [Path(one["path"]).name for one in found] == ["changed", "kinds", "x", "y"]
    run("remove", earlier / "x")
    assert len(answer(capsys, "list")["deployments"]) == 3
    assert len(list((earlier / "state").iterdir())) == 3


def test_its_previous_generation_is_rolled_back_to(earlier: Earlier) -> None:
    run("rollback", earlier / "x")
    assert whole_version(earlier / "x") == "1"
    run("rollback", earlier / "x", "--to", 2)
    assert whole_version(earlier / "x") == "2"


def test_a_deployment_that_was_moved_by_hand_gets_its_previous_generations(earlier: Earlier) -> None:
    moved = earlier / "by-hand/moved"
    runtime("unpack", moved)
    run("deploy", earlier / "demo-3.tar.gz", moved, "--no-check", "--keep", 2)
    assert whole_version(moved) == "3" and state_entries(moved) == ["1", "2"]
    assert not (earlier / "by-hand/.x.envpack").exists()


def test_its_deployments_are_repaired(earlier: Earlier) -> None:
    root = earlier / "changed"
    runtime("unpack", root)
    run("verify", root, code=7)
    run("repair", root, earlier / "demo-2.tar.gz")
    (root / "lib/mine").unlink()
    assert whole_version(root) == "2"
    run("verify", root)


def test_files_of_every_kind_get_the_place_they_are_moved_to(earlier: Earlier) -> None:
    runtime("unpack", earlier / "kinds")
    whole_kinds(earlier, earlier / "kinds")
    run("move", earlier / "kinds", earlier / "moved")
    whole_kinds(earlier, earlier / "moved")


# --- stores and caches ---


def test_its_store_is_used_and_collected(earlier: Earlier) -> None:
    segments = earlier / "store/1/segments"
    before = sorted(segments.glob("*/*"))
    run("deploy", earlier / "demo-2.tar.gz", earlier / "z", "--no-check", "--store", earlier / "store")
    assert whole_version(earlier / "z") == "2" and sorted(segments.glob("*/*")) == before
    run("gc", "--store", earlier / "store")
    assert sorted(segments.glob("*/*")) == before
    for name in "zy":
        run("remove", earlier / name)
    run("gc", "--store", earlier / "store")
    assert not list(segments.glob("*/*")) and not list((earlier / "store/1/roots").iterdir())


def test_its_cache_changes_nothing_and_is_cleared(
    earlier: Earlier, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime("unpack", earlier / "kinds")
    packed = [earlier / "without.tar.gz", earlier / "with.tar.gz"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    for output, cache in zip(packed, ("", str(earlier / "cache")), strict=True):
        monkeypatch.setenv("ENVPACK_CACHE", cache)
        run("pack", "-p", earlier / "kinds", "-o", output)
    assert packed[0].read_bytes() == packed[1].read_bytes()
    assert answer(capsys, "cache")["bundles"] == 3
    run("cache", "clear")
    assert not [path for path in (earlier / "cache").rglob("*") if path.is_file()]


# --- what it left when it was killed ---


def deployed_for_the_first_time(earlier: Earlier, folder: Path) -> None:
    root = folder / "x"
    run("deploy", earlier / "demo-2.tar.gz", root, "--no-check")
    assert whole_version(root) == "2"
    run("remove", root)
    assert not list(folder.iterdir())


def upgraded(earlier: Earlier, folder: Path) -> None:
    root = folder / "x"
    if root.exists():
        run("history", root)
    run("deploy", earlier / "demo-3.tar.gz", root, "--no-check")
    assert whole_version(root) == "3"
    run("rollback", root)
    assert whole_version(root) in ("1", "2")
    run("remove", root)
    assert not list(folder.iterdir())


def rolled_back(earlier: Earlier, folder: Path) -> None:
    root = folder / "x"
    runtime("unpack", root)
    order = "12" if whole_version(root) == "2" else "21"
    for version in order:  # each has the generation of the same number
        run("rollback", root, "--to", version)
        assert whole_version(root) == version and state_entries(root) == ["12".replace(version, "")]


def removed(earlier: Earlier, folder: Path) -> None:
    if list(folder.iterdir()):
        run("remove", folder / "x")
    assert not list(folder.iterdir())


def moved(earlier: Earlier, folder: Path) -> None:
    root = folder / "moved"
    if list(folder.glob("*x*")):
        run("move", folder / "x", root)
    else:
        runtime("unpack", root)
    assert whole_version(root) == "2" and state_entries(root) == ["1"]
    run("rollback", root)
    assert whole_version(root) == "1"
    assert not list(folder.glob("*x*"))


def rewritten(earlier: Earlier, folder: Path) -> None:
    runtime("unpack", folder / "moved")
    whole_kinds(earlier, folder / "moved")


FINISHED: dict[str, Callable[[Earlier, Path], None]] = {
    "first": deployed_for_the_first_time,
    "upgrade": upgraded,
    "upgrade-in-steps": upgraded,
    "rollback": rolled_back,
    "remove": removed,
    "move": moved,
    "rewrite": rewritten,
}


@pytest.mark.parametrize("command", FINISHED)
def test_what_it_was_killed_at_is_finished_or_taken_back(earlier: Earlier, command: str) -> None:
    folders = sorted((earlier / "crashed").iterdir())
    assert folders
    for folder in folders:
        print(folder.name)
        FINISHED[command](earlier, folder)
