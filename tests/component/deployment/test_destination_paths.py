"""Paths of temporary outputs: beside the destination, with short names, removed after a failure."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from envpack.runtime.commands.deploy import deploy
from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.paths import NAME_MAX, folders_for, sibling_path
from envpack.runtime.fs.temporary import replace_file
from envpack.runtime.report import Reporter
from envpack.runtime.tree.rewrite_prefix import rewrite_prefix
from support.bundle_factory import file, make_bundle, text

LONG = "n" * 255
WIDE = "ü" * 127


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "b.tar.gz", {"environment": [text(f"bin/{LONG}", b"#!@/bin/x\n", 0o755)]})
    return tmp_path / "b.tar.gz"


@pytest.mark.parametrize("name", ["x", "a b.tar.gz", LONG, WIDE, os.fsdecode(b"\xff" * 255)])
def test_what_is_made_beside_has_a_name_every_filesystem_takes(name: str) -> None:
    made = sibling_path(Path("/srv") / name, "envpack-staging")
    assert made.parent == Path("/srv")
    assert len(os.fsencode(made.name)) <= NAME_MAX
    assert made.name.startswith(".") and made.name.endswith(".envpack-staging")
    assert made == sibling_path(Path("/srv") / name, "envpack-staging")
    os.fsencode(made.name[: 60 if name in (LONG, WIDE) else None]).decode("utf-8")


def test_names_that_differ_in_their_ends_are_made_in_different_places() -> None:
    assert (
        sibling_path(Path(LONG), "x")
        != sibling_path(Path(LONG[:-1] + "m"), "x")
        != sibling_path(Path(LONG[:-1]), "x")
    )
    assert sibling_path(Path("/srv/env"), "envpack-staging") == Path("/srv/.env.envpack-staging")


@pytest.mark.parametrize("name", [LONG, WIDE])
def test_a_destination_s_name_may_be_as_long_as_the_filesystem_takes(
    bundle: Path, tmp_path: Path, name: str
) -> None:
    place = tmp_path / name
    deploy(bundle, place, reporter=Reporter())
    assert (place / "bin" / LONG).read_bytes() == b"#!" + os.fsencode(place) + b"/bin/x\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["b.tar.gz", name])


def test_a_file_s_name_may_be_as_long_when_the_prefix_is_written_in(bundle: Path, tmp_path: Path) -> None:
    root = tmp_path / "x"
    root.mkdir()
    subprocess.run(["tar", "-xzf", bundle, "-C", root], check=True)
    assert rewrite_prefix(root, Reporter()).written == 1
    root = root.rename(tmp_path / "moved")
    assert rewrite_prefix(root, Reporter()).changed == ()
    assert (root / "bin" / LONG).read_bytes() == f"#!{root}/bin/x\n".encode()
    assert [path.name for path in (root / "bin").iterdir()] == [LONG]


def test_outputs_of_any_name_are_written(tmp_path: Path) -> None:
    name = "n" * 248 + ".tar.gz"
    make_bundle(tmp_path / name, {"environment": [file("a", b"1")]})
    path = tmp_path / LONG
    replace_file(path, b"text")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, LONG])


def test_folders_made_for_an_output_are_gone_when_it_could_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()

    def items() -> object:
        yield file("a", b"1")
        raise RuntimeError("reading failed")

    with pytest.raises(RuntimeError):
        make_bundle(tmp_path / "there/new/dir/b.tar.gz", {"environment": items()})  # type: ignore[dict-item]
    with pytest.raises(DestinationError):
        make_bundle(tmp_path / "there/new" / LONG / (LONG + ".tar.gz"), {})
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_folders_others_use_meanwhile_stay(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), folders_for(tmp_path / "a/b/c/out"):
        (tmp_path / "a/b/mine").touch()
        raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "mine"]


def test_folders_that_can_t_be_made_leave_none_of_their_parents(tmp_path: Path) -> None:
    with (
        pytest.raises(DestinationError, match="can't create"),
        folders_for(tmp_path / "a/b" / (LONG + "n") / "out"),
    ):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []
