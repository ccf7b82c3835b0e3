"""``envpack check`` and ``envpack doctor`` as processes, and what deploying on a host that does not do takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from envpack.bundle.zipapp.runtime_zip import runtime_zip
from envpack.cli.commands.schema import load
from envpack.runtime.format.needs import DetectedNeeds, Evidence
from support.environments import Environment
from support.fake_hosts import A100, CU126, Host, build_stubs, bundle_of
from support.forked import envpack as forked

GOOD = {"needs": DetectedNeeds(glibc=Evidence("2.17", "bin/python"))}
BAD = {"requires": {"glibc": "99.9"}}


def envpack(
    *arguments: object, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    if environ is None:
        return forked(*arguments, cwd=cwd)
    return subprocess.run(  # the libraries of a made-up host are loaded when a process starts
        [sys.executable, "-m", "envpack", *map(str, arguments)],
        env={**os.environ, **environ},
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def answer(done: subprocess.CompletedProcess[str], command: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(document, load(command))
    return document


@pytest.fixture
def good(tmp_path: Path) -> Path:
    bundle_of(tmp_path / "good.tar.gz", GOOD, complete=True)
    return tmp_path / "good.tar.gz"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    bundle_of(tmp_path / "bad.tar.gz", BAD, complete=True)
    return tmp_path / "bad.tar.gz"


def test_a_host_that_does(good: Path) -> None:
    done = envpack("check", good)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("demo 1.0 runs here: ")
    result = answer(envpack("check", good, "--json"), "check")["result"]
    assert {item["requirement"]: item["verdict"] for item in result["verdicts"]} == dict.fromkeys(
        ("platform", "glibc", "disk"), "ok"
    )


def test_an_unfit_host_is_reported_in_the_table_and_exits_with_9(bad: Path) -> None:
    done = envpack("check", bad)
    assert done.returncode == 9
    assert done.stdout.startswith("demo 1.0 can't run here: 1 failed")
    assert "this bundle needs >= 99.9: use a newer system" in done.stdout
    assert "99.9" not in done.stderr and "--allow glibc" in done.stderr
    document = answer(envpack("check", bad, "--json"), "check")
    assert (document["ok"], document["error"]["type"], document["error"]["code"]) == (False, "HostError", 9)
    assert len(document["error"]["details"]) == 1


def failed(document: dict[str, Any]) -> list[str]:
    return [item["requirement"] for item in document["result"]["verdicts"] if item["verdict"] == "failed"]


def test_the_json_of_a_failed_check_has_the_verdicts(bad: Path, tmp_path: Path) -> None:
    """The same holds for the runtime in a bundle; other errors have no result."""
    document = answer(envpack("check", bad, "--json"), "check")
    assert (document["ok"], document["error"]["code"], failed(document)) == (False, 9, ["glibc"])
    pyz = tmp_path / "runtime.pyz"
    pyz.write_bytes(runtime_zip())
    done = subprocess.run([sys.executable, "-I", pyz, "check", bad, "--json"], capture_output=True, text=True)
    assert (done.returncode, failed(answer(done, "check"))) == (9, ["glibc"])
    assert answer(envpack("check", tmp_path / "none", "--json"), "check")["result"] is None


def test_what_may_fail_is_a_warning(bad: Path) -> None:
    done = envpack("check", bad, "--allow", "glibc", "--json")
    assert done.returncode == 0
    (item,) = [item for item in answer(done, "check")["result"]["verdicts"] if item["requirement"] == "glibc"]
    assert (item["verdict"], item["allowed"]) == ("warning", True)


def test_the_rule_and_its_source_are_shown_on_request(good: Path) -> None:
    shown = envpack("check", good, "-v").stdout
    assert "evidence: bin/python" in shown and "rule: programs linked with a version of glibc run with" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--allow", "moon"), 2, "unknown requirement 'moon'"),
        (("--gpu", "maybe"), 2, "maybe"),
        (("--host", "none.json"), 6, "none.json: No such file"),
        (("--host", "good.tar.gz"), 6, "good.tar.gz"),
    ],
)
def test_wrong_arguments(good: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = envpack("check", good.name, *arguments, cwd=good.parent)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_a_folder_that_is_no_deployment(tmp_path: Path) -> None:
    done = envpack("check", tmp_path)
    assert done.returncode == 6 and "not an environment that envpack unpacked" in done.stderr


VERSION_FILE: dict[str, bytes | str] = {"torch/version.py": "__version__ = '2.7.1+cu126'\ncuda = '12.6'\n"}


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stubs(tmp_path_factory.mktemp("stubs") / "stubs")


def test_an_environment_that_envpack_did_not_deploy(stubs: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "theirs")
    environment.conda("python", "3.11.7")
    environment.wheel("torch", "2.7.1", VERSION_FILE)
    old = Host("470.57.02", 11040, [A100]).environment(stubs, tmp_path)
    environ = {name: old[name] for name in old if name != "PATH"}
    before = sorted(environment.prefix.rglob("*"))
    done = envpack("check", environment.prefix, environ=environ)
    assert done.returncode == 9, done.stderr
    assert done.stdout.startswith("theirs can't run here: 1 failed")
    assert "It is not a deployment of envpack" in done.stdout
    assert "this environment's CUDA 12.6 needs >= 525.60.13" in done.stdout
    result = answer(envpack("check", environment.prefix, "--gpu", "none", "--json"), "check")["result"]
    assert (result["kind"], result["name"], result["version"]) == ("environment", "theirs", "")
    assert sorted(environment.prefix.rglob("*")) == before


def test_an_environment_with_links_and_editables_that_lead_out_is_checked_too(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "theirs")
    environment.conda("python", "3.11.7")
    (tmp_path / "project").mkdir()
    environment.file("lib/python3.11/site-packages/project.pth", f"{tmp_path}/project\n")
    (environment.prefix / "data").symlink_to(tmp_path / "project")
    assert envpack("check", environment.prefix).returncode == 0


def test_a_bundle_that_tar_unpacked_is_checked_before_it_is_activated(good: Path, tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    subprocess.run(["tar", "-xf", good, "-C", tmp_path / "env"], check=True)
    done = envpack("check", tmp_path / "env")
    assert (done.returncode, "not deployed with" in done.stdout) == (0, True), done.stderr
    assert answer(envpack("check", tmp_path / "env", "--json"), "check")["result"]["kind"] == "unpacked"
    assert envpack("deploy", good, tmp_path / "deployed").returncode == 0
    for path, kind in ((good, "bundle"), (tmp_path / "deployed", "deployment")):
        assert answer(envpack("check", path, "--json"), "check")["result"]["kind"] == kind


def test_the_facts_of_a_host_without_envpack(stubs: Path, tmp_path: Path) -> None:
    """A deployment's own runtime tells them, and another machine checks what that host could run next."""
    bundle_of(tmp_path / "old.tar.gz", GOOD, complete=True)
    bundle_of(tmp_path / "new.tar.gz", CU126)
    assert envpack("deploy", tmp_path / "old.tar.gz", tmp_path / "env").returncode == 0
    for driver, cuda, code in (("470.57.02", 11040, 9), ("560.35.03", 12060, 0)):
        there = Host(driver, cuda, [A100]).environment(stubs, tmp_path)
        asked = [sys.executable, "-I", "-S", str(tmp_path / "env/.envpack/runtime.pyz"), "facts", "--json"]
        done = subprocess.run(asked, env=there, capture_output=True, text=True, check=True)
        (tmp_path / "there.json").write_text(done.stdout)
        done = envpack("check", tmp_path / "new.tar.gz", "--host", tmp_path / "there.json")
        assert done.returncode == code, done.stdout


