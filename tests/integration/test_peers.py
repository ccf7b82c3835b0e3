"""Complaints about conda-pack that no other test is about, each with the number of its row in docs/peers.md.

The environment is real, and so is the archive; what each test protects would break with conda-pack's behaviour.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from support.forked import envpack as forked
from support.real_environments import CLEAN, conda_install, lighten

NO_TEMPORARY_FOLDER = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), "/nonexistent")


def envpack(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    if arguments[0] == "pack":
        arguments = (*arguments, "--level", 1)
    return forked(*arguments, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def original(channel_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conda")
    conda_install([channel_url], folder / "envs/work", ["python", "click", "markdown-it-py"], folder / "cache")
    return lighten(folder / "envs/work")


@pytest.fixture(scope="module")
def bundle(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "work.tar.gz"
    done = envpack("pack", "-p", original, "-o", path, **NO_TEMPORARY_FOLDER)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def deployed(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("deployed") / "work"
    done = envpack("deploy", bundle, root, **NO_TEMPORARY_FOLDER)
    assert done.returncode == 0, done.stderr
    return root


def test_row_5_files_in_use_are_replaced(bundle: Path, tmp_path: Path) -> None:
    """'Text file busy' (#40, #47): the interpreter runs while the prefix is written into its own file."""
    deployed, moved = tmp_path / "work", tmp_path / "moved"
    done = envpack("deploy", bundle, deployed)
    assert done.returncode == 0, done.stderr
    deployed.rename(moved)
    with subprocess.Popen(
        [moved / "bin/python", "-c", "input()"], stdin=subprocess.PIPE, env=CLEAN, text=True
    ) as running:
        done = subprocess.run([moved / "bin/conda-unpack"], env=CLEAN, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert running.poll() is None
        running.communicate("\n")
    assert running.returncode == 0
    assert os.fsencode(deployed) + b"/" not in (moved / "bin/python").resolve().read_bytes()


def test_row_14_everybody_may_read_and_run_what_was_private(channel_url: str, tmp_path: Path) -> None:
    """Not executable or readable by other users (#355), and an archive of mode 0600 whatever the umask is."""
    prefix, name = tmp_path / "private", "relocation-samples"
    conda_install([channel_url], prefix, [name], tmp_path / "cache", only=[name])
    subprocess.run(["chmod", "-R", "go-rwx", prefix], check=True)
    old = os.umask(0o022)
    try:
        assert envpack("pack", "-p", prefix, "-o", tmp_path / "b.tar.gz").returncode == 0
        assert envpack("deploy", tmp_path / "b.tar.gz", tmp_path / "x").returncode == 0
        assert (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o644
        modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "x").rglob("*") if not path.is_symlink()}
        assert modes <= {0o644, 0o755}
        os.umask(0o077)
        assert envpack("deploy", tmp_path / "b.tar.gz", tmp_path / "mine").returncode == 0
        modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "mine").rglob("*") if not path.is_symlink()}
        assert modes <= {0o600, 0o700}
    finally:
        os.umask(old)


def test_row_17_no_member_is_there_twice(bundle: Path) -> None:
    """Duplicate members (#88)."""
    with tarfile.open(bundle) as archive:
        names = Counter(archive.getnames())
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_row_18_an_owner_s_deployment_serves_users_who_may_not_write(deployed: Path) -> None:
    """Read-only targets (#261): nothing is left to be written when another user activates."""
    for folder in deployed.parents:
        folder.chmod(folder.stat().st_mode | 0o005)
    script = f'. "{deployed}/bin/activate" && python -c "import click" && markdown-it --version'
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script]
    done = subprocess.run(command, env=CLEAN, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_row_19_no_temporary_folder_is_needed(bundle: Path, deployed: Path) -> None:
    """/tmp too small (#191): everything temporary lies beside the output and beside the destination."""
    for made in (bundle, deployed):
        assert list(made.parent.iterdir()) == [made]


# --- what was found besides: one environment with all of it ---


@pytest.fixture(scope="module")
def changed(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the environment after scripts were written and a file was edited in it."""
    prefix = tmp_path_factory.mktemp("changed") / "work"
    subprocess.run(["cp", "-a", original, prefix], check=True)
    for name, text in (
        ("python3-config", f"#!/bin/sh\necho {prefix}\n"),
        ("quiet", f"#!{prefix}/bin/python -s\nimport sys; print(sys.flags.no_user_site, sys.prefix)\n"),
        ("one", f"#!{prefix}/bin/python\nprint('it runs')\n"),
    ):
        (prefix / "bin" / name).write_text(text)
        (prefix / "bin" / name).chmod(0o755)
    (prefix / "bin/two").hardlink_to(prefix / "bin/one")
    init = next(prefix.glob("lib/python3.*/site-packages/click/__init__.py"))
    text = init.read_text() + "\nEDITED = True\n"
    init.unlink()
    init.write_text(text)
    done = envpack("pack", "-p", prefix, "-o", prefix.parent / "changed.tar.gz")
    assert done.returncode == 0, done.stderr
    return prefix.parent / "changed.tar.gz"


@pytest.fixture(scope="module")
def found(changed: Path) -> Path:
    done = envpack("deploy", changed, changed.parent / "x")
    assert done.returncode == 0, done.stderr
    return changed.parent / "x"


def test_found_scripts_named_after_python_are_relocated(found: Path) -> None:
    """conda-pack skips every bin/python* file, so python3.11-config keeps the former prefix, exit 0."""
    done = subprocess.run([found / "bin/python3-config"], env=CLEAN, capture_output=True, text=True)
    assert done.stdout.strip() == str(found)


def test_found_shebangs_keep_their_arguments(found: Path, changed: Path, tmp_path: Path) -> None:
    """`#!.../python -s` becomes `#!/usr/bin/env python -s` there, which Linux takes for one name."""
    blanks, long = tmp_path / "a place with blanks", tmp_path / ("d" * 150)
    for place in (found, blanks, long):
        assert place == found or envpack("deploy", changed, place).returncode == 0
        done = subprocess.run([place / "bin/quiet"], env=CLEAN, capture_output=True, text=True)
        assert done.stdout.strip() == f"1 {place}", done.stderr


def test_found_two_hard_linked_scripts_stay_one_and_whole(found: Path) -> None:
    """Two hard-linked scripts give a corrupt tar there."""
    assert (found / "bin/one").samefile(found / "bin/two")
    for name in ("one", "two"):
        done = subprocess.run([found / "bin" / name], env=CLEAN, capture_output=True, text=True)
        assert done.stdout == "it runs\n", done.stderr


def test_found_an_edit_in_place_is_packed_unchanged(found: Path) -> None:
    """In-place edits of managed files are silently lost there, since the package cache is read instead."""
    script = "import click; print(click.EDITED)"
    done = subprocess.run([found / "bin/python", "-c", script], env=CLEAN, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
