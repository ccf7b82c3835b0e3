"""Every case in process and through the zipped runtime of a bundle: one implementation, the same answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from envpack.bundle.zipapp.runtime_zip import runtime_zip
from envpack.runtime.__main__ import main
from envpack.runtime.host.detect.machine import host_subdir
from support.bundle_factory import file, make_bundle, text
from support.forked import ForkedRuntime

TOOL = text("bin/tool", b"#!/bin/sh\necho @\n", 0o755)
ACTIVATE = file("bin/activate", b"true\n")
Answer = tuple[int, dict[str, Any]]
Run = Callable[..., Answer]


def pythons() -> list[str]:
    """This Python, and every other from 3.8 on that PATH has: the runtime runs on what an environment brings."""
    others = [shutil.which(f"python3.{minor}") for minor in range(8, 15) if minor != sys.version_info.minor]
    work = [
        path for path in others if path and not subprocess.run([path, "-c", ""], capture_output=True).returncode
    ]
    return [sys.executable, *work]


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ForkedRuntime]]:
    """The zipped runtime as a Python runs it."""
    pyz = tmp_path_factory.mktemp("runtime") / "runtime.pyz"
    pyz.write_bytes(runtime_zip())
    started: dict[str, ForkedRuntime] = {}

    def start(python: str) -> ForkedRuntime:
        if python not in started:
            started[python] = ForkedRuntime(python, pyz)
        return started[python]

    yield start
    for each in started.values():
        each.end()


@pytest.fixture(params=["in process", *pythons()], ids=lambda python: Path(python).name)
def run(request: pytest.FixtureRequest, zipped: Callable[[str], ForkedRuntime], capfd: Any) -> Run:
    """Runs the runtime with arguments; answers the exit code and the one JSON object on stdout."""
    if request.param == "in process":

        def call(*arguments: object) -> Answer:
            capfd.readouterr()
            code = main([*map(str, arguments), "--json"])
            return code, json.loads(capfd.readouterr().out)

    else:

        def call(*arguments: object) -> Answer:
            done = zipped(request.param).run(*arguments, "--json")
            return done.returncode, json.loads(done.stdout)

    return call


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "b.tar.gz"
    make_bundle(path, {"environment": [TOOL, ACTIVATE]}, test=("bin/tool",), commands={"tool": "tool"})
    return path


def test_deploy(run: Run, bundle: Path, tmp_path: Path) -> None:
    code, answer = run("deploy", bundle, tmp_path / "x")
    assert (code, answer["ok"], answer["error"]) == (0, True, None)
    assert answer["schema"] == "envpack.deploy/1"
    result = answer["result"]
    assert result["destination"] == str(tmp_path / "x")
    assert result["tests"] == ["bin/tool"]
    assert (tmp_path / "x/bin/tool").read_text().endswith(f"echo {tmp_path}/x\n")
    assert (tmp_path / "x/.envpack/prefix").read_text() == f"{tmp_path}/x\n"


def test_deploy_refuses_what_is_no_bundle(run: Run, tmp_path: Path) -> None:
    (tmp_path / "b.tar.gz").write_text("hello")
    code, answer = run("deploy", tmp_path / "b.tar.gz", tmp_path / "x")
    assert code == answer["error"]["code"] == 6
    assert answer["error"]["type"] == "FormatError"
    assert answer["result"] is None


def test_deploy_names_a_missing_bundle(run: Run, tmp_path: Path) -> None:
    code, answer = run("deploy", tmp_path / "none.tar.gz", tmp_path / "x")
    assert code == 6
    assert "none.tar.gz" in answer["error"]["message"]


def test_deploy_refuses_damage(run: Run, bundle: Path, tmp_path: Path) -> None:
    data = bytearray(bundle.read_bytes())
    data[-10] ^= 1
    bundle.write_bytes(data)
    code, _ = run("deploy", bundle, tmp_path / "x")
    assert code == 7
    assert not (tmp_path / "x").exists()


def test_deploy_leaves_a_used_destination_alone(run: Run, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/mine").touch()
    code, _ = run("deploy", bundle, tmp_path / "x")
    assert code == 10
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["mine"]


def test_a_failing_test_takes_the_deployment_away(run: Run, tmp_path: Path) -> None:
    bundle = tmp_path / "b.tar.gz"
    make_bundle(bundle, {"environment": [ACTIVATE]}, test=("true", "echo the reason >&2; exit 3"))
    code, answer = run("deploy", bundle, tmp_path / "envs/x")
    assert code == 11
    assert answer["error"]["type"] == "DeploymentTestError"
    assert "status 3" in answer["error"]["message"]
    assert answer["error"]["details"] == ["the reason"]
    assert not (tmp_path / "envs").exists()
    code, _ = run("deploy", bundle, tmp_path / "envs/x", "--no-test")
    assert code == 0


def test_unpack_after_tar_then_after_moves(run: Run, bundle: Path, tmp_path: Path) -> None:
    root = tmp_path / "one"
    root.mkdir()
    subprocess.run(["tar", "-xzf", bundle, "-C", root], check=True)
    for place in ("one", "a longer name than before", "3"):
        root = root.rename(tmp_path / place)
        code, answer = run("unpack", root)
        assert code == 0
        assert answer["result"]["written"] == 1
        assert (root / "bin/tool").read_text() == f"#!/bin/sh\necho {root}\n"
        assert (root / "bin/tool").stat().st_mode & 0o777 == 0o755
    code, answer = run("unpack", root)
    assert (code, answer["result"]["written"]) == (0, 0)


def test_unpack_elsewhere_than_in_a_bundle_s_tree(run: Run, tmp_path: Path) -> None:
    code, answer = run("unpack", tmp_path)
    assert code == 6
    assert "not an environment" in answer["error"]["message"]


def test_the_zip_file_is_a_program(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "runtime.pyz").write_bytes(runtime_zip())
    for python in pythons():
        command = [python, "-I", "-S", tmp_path / "runtime.pyz", "verify", bundle, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["schema"] == "envpack.verify/1"


def test_wrong_arguments(run: Run) -> None:
    code, answer = run("deploy")
    assert code == answer["error"]["code"] == 2
    assert answer["ok"] is False


def test_facts_and_a_check_with_them(run: Run, bundle: Path, tmp_path: Path) -> None:
    code, answer = run("facts", tmp_path)
    assert (code, answer["schema"]) == (0, "envpack.facts/1")
    assert answer["result"]["facts"]["subdir"] == host_subdir()
    (tmp_path / "facts.json").write_text(json.dumps(answer))
    code, answer = run("check", bundle, "--host", tmp_path / "facts.json")
    assert (code, answer["schema"]) == (0, "envpack.check/1")
    assert {item["verdict"] for item in answer["result"]["verdicts"]} == {"ok"}


def test_a_host_that_does_not_do_is_refused_before_anything_is_unpacked(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "b.tar.gz"
    make_bundle(path, {"environment": [ACTIVATE]}, requires={"glibc": "99.9"})
    for command in (("check", path), ("deploy", path, tmp_path / "x")):
        code, answer = run(*command)
        assert code == answer["error"]["code"] == 9
        assert answer["error"]["type"] == "HostError"
        assert "this bundle needs >= 99.9: use a newer system" in answer["error"]["details"][0]
    assert not (tmp_path / "x").exists()
    code, _ = run("deploy", path, tmp_path / "x", "--allow", "glibc")
    assert code == 0
    record = json.loads((tmp_path / "x/.envpack/deployment.json").read_text())
    assert record["check"] == {"check": True, "gpu": "required", "allow": ["glibc"], "overridden": ["glibc"]}
    code, _ = run("check", tmp_path / "x")
    assert code == 0


def test_verify_names_what_is_damaged(run: Run, bundle: Path, tmp_path: Path) -> None:
    code, answer = run("verify", bundle)
    assert (code, answer["result"]["kind"]) == (0, "bundle")
    run("deploy", bundle, tmp_path / "x")
    (tmp_path / "x/mine").touch()
    code, answer = run("verify", tmp_path / "x")
    assert (code, answer["schema"], answer["result"]["extra"]) == (0, "envpack.verify/1", ["mine"])
    (tmp_path / "x/bin/tool").write_text("changed")
    (tmp_path / "x/bin/activate").unlink()
    code, answer = run("verify", tmp_path / "x")
    assert code == answer["error"]["code"] == 7
    assert [line.split(":")[:2] for line in answer["error"]["details"]] == [
        ["changed", " bin/tool"],
        ["missing", " bin/activate"],
        ["extra", " mine"],
    ]
    data = bundle.read_bytes()
    bundle.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    assert run("verify", bundle)[0] == 7


# --- the life of a deployment ---


def second(tmp_path: Path, test: str = "bin/tool") -> Path:
    path = tmp_path / "second.tar.gz"
    make_bundle(path, {"environment": [TOOL, ACTIVATE, file("new", b"")]}, version="2.0", test=(test,))
    return path


def test_an_upgrade_is_rolled_back(run: Run, bundle: Path, tmp_path: Path) -> None:
    x, y = tmp_path / "x", tmp_path / "y"
    run("deploy", bundle, x)
    code, answer = run("deploy", second(tmp_path), x, "--keep", 2, "--wait")
    result = answer["result"]
    assert (code, result["generation"], result["replaced"], result["kept"]) == (0, 2, 1, [1])
    assert (x / "new").exists()
    code, answer = run("rollback", x)
    assert (code, answer["result"]["generation"]) == (0, 1)
    assert not (x / "new").exists()
    code, answer = run("history", x)
    assert [item["state"] for item in answer["result"]["generations"]] == ["kept", "current"]
    code, answer = run("move", x, y)
    assert (code, answer["result"]["rewritten"]) == (0, 1)
    assert (y / "bin/tool").read_text().endswith(f"echo {y}\n")
    assert run("rollback", y, "--to", 2)[0] == 0
    (y / "mine").touch()
    code, answer = run("remove", y)
    assert (code, answer["error"]["details"]) == (10, [f"{y}/mine"])
    assert run("remove", y, "--force")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar.gz", "second.tar.gz"]


def test_metrics(run: Run, bundle: Path, tmp_path: Path) -> None:
    run("deploy", bundle, tmp_path / "x")
    code, answer = run("metrics", tmp_path / "x", tmp_path / "none")
    families = {family["name"]: family["samples"] for family in answer["result"]["families"]}
    assert (code, [sample["value"] for sample in families["envpack_deployment_generation"]]) == (0, [1])
    states = [sample["labels"]["state"] for sample in families["envpack_deployment_state"] if sample["value"]]
    assert sorted(states) == ["missing", "ok"]


def test_an_upgrade_whose_test_fails_changes_nothing(run: Run, bundle: Path, tmp_path: Path) -> None:
    run("deploy", bundle, tmp_path / "x")
    code, answer = run("deploy", second(tmp_path, test="false"), tmp_path / "x")
    assert (code, answer["error"]["type"]) == (11, "DeploymentTestError")
    assert "generation 1, is active again" in answer["error"]["message"]
    assert not (tmp_path / "x/new").exists() and not (tmp_path / ".x.envpack").exists()
