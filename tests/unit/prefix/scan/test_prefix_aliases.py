"""Every path by which an environment's files mention it is found, and no other."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from envpack.prefix.inventory import read_prefix
from envpack.prefix.scan.prefix_aliases import aliases, previous_prefix

SYSCONFIG = "lib/python3.11/_sysconfigdata__linux_x86_64-linux-gnu.py"


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    prefix = tmp_path / "disk" / "envs" / "my env"
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "conda-meta/history").write_text("")
    (tmp_path / "home").symlink_to("disk", target_is_directory=True)
    return prefix


def write(prefix: Path, path: str, text: str) -> None:
    (prefix / path).parent.mkdir(parents=True, exist_ok=True)
    (prefix / path).write_text(text)


def third(prefix: Path) -> Path:
    return prefix.parents[2] / "home" / "envs" / "my env"


EVIDENCE = {
    "history": ("conda-meta/history", "==> now <==\n# cmd: /opt/conda/bin/conda create -p '{}' python\n"),
    "history with an option": ("conda-meta/history", '# cmd: conda install --prefix="{}"\n'),
    "pip": ("bin/x", "#!/bin/sh\n'''exec' \"{}/bin/python\" \"$0\" \"$@\"\n' '''\n"),
    "python-config": ("bin/python3.11-config", '#!/bin/sh\nprefix="{}"\n'),
    "sysconfig": (SYSCONFIG, "build_time_vars = {{'exec_prefix': '{}',\n 'prefix': '{}'}}\n"),
    "kernel": ("share/jupyter/kernels/python3/kernel.json", '{{"argv": ["{}/bin/python", "-m"]}}'),
    "pixi": ("conda-meta/pixi_env_prefix", "'{}/conda-meta'"),
}


@pytest.mark.parametrize("where", EVIDENCE)
def test_a_third_path_to_it_is_known_from_its_own_files(prefix: Path, where: str) -> None:
    path, text = EVIDENCE[where]
    write(prefix, path, text.replace("{}", str(third(prefix))).replace("{{", "{").replace("}}", "}"))
    assert aliases(prefix) == (os.fsencode(prefix), os.fsencode(third(prefix)))


def test_a_plain_shebang_without_blanks_is_evidence_too(tmp_path: Path) -> None:
    if " " in str(tmp_path):
        pytest.skip("the temporary folder has blanks in its path")
    prefix = tmp_path / "env"
    write(prefix, "bin/pip", f"#!{tmp_path}/here/bin/python\n")
    (tmp_path / "here").symlink_to("env")
    assert aliases(prefix) == (os.fsencode(prefix), os.fsencode(tmp_path / "here"))


def test_the_real_path_comes_first_and_then_the_one_given(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "now").symlink_to(third(prefix), target_is_directory=True)
    write(prefix, "conda-meta/history", f"# cmd: conda create -p '{third(prefix)}'\n")
    found = aliases(tmp_path / "now")
    assert found == tuple(map(os.fsencode, (prefix, tmp_path / "now", third(prefix))))


def test_what_leads_elsewhere_or_nowhere_is_no_alias(prefix: Path, tmp_path: Path) -> None:
    other = tmp_path / "disk" / "envs" / "other"
    other.mkdir()
    write(prefix, "bin/a", f"#!{other}/bin/python\n")
    write(prefix, "bin/b", "#!/gone/bin/python\n")
    write(prefix, "bin/c", f"#!/bin/sh\n# {tmp_path}/home {prefix.parent} / // /bin/sh\0/x\n")
    write(prefix, "conda-meta/history", f"'{third(prefix)}' outside of a command\n")
    assert aliases(prefix) == (os.fsencode(prefix),)


def test_the_earlier_path_of_a_moved_environment_is_found(prefix: Path) -> None:
    write(prefix, SYSCONFIG, " 'exec_prefix': '/opt/old/env',\n 'prefix': '/opt/old/env',\n")
    assert previous_prefix(prefix) == b"/opt/old/env"
    write(prefix, "lib/python3.9/_sysconfigdata_x.py", " 'prefix': '/opt/older',\n")
    assert previous_prefix(prefix) is None


def test_a_copy_beside_its_original_was_not_moved(prefix: Path, tmp_path: Path) -> None:
    write(prefix, SYSCONFIG, f" 'prefix': '{tmp_path}',\n")
    assert previous_prefix(prefix) is None


def test_every_alias_is_relocated_and_links_through_them_are_inner_ones(prefix: Path) -> None:
    write(prefix, "conda-meta/history", f"# cmd: conda create -p '{third(prefix)}'\n")
    write(prefix, SYSCONFIG, " 'prefix': '/opt/old/env',\n")
    (prefix / "lib/x").symlink_to("/opt/old/env/lib/y")
    (prefix / "lib/z").symlink_to(third(prefix) / "lib/y")
    write(prefix, "share/x.json", json.dumps([str(prefix), str(third(prefix)), "/opt/old/env/x"]))
    contents = read_prefix(prefix)
    assert contents.aliases == tuple(map(os.fsencode, (prefix, third(prefix), "/opt/old/env")))
    targets = {e.path: e.target for group in contents.groups for e in group.entries if e.type == "symlink"}
    assert targets == {"lib/x": "y", "lib/z": "y"}
