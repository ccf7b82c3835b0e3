"""The benchmarks run, on an environment small enough for a test; what they measure is no test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.trees import contents

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, "-W", "error", str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, Path]:
    folder = tmp_path_factory.mktemp("bench")
    small = ["--size", 0.002, "--files", 300, "--high", 4, "--rounds", 1, "--folder", folder]
    shown = run("compare.py", "synthetic", *small, "--json", folder / "small.json")
    return json.loads((folder / "small.json").read_text()), shown, folder


@pytest.mark.long
def test_every_case_is_measured_and_every_target_reported(compared: tuple[dict[str, Any], str, Path]) -> None:
    result, shown, folder = compared
    cases = {case["name"]: case for case in result["cases"]}
    assert {"conda-pack .tar.gz", "envpack .tar.gz", "cp -a", "envpack deploy gz", "envpack inspect"} < set(cases)
    assert all(case["seconds"] > 0 and case["memory"] > 0 for case in cases.values())
    assert cases["envpack .tar.gz"]["size"] > cases["envpack .tar.zst"]["size"] > 0
    assert {target["number"] for target in result["targets"]} == {1, 2, 3, 4, 5, 6, 7}
    assert "deploy, 1 changed, to cp -al" in shown
    assert all(len(line.rstrip()) <= 80 for line in shown.splitlines())
    assert not (folder / "work").exists()


@pytest.mark.long
def test_of_a_bundle_of_which_one_package_changed_only_that_is_read(
    compared: tuple[dict[str, Any], str, Path],
) -> None:
    cases = {case["name"]: case for case in compared[0]["cases"]}
    assert 0 < cases["deploy, one package changed"]["bundle_read"] < cases["envpack .tar.gz"]["size"] * 0.8
    assert cases["deploy, store empty"]["bundle_read"] > cases["envpack .tar.gz"]["size"] * 0.8


@pytest.mark.long
def test_the_environment_is_kept_as_it_was_made(compared: tuple[dict[str, Any], str, Path]) -> None:
    folder = compared[2] / "environments"
    (prefix,) = (path for path in folder.iterdir() if path.is_dir())
    assert not [path for path in prefix.rglob("*.py") if b"# changed" in path.read_bytes()]
    assert not list(prefix.rglob("*.new"))
    before = {path: path.stat().st_mtime_ns for path in prefix.rglob("*")}
    small = ["--size", 0.002, "--files", 300, "--folder", folder]
    assert run("environments.py", "synthetic", *small).strip() == str(prefix)
    assert {path: path.stat().st_mtime_ns for path in prefix.rglob("*")} == before


def test_the_same_seed_makes_the_same_environment(tmp_path: Path) -> None:
    def made(seed: int) -> dict[str, bytes]:
        small = ["--size", 0.001, "--files", 200, "--seed", seed, "--folder", tmp_path]
        return contents(Path(run("environments.py", "synthetic", *small).strip()))

    first = made(1)
    assert made(2) != first
    assert made(1) == first


@pytest.mark.long
def test_growth_is_measured_and_written_down(compared: tuple[dict[str, Any], str, Path], tmp_path: Path) -> None:
    steps = ["--files", 100, 200, "--size", 0.001, "--sizes", 0.001, 0.002, "--count", 100]
    run("scaling.py", *steps, "--folder", tmp_path, "--json", tmp_path / "scaling.json")
    assert not (tmp_path / "scaling").exists()
    files = [compared[2] / "small.json", tmp_path / "scaling.json"]
    run("results.py", *files, "--note", "Of a test.", "-o", tmp_path / "RESULTS.md")
    written = (tmp_path / "RESULTS.md").read_text()
    assert "| envpack deploy zst |" in written
    assert "More files" in written
    assert "Of a test." in written
