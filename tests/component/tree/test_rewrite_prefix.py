"""Writing the prefix into an unpacked tree: after tar, after a move, twice at once, and when stopped midway."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envpack.bundle.model import Item
from envpack.runtime.commands.deploy import deploy
from envpack.runtime.errors import IntegrityError, RelocationError
from envpack.runtime.format.layout import PREFIX_PATH
from envpack.runtime.format.manifest import PathRecord
from envpack.runtime.report import Reporter
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix
from support.bundle_factory import file, make_bundle, text
from support.trees import contents

ITEMS = [
    *(text(f"bin/{name}", b"#!/bin/sh\necho @ " + name.encode() + b"\n", 0o755) for name in "abcdefgh"),
    Item(PathRecord("bin/same-as-a", "hardlink", target="bin/a")),
    file("lib/plain", b"plain"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree as plain tar leaves it."""
    root = tmp_path / "x"
    root.mkdir()
    make_bundle(tmp_path / "b.tar.gz", {"environment": ITEMS})
    subprocess.run(["tar", "-xzf", tmp_path / "b.tar.gz", "-C", root], check=True)
    return root


def assert_prefix_in_files(root: Path, prefix: Path) -> None:
    for name in "abcdefgh":
        assert (root / f"bin/{name}").read_text() == f"#!/bin/sh\necho {prefix} {name}\n"


def test_after_tar_the_tree_is_what_a_deployment_is(root: Path, tmp_path: Path) -> None:
    rewrite_prefix(root, Reporter())
    rewritten = contents(root, own=False)
    root.rename(tmp_path / "tarred")
    deploy(tmp_path / "b.tar.gz", root, reporter=Reporter())
    assert contents(root, own=False) == rewritten


def test_a_tree_moves_any_number_of_times(root: Path, tmp_path: Path) -> None:
    for name in ("x", "much longer than before", "y", "x"):
        root = root.rename(tmp_path / name)
        done = rewrite_prefix(root, Reporter())
        assert done.changed == ()
        assert_prefix_in_files(root, root)
    assert rewrite_prefix(root, Reporter()).written == 0


def test_through_a_link_the_real_path_is_written(root: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(root)
    rewrite_prefix(tmp_path / "current", Reporter())
    assert_prefix_in_files(root, root)


def test_hard_links_stay_one_file(root: Path) -> None:
    rewrite_prefix(root, Reporter())
    assert (root / "bin/a").stat().st_ino == (root / "bin/same-as-a").stat().st_ino
    assert f"{root} a" in (root / "bin/same-as-a").read_text()


@pytest.mark.parametrize("after", range(9))
def test_after_any_interruption_the_next_call_continues(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    rewrite_prefix(root, Reporter())
    root = root.rename(tmp_path / "moved")
    calls = 0
    replace: Callable[..., None] = os.replace

    def stop(source: object, target: object) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        rewrite_prefix(root, Reporter())
    monkeypatch.undo()
    rewrite_prefix(root, Reporter())
    assert_prefix_in_files(root, root)
    assert not [path for path in root.rglob("*") if "envpack-new" in path.name]


def test_many_at_once_write_it_once(root: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: rewrite_prefix(root, Reporter()), range(8)))
    assert sorted(each.written for each in done) == [0] * 7 + [8]
    assert_prefix_in_files(root, root)


def test_a_file_edited_since_is_left_and_reported(root: Path, tmp_path: Path) -> None:
    rewrite_prefix(root, Reporter())
    (root / "bin/a").write_text("mine")
    (root / "bin/b").unlink()
    root = root.rename(tmp_path / "moved")
    assert rewrite_prefix(root, Reporter()).changed == ("bin/a", "bin/b")
    assert (root / "bin/a").read_text() == "mine"
    assert str(root) in (root / "bin/c").read_text()


def test_a_file_damaged_before_the_first_use_is_refused(root: Path) -> None:
    (root / "bin/a").write_text("damaged")
    with pytest.raises(IntegrityError) as caught:
        rewrite_prefix(root, Reporter())
    assert caught.value.details == ["bin/a"]
    assert not (root / PREFIX_PATH).exists()


def test_an_edited_table_is_refused(root: Path) -> None:
    table = root / ".envpack/paths.json"
    table.write_bytes(table.read_bytes().replace(b"bin/b", b"bin/B"))
    with pytest.raises(IntegrityError, match="changed"):
        rewrite_prefix(root, Reporter())


def test_a_prefix_that_breaks_scripts_is_refused(root: Path, tmp_path: Path) -> None:
    root = root.rename(tmp_path / "a$b")
    with pytest.raises(RelocationError):
        rewrite_prefix(root, Reporter())
    assert not (root / PREFIX_PATH).exists()
