"""Environments as people have them, made for real, packed, deployed elsewhere: they behave as the original did."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envpack.bundle.pack import PackSettings, pack_prefix
from envpack.runtime.commands.deploy import deploy
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.host.detect.machine import host_subdir
from envpack.runtime.report import Reporter
from support.conda_packages import SHORT, Channel
from support.forked import envpack
from support.real_environments import MINOR, NO_BYTECODE, SITE, conda_install, lighten, run
from support.reporters import RecordingReporter
from support.trees import paths

HOST_PYTHON = f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin"


class Moved:
    """An environment packed and deployed to ``root``, while nothing is left at its former place."""

    def __init__(self, prefix: Path, folder: Path, name: str = "deployed elsewhere", **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.reporter = RecordingReporter()
        self.bundle, self.root = folder / "b.tar.gz", folder / name
        self.manifest: Manifest = pack_prefix(
            prefix, self.bundle, settings=PackSettings(level=1, **settings), reporter=self.reporter
        )
        self.former = prefix.rename(prefix.with_name(f"{prefix.name}.gone"))
        self.traces = [os.fsencode(prefix)]
        deploy(self.bundle, self.root, reporter=Reporter())

    def check_no_trace(self, *traces: object) -> None:
        """Neither the former place nor ``traces`` stand in any file or link."""
        for path, place in paths(self.root).items():
            data = os.fsencode(place.readlink()) if place.is_symlink() else place.read_bytes()
            for trace in (*self.traces, *(os.fsencode(str(trace)) for trace in traces)):
                assert trace not in data, path

    def records(self) -> dict[str, dict[str, Any]]:
        found = sorted((self.root / "conda-meta").glob("*.json"))
        return {record["name"]: record for record in map(json.loads, (path.read_bytes() for path in found))}


def untar(bundle: Path, root: Path) -> Path:
    root.mkdir(parents=True)
    run("tar", "-xf", bundle, "-C", root)
    return root


def edit_record(prefix: Path, name: str, edit: Any) -> None:
    path = next((prefix / "conda-meta").glob(f"{name}-*.json"))
    document = json.loads(path.read_bytes())
    edit(document)
    path.write_text(json.dumps(document, indent=2))


def write(prefix: Path, path: str, text: str, mode: int = 0o644) -> Path:
    place = prefix / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    place.chmod(mode)
    return place


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kinds")


@pytest.fixture(scope="module")
def hand(work: Path) -> str:
    """The URL of a channel of packages as they lie in real channels, one for each kind."""
    channel = Channel(work / "hand")
    channel.add(
        "noarch-tool",
        {
            "site-packages/noarch_tool/__init__.py": "import sys\n\ndef main():\n    print(sys.prefix)\n",
            "site-packages/noarch_tool/data.txt": "data\n",
            "python-scripts/noarch-script": "#!@PREFIX@/bin/python\nimport noarch_tool; noarch_tool.main()\n",
            "etc/noarch-tool/where.conf": "prefix = @PREFIX@\n",
        },
        noarch="python",
        depends=["python"],
        entry_points=["noarch-tool = noarch_tool:main"],
    )
    channel.add(
        "generic-data",
        {
            "share/generic/table.txt": "1 2 3\n",
            "bin/generic": "#!/bin/sh\ncat '@PREFIX@/share/generic/table.txt'\n",
        },
        noarch="generic",
    )
    channel.add("conda", CONDA, subdir=host_subdir(), depends=["python"])
    channel.add_old(
        "old-tool",
        {
            "bin/old-text": "#!/bin/sh\ncat @PREFIX@/share/old/data.txt\n",
            "share/old/data.txt": "of old\n",
            "lib/old.dat": b"\x7fELF\0@PREFIX@/share\0" + b"other\0" + b"a=@PREFIX@/a:b=@PREFIX@/b\0" + b"end\0",
        },
        subdir=host_subdir(),
    )
    return channel.index()


CONDA = {
    "bin/conda": "#!@PREFIX@/bin/python\nimport sys\nfrom conda_like import main\nsys.exit(main())\n",
    "condabin/conda": "#!@PREFIX@/bin/python\nimport sys\nfrom conda_like import main\nsys.exit(main())\n",
    "bin/activate": '#!/bin/sh\n_CONDA_ROOT="@PREFIX@"\n. "$_CONDA_ROOT/etc/profile.d/conda.sh" || return $?\n'
    'conda activate "$@"\n',
    "bin/deactivate": '#!/bin/sh\n_CONDA_ROOT="@PREFIX@"\n. "$_CONDA_ROOT/etc/profile.d/conda.sh" || return $?\n'
    "conda deactivate\n",
    "etc/profile.d/conda.sh": "export CONDA_EXE='@PREFIX@/bin/conda'\n"
    "export CONDA_PYTHON_EXE='@PREFIX@/bin/python'\n"
    'conda() {\n    case "$1" in\n        activate | deactivate) eval "$("$CONDA_EXE" shell.posix "$@")" ;;\n'
    '        *) "$CONDA_EXE" "$@" ;;\n    esac\n}\n',
    "etc/fish/conf.d/conda.fish": 'set -gx CONDA_EXE "@PREFIX@/bin/conda"\n',
    "shell/condabin/conda-hook.ps1": '$Env:CONDA_EXE = "@PREFIX@/bin/conda"\n',
    f"{SITE}/conda_like.py": """\
