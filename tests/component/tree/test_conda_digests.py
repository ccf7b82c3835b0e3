"""Digests of installed files in the records of a deployment: written, and renewed with another prefix."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from envpack.bundle.codecs import FAST
from envpack.runtime.commands.deploy import DeployOptions, deploy
from envpack.runtime.commands.move import move
from envpack.runtime.commands.repair import repair
from envpack.runtime.commands.rollback import rollback
from envpack.runtime.commands.verify import verify
from envpack.runtime.extract.previous import PreviousDeployment
from envpack.runtime.extract.tree_writer import Tree
from envpack.runtime.fs.atomic import ReplaceBatch
from envpack.runtime.reader.bundle import open_bundle
from envpack.runtime.report import Reporter
from envpack.runtime.tree.head import read_head
from envpack.runtime.tree.local_changes import local_changes
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix
from support.conda_records import PLACEHOLDER, SITE_PACKAGES, CondaEnvironment
from support.reporters import RecordingReporter
from support.small_prefix import SmallPrefix

FORCED_PARALLEL = [sys.executable, Path(__file__).parents[2] / "support/forced_parallel.py"]
RECORD = "conda-meta/demo-1.0-0.json"
FILES = {"etc/a": f"at {PLACEHOLDER}/a\n".encode(), "etc/b": f"at {PLACEHOLDER}/b\n".encode(), "etc/c": b"none\n"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A deployment in which conda has installed its package once more."""
    made = CondaEnvironment(tmp_path / "env")
    made.install("demo", FILES)
    root = SmallPrefix(made.prefix).moved(tmp_path)
    document = json.loads((root / RECORD).read_text())
    for item in document["paths_data"]["paths"]:
        item["sha256_in_prefix"] = hashlib.sha256((root / item["_path"]).read_bytes()).hexdigest()
    (root / RECORD).unlink()
    (root / RECORD).write_text(json.dumps(document, indent=2))
    return root


def altered(root: Path) -> list[str]:
    """Return the files that conda doctor finds (conda/plugins/subcommands/doctor, ``find_altered_packages``)."""
    items: list[dict[str, Any]] = json.loads((root / RECORD).read_text())["paths_data"]["paths"]
    assert len(items) == len(FILES) and all(item["sha256_in_prefix"] for item in items)
    found = {item["_path"]: hashlib.sha256((root / item["_path"]).read_bytes()).hexdigest() for item in items}
    return [item["_path"] for item in items if found[item["_path"]] != item["sha256_in_prefix"]]


def test_after_a_move_nothing_is_altered(root: Path, tmp_path: Path) -> None:
    at = root
    for place in (tmp_path / "moved", tmp_path / "a place", root):
        move(at, place, reporter=Reporter())
        at = place
        assert altered(place) == []
        assert str(place) in (place / "etc/a").read_text()


def test_what_was_altered_before_stays_so(root: Path, tmp_path: Path) -> None:
    for name in ("etc/a", "etc/c"):
        (root / name).write_text("edited\n")
    move(root, tmp_path / "moved", reporter=Reporter())
    assert altered(tmp_path / "moved") == ["etc/a", "etc/c"]


def test_a_rewrite_that_was_interrupted_is_completed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = root.rename(tmp_path / "moved")
    put = ReplaceBatch.put

    def interrupted(batch: ReplaceBatch) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ReplaceBatch, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rewrite_prefix(place, Reporter())
    monkeypatch.setattr(ReplaceBatch, "put", put)
    text = (place / "etc/a").read_text().replace(str(root), str(place))
    (place / "etc/a").write_text(text)  # one of the files was renamed already
    rewrite_prefix(place, Reporter())
    assert altered(place) == []
    assert [path.name for path in (place / "conda-meta").iterdir() if path.name.startswith(".")] == []


LINKED = {"bin/tool": f"#!{PLACEHOLDER}/bin/python\n".encode(), "share/none": b"none\n"}


class Deployed:
    """Deployments of one bundle, with files of two packages that contain the prefix."""

    def __init__(self, folder: Path) -> None:
        made = CondaEnvironment(folder / "env")
        made.install("demo", FILES)
        made.install("tool", LINKED, timestamp=1)
        made.install("pure", {"site-packages/pure.py": b""}, noarch=True, entry_points=["pure = pure:main"])
        (made.prefix / "bin/link").hardlink_to(made.prefix / "bin/tool")
        self.folder, self.bundle = folder, folder / "b.tar.gz"
        SmallPrefix(made.prefix).pack(self.bundle, level=1)

    def at(self, name: str, **options: Any) -> Path:
        deploy(self.bundle, self.folder / name, DeployOptions(**options), reporter=Reporter(), decoders=FAST)
        return self.folder / name


def digests(root: Path) -> dict[str, str]:
    """The digests of all records, each compared with its file, by path; as conda doctor does."""
    found = {}
    for place in (root / "conda-meta").glob("*.json"):
        for item in json.loads(place.read_text())["paths_data"]["paths"]:
            if "sha256_in_prefix" in item:
                found[item["_path"]] = item["sha256_in_prefix"]
                assert item["sha256_in_prefix"] == hashlib.sha256((root / item["_path"]).read_bytes()).hexdigest()
    return found


ALL = {"etc/a", "etc/b", "etc/c", "bin/tool", "share/none", "bin/pure", f"{SITE_PACKAGES}/pure.py"}


def is_as_packed(root: Path) -> bool:
    verify(root, reporter=Reporter()).require()
    return list(local_changes(root)) == [] and digests(root).keys() == ALL


def tree(root: Path) -> dict[str, tuple[bytes, int]]:
    files = [place for place in root.rglob("*") if place.is_file() and ".envpack" not in place.parts]
    return {str(p.relative_to(root)): (p.read_bytes(), int(p.stat().st_mtime)) for p in files}


def test_a_deployment_has_the_digests_of_files_with_the_prefix(tmp_path: Path) -> None:
    made = Deployed(tmp_path)
    assert is_as_packed(made.at("one", jobs=1)) and is_as_packed(made.at("two", jobs=4))
    assert tree(tmp_path / "one").keys() == tree(tmp_path / "two").keys()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked only on Linux")
def test_worker_processes_report_the_digests(tmp_path: Path) -> None:
    made = Deployed(tmp_path)
    command = [*FORCED_PARALLEL, "deploy", made.bundle, tmp_path / "one", "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1].split()[1] != "0"
    assert is_as_packed(tmp_path / "one")


def test_records_that_a_store_shares_stay_as_they_are(tmp_path: Path) -> None:
    made = Deployed(tmp_path)
    for name in ("one", "two", "one"):
        assert is_as_packed(made.at(name, store=tmp_path / "store"))
    stored = [place for place in (tmp_path / "store").rglob("*") if place.is_file()]
    digest = digests(tmp_path / "one")["etc/a"].encode()
    assert stored and not any(digest in place.read_bytes() for place in stored)
    assert is_as_packed(tmp_path / "two")


def test_a_tree_that_tar_unpacked_is_the_same_after_its_activation(tmp_path: Path) -> None:
    made = Deployed(tmp_path)
    expected = tree(made.at("one"))
    (tmp_path / "one").rename(tmp_path / "aside")
    (tmp_path / "one").mkdir()
    subprocess.run(["tar", "-xzf", made.bundle, "-C", tmp_path / "one"], check=True)
    rewrite_prefix(tmp_path / "one", Reporter())
    assert tree(tmp_path / "one") == expected


def test_they_follow_a_move_and_an_edit_is_still_found(tmp_path: Path) -> None:
    move(Deployed(tmp_path).at("one"), tmp_path / "a longer name", reporter=Reporter())
    root = tmp_path / "a longer name"
    assert is_as_packed(root)
    (root / "etc/a").write_text("edited\n")
    move(root, tmp_path / "b", reporter=Reporter())
    verified = verify(tmp_path / "b", reporter=Reporter())
    assert [item.path for item in verified.changed] == ["etc/a"]
    with pytest.raises(AssertionError):
        digests(tmp_path / "b")


def test_they_are_there_after_an_upgrade_a_rollback_and_a_move_of_both(tmp_path: Path) -> None:
    made = Deployed(tmp_path)
    made.at("one")
    made.at("one")
    move(tmp_path / "one", tmp_path / "two", reporter=Reporter())
    assert is_as_packed(tmp_path / "two")
    rollback(tmp_path / "two", reporter=Reporter())
    assert is_as_packed(tmp_path / "two")


def test_repair_writes_them_again(tmp_path: Path) -> None:
    made = Deployed(tmp_path)
    root = made.at("one")
    for path in ("conda-meta/demo-1.0-0.json", "etc/a", "conda-meta/pure-1.0-0.json"):
        (root / path).unlink()
    (root / "conda-meta/tool-1.0-0.json").write_text((root / "conda-meta/tool-1.0-0.json").read_text() + " ")
    mended = repair(root, made.bundle, reporter=Reporter(), decoders=FAST).mended
    assert len(mended) == 4 and is_as_packed(root)


def test_another_bundle_of_the_deployment_is_the_same(tmp_path: Path) -> None:
    made = Deployed(tmp_path)
    root = made.at("one")
    manifest = SmallPrefix(root).pack(tmp_path / "again.tar.gz", level=1)
    assert manifest.changes.modified == manifest.changes.missing == ()
    with open_bundle(made.bundle, FAST) as one, open_bundle(tmp_path / "again.tar.gz", FAST) as two:
        first, second = one.table(), two.table()
        records = [r for r in first if r.path.startswith("conda-meta/") and r.path.endswith(".json")]
        assert {r.path: r.sha256 for r in records} == {
            r.path: r.sha256 for r in second if r.path in {record.path for record in records}
        }
        assert one.manifest.changes == two.manifest.changes
    (root / "bin/activate").write_text("true\n")
    assert SmallPrefix(root).pack(tmp_path / "edited.tar.gz", level=1).changes.replaced == ("bin/activate",)


def test_records_are_copied_from_the_previous_deployment(tmp_path: Path) -> None:
    root = Deployed(tmp_path).at("one")
    manifest, table, _ = read_head(root)
    (tmp_path / "new").mkdir()
    writer = Tree(os.fsencode(tmp_path / "new"), os.fsencode(root))
    previous = PreviousDeployment(root, table, os.fsencode(root))
    with Reporter().step("", 1) as step:
        assert previous.supply(manifest, table, writer, step, 2) == {s.id for s in manifest.segments}


@pytest.mark.parametrize("noarch", [False, True])
def test_packages_that_conda_installed_are_named_when_they_keep_the_old_path(
    root: Path, tmp_path: Path, noarch: bool
) -> None:
    CondaEnvironment(root).install("plain", {"share/plain": b"nothing"})
    reporter = RecordingReporter()
    move(root, tmp_path / "one", reporter=reporter)
    assert reporter.warnings == []
    made = CondaEnvironment(tmp_path / "one")
    if noarch:
        made.install("later", {"site-packages/later.py": b""}, noarch=True, entry_points=["later = later:main"])
    else:
        made.install("later", {"etc/later": f"{PLACEHOLDER}\n".encode()})
    move(tmp_path / "one", tmp_path / "two", reporter=reporter)
    assert [text.rpartition(" ")[2] for text in reporter.warnings] == ["later"]
