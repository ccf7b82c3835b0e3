"""A move of deployments in which conda and their users have changed, removed and added things."""

from __future__ import annotations

from pathlib import Path

from envpack.runtime.commands.move import move
from support.reporters import RecordingReporter
from support.small_prefix import SmallPrefix


def test_only_files_that_may_keep_the_old_path_are_warned_of(tmp_path: Path) -> None:
    """conda adds to its history with every command, and `conda remove` removes files."""
    prefix = SmallPrefix(tmp_path / "env")
    prefix.write("conda-meta/history", f"==> 2026-01-01 00:00:00 <==\n# cmd: conda create -p {prefix.path}\n")
    for name in ("edited", "removed", "same"):
        prefix.write(f"bin/{name}", f"#!/bin/sh\necho {prefix.path}\n", 0o755)
    root = prefix.moved(tmp_path / "a")
    with (root / "conda-meta/history").open("a") as history:
        history.write(f"==> 2026-02-01 00:00:00 <==\n# cmd: conda remove -p {root} removed\n")
    (root / "bin/removed").unlink()
    (root / "bin/edited").write_text(f"#!/bin/sh\necho {root} edited\n")
    reporter = RecordingReporter()
    move(root, tmp_path / "b", reporter=reporter)
    assert reporter.warnings == ["bin/edited was changed after its deployment; the path in it was not rewritten"]
    assert (tmp_path / "b/bin/same").read_text() == f"#!/bin/sh\necho {tmp_path}/b\n"
    assert "removed" in (tmp_path / "b/conda-meta/history").read_text()