import os
import sys


def main():
    root = os.path.dirname(os.path.dirname(os.path.realpath(sys.argv[0])))
    if sys.argv[1:2] == ["shell.posix"]:
        prefix = root
        if len(sys.argv) > 3 and sys.argv[3] != "base":
            prefix = sys.argv[3] if "/" in sys.argv[3] else os.path.join(root, "envs", sys.argv[3])
        if sys.argv[2] == "deactivate":
            print("unset CONDA_PREFIX")
        else:
            print(f"export CONDA_PREFIX='{prefix}'")
            print(f"PATH='{prefix}/bin':\\"$PATH\\"")
    else:
        print("root:", root, sys.prefix)
    return 0
""",
}
"""The files of conda's package that are for shells, doing what conda's do at the same places."""


@pytest.fixture
def cache(work: Path) -> Path:
    return work / "cache"


# --- 1. made by pixi ---


def make_pixi(channel_url: str, project: Path, cache: Path) -> Path:
    """What pixi 0.50 leaves: rattler's records, without a link or with null in its place, and its own markers
    (pixi_core/src/environment; consts::PREFIX_FILE_NAME; EnvironmentFile)."""
    prefix = project / ".pixi/envs/default"
    conda_install([channel_url], prefix, ["python", "click", "idna"], cache)
    lighten(prefix)
    edit_record(prefix, "click", lambda record: record.update(link=None))
    edit_record(prefix, "idna", lambda record: record.pop("link", None))
    marker = {
        "manifest_path": str(project / "pixi.toml"),
        "environment_name": "default",
        "pixi_version": "0.50.2",
        "environment_lock_file_hash": "4f36ee620f10329d",
    }
    write(prefix, "conda-meta/pixi", json.dumps(marker))
    write(prefix, "conda-meta/pixi_env_prefix", str(prefix))
    write(prefix, "conda-meta/.pixi-environment-fingerprint", "99b739d0fedb92eb")
    write(prefix, "conda-meta/history", "// not relevant")
    write(project, "pixi.toml", "[workspace]\nchannels = []\nplatforms = ['linux-64']\n")
    write(project, ".pixi/.gitignore", "*\n")
    return prefix


def test_pixi_s_default_environment_is_packed_from_within_its_shell(
    channel_url: str, tmp_path: Path, cache: Path
) -> None:
    project = tmp_path / "rocket"
    prefix = make_pixi(channel_url, project, cache)
    pixi_shell = {
        "CONDA_PREFIX": str(prefix),
        "CONDA_DEFAULT_ENV": "rocket",
        "PIXI_PROJECT_ROOT": str(project),
        "PIXI_PROJECT_NAME": "rocket",
        "PIXI_PROJECT_MANIFEST": str(project / "pixi.toml"),
        "PIXI_ENVIRONMENT_NAME": "default",
        "PIXI_IN_SHELL": "1",
        "PIXI_PROMPT": "(rocket) ",
        "PIXI_EXE": "/home/somebody/.pixi/bin/pixi",
        "PATH": f"{prefix}/bin:/usr/bin:/bin",
    }
    for name, where in (("active", ()), ("named", ("-p", ".pixi/envs/default"))):
        output = tmp_path / name
        output.mkdir()
        words = ["pack", *where, "--level", "1", "-o", output / "b.tar.gz"]
        done = envpack(*words, cwd=project, env={**NO_BYTECODE, **pixi_shell})
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "active/b.tar.gz").read_bytes() == (tmp_path / "named/b.tar.gz").read_bytes()

    root = tmp_path / "deployed elsewhere"
    manifest = deploy(tmp_path / "named/b.tar.gz", root, reporter=Reporter())
    assert manifest.name == "rocket"
    shutil.rmtree(project)
    assert run(root / "bin/python", "-c", "import click, idna, sys; print(sys.prefix)").strip() == str(root)
    left = sorted(path.name for path in (root / "conda-meta").iterdir() if path.suffix != ".json")
    assert left == ["history"]
    links = {path.name: json.loads(path.read_bytes()) for path in (root / "conda-meta").glob("*.json")}
    assert "link" not in next(record for name, record in links.items() if name.startswith("idna"))
    assert next(record for name, record in links.items() if name.startswith("click"))["link"] is None
    for place in root.rglob("*"):
        if place.is_file():
            assert os.fsencode(project) not in place.read_bytes(), place


# --- 2. without Python ---


def test_an_environment_without_python_runs_where_it_is_deployed(
    channel_url: str, tmp_path: Path, cache: Path
) -> None:
    prefix = tmp_path / "tools"
    conda_install([channel_url], prefix, ["relocation-samples"], cache, only=["relocation-samples"])
    (prefix / "bin/relocation-sample-python").unlink()
    moved = Moved(prefix, tmp_path / "a")
    assert moved.manifest.python == ""
    moved.check_no_trace(cache)
    for shell in ("sh", "bash", "dash"):
        if shutil.which(shell):
            script = '. "$ENVPACK_PREFIX/bin/activate" && relocation-sample && echo "$CONDA_PREFIX"'
            said = run(shell, "-c", script, ENVPACK_PREFIX=moved.root)
            assert f"plain={moved.root}/etc" in re.sub("/+", "/", said) and said.endswith(f"{moved.root}\n")


def test_plain_tar_without_python_in_it_takes_the_host_s_or_says_what_to_do(
    channel_url: str, tmp_path: Path, cache: Path
) -> None:
    prefix = tmp_path / "tools"
    conda_install([channel_url], prefix, ["relocation-samples"], cache, only=["relocation-samples"])
    moved = Moved(prefix, tmp_path / "a")
    script = '. "$ENVPACK_PREFIX/bin/activate" && relocation-sample'
    root = untar(moved.bundle, tmp_path / "plain tar")
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("sh", "dirname", "readlink", "cat", "env"):
        (bare / name).symlink_to(Path(shutil.which(name) or "").resolve())
    refused = subprocess.run(
        ["/bin/sh", "-c", script],
        env={**NO_BYTECODE, "PATH": str(bare), "ENVPACK_PREFIX": str(root)},
        capture_output=True,
        text=True,
    )
    assert refused.returncode != 0 and refused.stdout == ""
    assert "no usable Python 3.8 or later found" in refused.stderr
    assert "envpack deploy" in refused.stderr and "on PATH" in refused.stderr
    assert not (root / ".envpack/prefix").exists()
    assert str(root) in run("/bin/sh", "-c", script, ENVPACK_PREFIX=root, PATH=HOST_PYTHON)
    assert (root / ".envpack/prefix").read_text() == f"{root}\n"


# --- 3. with conda inside ---


def make_base(channel_url: str, hand: str, prefix: Path, cache: Path) -> Path:
    conda_install([hand, channel_url], prefix, ["conda", "python"], cache)
    return lighten(prefix)


def conda_works(root: Path) -> None:
    """conda's function, its own activate, by whatever name, and its program lead to ``root``."""
    assert run(root / "condabin/conda", "info") == f"root: {root} {root}\n"
    hook = f'. "{root}/etc/profile.d/conda.sh"; conda activate other; echo "$CONDA_PREFIX"'
    assert run("/bin/bash", "-c", hook) == f"{root}/envs/other\n"
    own = root / "bin/activate.conda"
    source = f'. "{own if own.exists() else root / "bin/activate"}" other; echo "$CONDA_PREFIX"'
    assert run("/bin/bash", "-c", source) == f"{root}/envs/other\n"


