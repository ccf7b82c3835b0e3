"""Digests in the records of what conda installed in a deployment, when the deployment gets another prefix."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from envpack.runtime.commands.move import move
from envpack.runtime.commands.verify import verify
from envpack.runtime.fs.atomic import ReplaceBatch
from envpack.runtime.report import Reporter
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix
from support.conda_records import PLACEHOLDER, CondaEnvironment
from support.reporters import RecordingReporter
from support.small_prefix import SmallPrefix

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


def test_records_of_the_bundle_are_not_touched(tmp_path: Path) -> None:
    made = CondaEnvironment(tmp_path / "env")
    made.install("demo", FILES)
    root = SmallPrefix(made.prefix).moved(tmp_path)
    before = (root / RECORD).stat()
    move(root, tmp_path / "moved", reporter=Reporter())
    after = (tmp_path / "moved" / RECORD).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    verify(tmp_path / "moved", reporter=Reporter()).require()


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