def test_one_machine_checks_for_another(stubs: Path, tmp_path: Path) -> None:
    bundle_of(tmp_path / "b.tar.gz", CU126)
    for driver, cuda, code in (("470.57.02", 11040, 9), ("560.35.03", 12060, 0)):
        there = Host(driver, cuda, [A100]).environment(stubs, tmp_path)
        facts = envpack("doctor", "--json", environ={name: there[name] for name in there if name != "PATH"})
        answer(facts, "doctor")
        (tmp_path / "there.json").write_text(facts.stdout)
        done = envpack("check", tmp_path / "b.tar.gz", "--host", tmp_path / "there.json")
        assert done.returncode == code, done.stdout
        assert f"driver {driver}" in done.stdout


def test_doctor_shows_gpus_and_which_torch_runs(stubs: Path, tmp_path: Path) -> None:
    there = Host("470.57.02", 11040, [A100]).environment(stubs, tmp_path)
    environ = {name: there[name] for name in there if name != "PATH"}
    shown = envpack("doctor", environ=environ).stdout
    assert "11.4 natively; code built with any 11.x runs" in shown
    assert "NVIDIA A100-SXM4-80GB, compute capability 8.0" in shown
    assert "pip install torch --index-url https://download.pytorch.org/whl/cu118" in shown
    assert "whl/cu126" not in shown
    builds = answer(envpack("doctor", "--json", environ=environ), "doctor")["result"]["torch"]
    assert {build["build"]: build["runs"] for build in builds} == {
        **dict.fromkeys(("cu121", "cu124", "cu126", "cu128", "cu129", "cu130", "cu132"), "no"),
        **dict.fromkeys(("cu118", "cpu"), "yes"),
    }


