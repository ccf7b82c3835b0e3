"""``envpack verify`` and ``envpack repair`` as a person and a script meet them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from envpack.cli.commands.schema import load
from support.bundle_factory import file, make_bundle, text
from support.forked import envpack


def answer(command: str, *arguments: object) -> tuple[int, dict[str, Any]]:
    done = envpack(command, *arguments, "--json")
    document = json.loads(done.stdout)
    Draft202012Validator(load(command)).validate(document)
    return done.returncode, document


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    items = [text("bin/tool", b"#!/bin/sh\necho @\n", 0o755), *(file(f"lib/{i}", b"%d" % i) for i in range(60))]
    make_bundle(tmp_path / "b.tar.zst", {"environment": items})
    return tmp_path / "b.tar.zst"


def test_damage_is_named_mended_and_gone(bundle: Path, tmp_path: Path) -> None:
    root = tmp_path / "x"
    assert envpack("deploy", bundle, root).returncode == 0
    code, found = answer("verify", root)
    assert (code, found["result"]["files"], found["result"]["settled"]) == (0, 61, True)
    (root / "bin/tool").write_text("\x1b[31mevil")
    (root / "lib/7").unlink()
    (root / "lib/\x1b]0;mine").touch()
    done = envpack("verify", root)
    assert done.returncode == 7
    assert "1 changed and 1 missing of 61 paths" in done.stderr
    assert "missing: lib/7" in done.stderr and "\x1b" not in done.stderr
    code, found = answer("repair", root, bundle)
    assert code == 0
    assert sorted(found["result"]["mended"]) == ["bin/tool", "lib/7"]
    assert len(found["result"]["extra"]) == 1
    done = envpack("verify", root)
    assert done.returncode == 0
    assert "is unchanged since it was packed" in done.stdout and "1 file in no bundle" in done.stdout
    done = envpack("repair", root, bundle)
    assert done.returncode == 0 and "nothing to repair" in done.stdout


def test_a_long_list_is_cut_without_v(bundle: Path, tmp_path: Path) -> None:
    root = tmp_path / "x"
    envpack("deploy", bundle, root)
    for i in range(60):
        (root / f"lib/{i}").unlink()
    done = envpack("verify", root)
    assert done.returncode == 7
    assert done.stderr.count("missing: ") == 50 and "... and 10 more" in done.stderr
    assert envpack("verify", root, "-v").stderr.count("missing: ") == 60
    code, found = answer("verify", root)
    assert (code, len(found["error"]["details"])) == (7, 60)


def test_a_bundle_is_verified_without_deploying_it(bundle: Path) -> None:
    code, found = answer("verify", bundle)
    assert (code, found["result"]["kind"]) == (0, "bundle")
    data = bytearray(bundle.read_bytes())
    data[-20] ^= 1
    bundle.write_bytes(data)
    code, found = answer("verify", bundle)
    assert (code, found["error"]["type"]) == (7, "IntegrityError")
