"""Scripts as their packages published them, with a placeholder longer than the first line that a kernel reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envpack.bundle.pack import PackSettings
from envpack.interop.write import write_archive
from envpack.runtime.report import Reporter
from support.conda_pack_archives import deployed
from support.conda_records import PLACEHOLDER, CondaEnvironment
from support.real_environments import run

INTERPRETER = "/bin/lineless-reader"


@pytest.mark.parametrize(("arguments", "seen"), [("", ""), (" -q", "-q ")])
def test_a_script_is_run_by_its_interpreter_or_not_at_all(arguments: str, seen: str, tmp_path: Path) -> None:
    line = f"#!{PLACEHOLDER}{INTERPRETER}{arguments}"
    assert len(line) > 256  # BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h
    made = CondaEnvironment(tmp_path / "environment")
    script = f"{line}\ntouch ran  # {PLACEHOLDER}\n"
    files = {INTERPRETER[1:]: b'#!/bin/sh\necho "$@"\n', "bin/tool": script.encode()}
    made.install("tool", files)
    archive, root = tmp_path / "a.tar", tmp_path / "x"
    settings = PackSettings(name="a", version="1")
    write_archive(made.prefix, archive, settings=settings, reporter=Reporter())
    root.mkdir()
    run("tar", "-xf", archive, "-C", root)
    refused = subprocess.run(["sh", "-c", root / "bin/tool"], cwd=tmp_path, capture_output=True)
    assert refused.returncode != 0 and not (tmp_path / "ran").exists()
    run(sys.executable, root / "bin/conda-unpack")
    assert run(root / "bin/tool") == f"{seen}{root}/bin/tool\n"
    place = tmp_path / "deployed"
    deployed(archive, place)
    assert (place / "bin/tool").read_text() == script.replace(PLACEHOLDER, os.fspath(place))
    assert json.loads((place / ".envpack/manifest.json").read_bytes())["changes"]["modified"] == []
