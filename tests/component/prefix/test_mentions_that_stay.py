"""Warnings of mentions of the environment's path that no deployment can replace."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from envpack.prefix.inventory import read_prefix
from envpack.runtime.errors import PackError
from envpack.runtime.report import PlainReporter
from support.reporters import RecordingReporter
from support.small_prefix import SmallPrefix


@pytest.fixture
def env(tmp_path: Path) -> SmallPrefix:
    return SmallPrefix(tmp_path / "env")


def stays(env: SmallPrefix) -> dict[str, str]:
    """The reasons in the manifest, by path."""
    manifest = env.pack(env.path.parent / "b.tar.zst")
    return {item.path: item.reason for item in manifest.changes.unrelocatable}


def test_names_of_files_and_folders_are_reported(env: SmallPrefix) -> None:
    env.write(f"staging{env.path}/lib/x", "")
    env.write("cache/" + str(env.path).replace("/", "%2F") + "%2Fx", "")
    env.write("share/other", "")
    assert set(stays(env)) == {
        f"staging{env.path}/lib/x",
        "cache/" + str(env.path).replace("/", "%2F") + "%2Fx",
    }


def test_what_stays_is_in_the_manifest_also_from_the_cache(env: SmallPrefix, tmp_path: Path) -> None:
    env.write("etc/a.conf", f"a = {env.path}2\nb = {env.path}/lib\n")
    env.write("etc/b.bin", f"{env.path}/x".encode("utf-32-le") + b"\0\0\0\0")
    first = env.pack(tmp_path / "1.tar.zst", cache=tmp_path / "cache").changes
    second = env.pack(tmp_path / "2.tar.zst", cache=tmp_path / "cache").changes
    assert [item.path for item in first.unrelocatable] == ["etc/a.conf", "etc/b.bin"]
    assert first == second and (tmp_path / "1.tar.zst").read_bytes() == (tmp_path / "2.tar.zst").read_bytes()


def test_a_script_of_sed_works_after_the_move(env: SmallPrefix, tmp_path: Path) -> None:
    env.write("bin/into", f'#!/bin/sh\necho PFX/share | sed "s@PFX@{env.path}@"\n', 0o755)
    env.write("bin/back", f'#!/bin/sh\necho "{env.path}/share" | sed "s@{env.path}@PFX@"\n', 0o755)
    place = env.moved(tmp_path / "moved")
    said = [subprocess.run([place / "bin" / name], capture_output=True, text=True) for name in ("into", "back")]
    assert [one.stdout.strip() for one in said] == [f"{place}/share", "PFX/share"]


def test_a_copy_whose_scripts_run_the_original_is_reported(env: SmallPrefix, tmp_path: Path) -> None:
    env.write("bin/python3", "")
    env.write("bin/pip", f"#!{env.path}/bin/python3\nimport pip\n", 0o755)
    long = f"#!/bin/sh\n'''exec' \"{env.path}/bin/python3\" \"$0\" \"$@\"\n' '''\n"
    env.write("bin/long", long, 0o755)
    perl = f'#!/bin/sh\neval \'exec "{env.path}/bin/perl" -x "$0" "$@"\'\n  if 0;\n#!perl\n'
    env.write("bin/long-perl", perl, 0o755)
    env.write("bin/system", "#!/usr/bin/python3\n", 0o755)
    reporter = RecordingReporter()
    read_prefix(env.path, reporter=reporter)
    assert reporter.warnings == []
    subprocess.run(["cp", "-a", env.path, tmp_path / "copy"], check=True)
    read_prefix(tmp_path / "copy", reporter=reporter)
    (warning,) = reporter.warnings
    shown = "bin/long, bin/long-perl, bin/pip"
    assert warning.startswith(f"3 scripts run a program of another environment, {env.path}: {shown}")
    assert "pack the original" in warning


def test_a_venv_is_refused_as_one(tmp_path: Path) -> None:
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").symlink_to("/usr/bin/python3")
    (tmp_path / "venv/pyvenv.cfg").write_text("home = /usr/bin\n")
    with pytest.raises(PackError, match="is a venv") as refused:
        read_prefix(tmp_path / "venv")
    assert "pip freeze" in refused.value.hint and "envpack build" in refused.value.hint


def test_a_venv_made_over_a_conda_environment_is_told(env: SmallPrefix, tmp_path: Path) -> None:
    """`uv venv --allow-existing` puts a link in the place of bin/python."""
    env.write("pyvenv.cfg", "home = /usr/bin\n")
    python = env.path / "bin/python"
    python.parent.mkdir(exist_ok=True)
    python.unlink(missing_ok=True)
    (tmp_path / "other").touch()
    python.symlink_to(tmp_path / "other")
    with pytest.raises(PackError, match=r"was made a venv later: its bin/python is .*/other") as refused:
        read_prefix(env.path)
    assert "Remove pyvenv.cfg" in refused.value.hint
    python.unlink()
    python.touch()
    read_prefix(env.path)


def test_a_warning_of_several_lines_is_printed_on_several() -> None:
    stream = io.StringIO()
    PlainReporter(stream, "p: ").warn("first\n  bad \x1b\nthird")
    assert stream.getvalue() == "p: warning: first\np:   bad \\x1b\np:   third\n"


def test_a_script_that_plain_tar_unpacked_is_refused_by_the_kernel(env: SmallPrefix, tmp_path: Path) -> None:
    env.write("bin/tool", f"#!{env.path}/bin/python3\nimport sys\n", 0o755)
    env.pack(tmp_path / "b.tar.gz")
    (tmp_path / "t").mkdir()
    subprocess.run(["tar", "-xzf", tmp_path / "b.tar.gz", "-C", tmp_path / "t"], check=True)
    done = subprocess.run(["bash", "-c", tmp_path / "t/bin/tool"], capture_output=True, text=True)
    assert done.returncode in (126, 127) and "import" not in done.stderr