def test_conda_s_own_activate_is_kept_beside_the_bundle_s(
    channel_url: str, hand: str, tmp_path: Path, cache: Path
) -> None:
    prefix = make_base(channel_url, hand, tmp_path / "miniforge", cache)
    conda_works(prefix)
    moved = Moved(prefix, tmp_path / "a", "elsewhere")
    assert any("bin/activate.conda" in note for note in moved.reporter.notes)
    root = moved.root
    conda_works(root)
    said = run(
        "/bin/bash", "-c", f'. "{root}/bin/activate"; conda info; deactivate; echo "${{CONDA_PREFIX-none}}"'
    )
    assert said == f"root: {root} {root}\nnone\n"
    moved.check_no_trace()
    assert "bin/activate.conda" not in moved.manifest.changes.modified
    assert [path for path in moved.manifest.changes.foreign if path.endswith(".conda")] == []

    # and once more: from the deployment, where envpack's own lies at bin/activate
    again = Moved(root, tmp_path / "b", "again")
    conda_works(again.root)
    assert (again.root / "bin/activate").read_bytes() == (again.former / "bin/activate").read_bytes()
    assert not (again.root / "bin/activate.conda.conda").exists()
    packages = {part.id: part.frames for part in moved.manifest.segments if part.id.startswith("conda:conda-")}
    assert packages == {part.id: part.frames for part in again.manifest.segments if part.id in packages}


