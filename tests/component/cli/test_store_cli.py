"""``--store``, ENVPACK_STORE, ``store`` in config.toml and ``envpack gc``; the runtime with the same store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from envpack.bundle.zipapp.runtime_zip import runtime_zip
from envpack.cli.commands.schema import load
from support import forked
from support.bundle_factory import file, make_bundle, text


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    items = [text("bin/tool", b"#!/bin/sh\necho @\n", 0o755), file("lib/a", b"a" * 10_000)]
    make_bundle(tmp_path / "b.tar.gz", {"environment": items})
    return tmp_path / "b.tar.gz"


def run(tmp_path: Path, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config"), **environ}
    if "ENVPACK_STORE" not in environ:
        environment.pop("ENVPACK_STORE", None)
    return forked.envpack(*arguments, env=environment)


def answer(command: str, tmp_path: Path, *arguments: object, **environ: str) -> dict[str, Any]:
    done = run(tmp_path, command, *arguments, "--json", **environ)
    document = json.loads(done.stdout)
    Draft202012Validator(load(command)).validate(document)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = document["result"]
    return result


def test_a_store_is_named_by_option_variable_or_file(bundle: Path, tmp_path: Path) -> None:
    assert answer("deploy", tmp_path, bundle, tmp_path / "none")["store"] == ""
    (tmp_path / "config/envpack").mkdir(parents=True)
    (tmp_path / "config/envpack/config.toml").write_text(f'store = "{tmp_path}/of the file"\n')
    done = answer("deploy", tmp_path, bundle, tmp_path / "a")
    assert done["store"] == f"{tmp_path}/of the file" and done["read"] > 0
    assert answer("deploy", tmp_path, bundle, tmp_path / "b")["read"] == 0
    variable = {"ENVPACK_STORE": f"{tmp_path}/of the variable"}
    assert answer("deploy", tmp_path, bundle, tmp_path / "c", **variable)["store"] == variable["ENVPACK_STORE"]
    option = tmp_path / "option"
    assert answer("deploy", tmp_path, bundle, tmp_path / "d", "--store", option, **variable)["store"] == str(
        option
    )
    assert run(tmp_path, "verify", tmp_path / "d").returncode == 0


def test_the_runtime_shares_the_same_store(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "runtime.pyz").write_bytes(runtime_zip())
    answer("deploy", tmp_path, bundle, tmp_path / "a", "--store", tmp_path / "store")
    command = [sys.executable, "-I", "-S", tmp_path / "runtime.pyz", "deploy", bundle]
    store = {**os.environ, "ENVPACK_STORE": str(tmp_path / "store")}
    for words, environ in (
        ([tmp_path / "b", "--store", tmp_path / "store"], None),
        ([tmp_path / "c"], store),
    ):
        done = subprocess.run([*command, *words, "--json"], capture_output=True, text=True, env=environ)
        assert json.loads(done.stdout)["result"]["read"] == 0


def test_gc_says_what_it_frees(bundle: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    answer("deploy", tmp_path, bundle, tmp_path / "a", "--store", store)
    kept = answer("gc", tmp_path, "--store", store)
    assert (kept["removed"], kept["deployments"]) == (0, [str(tmp_path / "a")])
    shutil.rmtree(tmp_path / "a")
    done = run(tmp_path, "gc", "--store", store, "--dry-run")
    assert "1 segment would be removed" in done.stdout and f"any more by {tmp_path}/a" in done.stdout
    gone = answer("gc", tmp_path, ENVPACK_STORE=str(store))
    assert gone["removed"] == 1 and gone["freed"] >= 10_000
    assert answer("deploy", tmp_path, bundle, tmp_path / "b", "--store", store)["read"] > 0


def test_gc_wants_a_store(tmp_path: Path) -> None:
    done = run(tmp_path, "gc")
    assert (done.returncode, "ENVPACK_STORE" in done.stderr) == (2, True)
    done = run(tmp_path, "gc", "--store", tmp_path / "none")
    assert (done.returncode, "is not a store" in done.stderr) == (6, True)