def test_nothing_is_unpacked_on_a_host_that_can_t_run_it(bad: Path, tmp_path: Path) -> None:
    done = envpack("deploy", bad, tmp_path / "env")
    assert done.returncode == 9
    assert "this bundle needs >= 99.9" in done.stderr and "--allow glibc" in done.stderr
    assert not (tmp_path / "env").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar.gz"]


@pytest.mark.parametrize(
    ("options", "recorded"),
    [
        (["--allow", "glibc"], {"check": True, "gpu": "required", "allow": ["glibc"], "overridden": ["glibc"]}),
        (["--no-check"], {"check": False, "gpu": "required", "allow": [], "overridden": []}),
        (
            ["--allow", "glibc,memory", "--gpu", "optional"],
            {"check": True, "gpu": "optional", "allow": ["glibc", "memory"], "overridden": ["glibc"]},
        ),
    ],
)
def test_overrides_are_recorded(bad: Path, tmp_path: Path, options: list[str], recorded: dict[str, Any]) -> None:
    done = envpack("deploy", bad, tmp_path / "env", *options)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "env/.envpack/deployment.json").read_text())["check"] == recorded
    assert envpack("check", tmp_path / "env").returncode == (0 if recorded["allow"] else 9)


def test_gpus_may_be_optional_where_there_are_none(tmp_path: Path) -> None:
    bundle_of(tmp_path / "b.tar.gz", CU126, complete=True)
    environ = {"CONDA_OVERRIDE_CUDA": ""}  # so there are none on a host with GPUs, too
    assert envpack("deploy", tmp_path / "b.tar.gz", tmp_path / "env", environ=environ).returncode == 9
    assert not (tmp_path / "env").exists()
    done = envpack("deploy", tmp_path / "b.tar.gz", tmp_path / "env", "--gpu", "optional", environ=environ)
    assert done.returncode == 0 and "warning: " in done.stderr


def test_a_damaged_manifest_in_a_deployment_is_no_answer(good: Path, tmp_path: Path) -> None:
    assert envpack("deploy", good, tmp_path / "env").returncode == 0
    with (tmp_path / "env/.envpack/manifest.json").open("a") as file:
        file.write(" ")
    assert envpack("check", tmp_path / "env").returncode == 7


def test_inspect_prints_what_an_image_is_to_say(tmp_path: Path, good: Path) -> None:
    bundle_of(tmp_path / "b.tar.gz", CU126)
    done = envpack("inspect", "--require-cuda", tmp_path / "b.tar.gz")
    assert done.stdout == "driver>=525.60.13,arch>=5.0,arch<10.0\n"
    assert envpack("inspect", "--require-cuda", good).stdout == "\n"
    document = answer(envpack("inspect", "--json", tmp_path / "b.tar.gz"), "inspect")
    assert document["result"]["require_cuda"] == "driver>=525.60.13,arch>=5.0,arch<10.0"


def test_cuda_is_started_where_it_is_asked_for(stubs: Path, tmp_path: Path) -> None:
    bundle_of(tmp_path / "b.tar.gz", CU126)
    there = Host("560.35.03", 12060, [A100], cuda_init="803").environment(stubs, tmp_path)
    environ = {name: there[name] for name in there if name != "PATH"}
    assert envpack("check", tmp_path / "b.tar.gz", environ=environ).returncode == 0
    done = envpack("check", tmp_path / "b.tar.gz", "--probe", environ=environ)
    assert (done.returncode, "803 CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" in done.stdout) == (9, True), done.stderr
    shown = envpack("doctor", "--probe", "--json", environ=environ)
    assert answer(shown, "doctor")["result"]["facts"]["nvidia"]["state"] == "libcuda-mismatch"
    (tmp_path / "there.json").write_text(shown.stdout)
    assert envpack("check", tmp_path / "b.tar.gz", "--host", tmp_path / "there.json").returncode == 9
    both = envpack("check", tmp_path / "b.tar.gz", "--host", tmp_path / "there.json", "--probe")
    assert (both.returncode, "doctor --probe --json" in both.stderr) == (2, True)
    works = {**environ, "CUDA_STUB_INIT": "0", "CUDA_STUB_GPUS": "NVIDIA A100|8|0|81920"}
    assert "and CUDA starts" in envpack("doctor", "--probe", environ=works).stdout