# --- 4. and 8. a base environment, and others within ---


def test_a_base_environment_goes_without_its_cache_and_its_other_environments(
    channel_url: str, hand: str, tmp_path: Path, cache: Path
) -> None:
    prefix = make_base(channel_url, hand, tmp_path / "anaconda3", cache)
    write(prefix, "pkgs/urls.txt", f"{hand}/noarch/generic-data-1.0-h0_0.conda\n")
    write(prefix, "envs/.conda_envs_dir_test", "")
    conda_install([hand], prefix / "envs/other", ["generic-data"], prefix / "pkgs")
    write(prefix, "envs/notes/readme.txt", "not an environment\n")
    write(prefix, ".nonadmin", "")
    write(prefix, ".condarc", "channels: [https://me:s3cr3t-0@host.example/t/tk-1234-ab/c]\nauto: false\n")
    history = f"==> 2024-01-01 <==\n# cmd: {prefix}/bin/conda install numpy\n+defaults::python-3.11.7-0\n"
    write(prefix, "conda-meta/history", history)
    moved = Moved(prefix, tmp_path / "a")
    left_out = [note for note in moved.reporter.notes if note.startswith("left out: ")]
    assert left_out == ["left out: envs, other environments: other", "left out: pkgs, the package cache"]
    assert not (moved.root / "pkgs").exists() and not (moved.root / "envs").exists()
    assert (moved.root / ".nonadmin").read_bytes() == b""
    assert (moved.root / ".condarc").read_text() == "channels: [https://host.example/c]\nauto: false\n"
    assert (moved.root / "conda-meta/history").read_text() == history.replace(str(prefix), str(moved.root))
    assert run(moved.root / "bin/conda", "info") == f"root: {moved.root} {moved.root}\n"
    moved.check_no_trace("s3cr3t-0", "tk-1234-ab")


def test_environments_in_one_another_are_packed_each_by_itself(hand: str, tmp_path: Path, cache: Path) -> None:
    outer = tmp_path / "outer"
    conda_install([hand], outer, ["generic-data"], cache)
    conda_install([hand], outer / "envs/inner", ["generic-data"], cache)
    conda_install([hand], outer / "opt/vendored", ["generic-data"], cache)
    inner = tmp_path / "inner.tar.gz"
    pack_prefix(outer / "envs/inner", inner, settings=PackSettings(), reporter=Reporter())
    moved = Moved(outer, tmp_path / "a")
    assert "left out: envs, other environments: inner" in moved.reporter.notes
    assert not (moved.root / "envs").exists()
    # what lies elsewhere in it, such as a workflow's own environments, is a part of it
    for root in (moved.root, moved.root / "opt/vendored"):
        assert run(root / "bin/generic") == "1 2 3\n"
    moved.check_no_trace()
    deploy(inner, tmp_path / "inner alone", reporter=Reporter())
    assert run(tmp_path / "inner alone/bin/generic") == "1 2 3\n"


# --- 5. leftovers of other Pythons ---


def test_leftovers_of_another_python_neither_stop_nor_change_anything(
    channel_url: str, tmp_path: Path, cache: Path
) -> None:
    prefix = tmp_path / "upgraded"
    conda_install([channel_url], prefix, ["python", "idna"], cache)
    lighten(prefix)
    old = "lib/python3.10/site-packages"
    write(prefix, f"{old}/gone/__pycache__/module.cpython-310.pyc", "byte-code whose source went with its package")
    write(prefix, f"{old}/stays.py", f"HERE = '{prefix}'\n")
    write(prefix, f"{old}/stays-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: stays\nVersion: 1.0\n")
    write(prefix, f"{old}/stays-1.0.dist-info/RECORD", "stays.py,,\nstays-1.0.dist-info/METADATA,,\n")
    write(prefix, f"{old}/editable.pth", "/home/somebody/project\n")
    write(prefix, f"{SITE}/nowhere.pth", "/nonexistent/project\n./not/there/either\n")
    write(prefix, f"{SITE}/idna/__pycache__/core.cpython-39.pyc", "stale")
    write(prefix, f"{SITE}/hand.py", "VALUE = 1\n")
    run(prefix / "bin/python", "-c", "import sys, idna", PYTHONDONTWRITEBYTECODE="")
    code = "import sys, idna, hand; print([p.replace(sys.prefix, '') for p in sys.path])"
    before = run(prefix / "bin/python", "-c", code)
    moved = Moved(prefix, tmp_path / "a", editable="error")
    assert moved.manifest.python == f"bin/python{MINOR}"
    assert run(moved.root / "bin/python", "-c", code) == before
    assert f"{old}/gone/__pycache__/module.cpython-310.pyc" not in paths(moved.root)
    assert (moved.root / old / "stays.py").read_text() == f"HERE = '{moved.root}'\n"
    assert "pypi:stays-1.0" in {part.id for part in moved.manifest.segments}
    moved.check_no_trace()


# --- 6. noarch ---


def test_noarch_packages_run_from_everywhere(channel_url: str, hand: str, tmp_path: Path, cache: Path) -> None:
    prefix = tmp_path / "noarch"
    conda_install([hand, channel_url], prefix, ["python", "noarch-tool", "generic-data"], cache)
    lighten(prefix)
    edit_record(prefix, "python", lambda record: record.update(python_site_packages_path=SITE))
    moved = Moved(prefix, tmp_path / "a")
    root = moved.root
    assert [run(root / "bin" / name).strip() for name in ("noarch-tool", "noarch-script")] == [str(root)] * 2
    assert run(root / "bin/generic") == "1 2 3\n"
    assert (root / "etc/noarch-tool/where.conf").read_text() == f"prefix = {root}\n"
    assert moved.manifest.changes.modified == () and moved.manifest.changes.missing == ()
    owned = {package.name: package for package in moved.manifest.packages}
    assert owned["noarch-tool"].subdir == owned["generic-data"].subdir == "noarch"
    records = moved.records()
    assert records["python"]["python_site_packages_path"] == SITE
    assert f"{SITE}/noarch_tool/__init__.py" in records["noarch-tool"]["files"]
    moved.check_no_trace(cache)


# --- 7. packages without paths.json ---


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a name short enough for the short placeholder."""
    with tempfile.TemporaryDirectory(prefix="e", dir="/tmp") as folder:
        yield Path(folder)


def old_data(prefix: object) -> bytes:
    where = os.fsencode(str(prefix))
    return b"\x7fELF\0" + where + b"/share\0other\0a=" + where + b"/a:b=" + where + b"/b\0end\0"


def strings(data: bytes) -> list[bytes]:
    return [re.sub(rb"/+", b"/", part) for part in data.split(b"\0") if part]


@pytest.mark.parametrize("how", ["rattler", "conda 4.2"])
def test_packages_without_paths_json_keep_the_room_of_their_placeholder(
    how: str, hand: str, short: Path, tmp_path: Path, cache: Path
) -> None:
    prefix = short / "e"
    conda_install([hand], prefix, ["old-tool"], cache)
    assert strings((prefix / "lib/old.dat").read_bytes()) == strings(old_data(prefix))
    if how == "conda 4.2":
        edit_record(prefix, "old-tool", lambda record: record.pop("paths_data"))
    # as long as the placeholder, or as the environment's own where nothing tells the placeholder any more
    room = len(SHORT) if how == "rattler" else len(os.fsencode(prefix))
    elsewhere = short / ("x" * (room - len(os.fsencode(short)) - 1))
    bundle = tmp_path / "b.tar.gz"
    manifest = pack_prefix(prefix, bundle, settings=PackSettings(), reporter=Reporter())
    assert manifest.changes.modified == ()
    assert manifest.longest_prefix == room and manifest.limited_by == "lib/old.dat"
    prefix.rename(short / "gone")
    deploy(bundle, elsewhere, reporter=Reporter())
    assert strings((elsewhere / "lib/old.dat").read_bytes()) == strings(old_data(elsewhere))
    assert len((elsewhere / "lib/old.dat").read_bytes()) == len(old_data(SHORT))
    assert run(elsewhere / "bin/old-text") == "of old\n"
    assert os.fsencode(prefix) + b"/" not in (elsewhere / "lib/old.dat").read_bytes()
