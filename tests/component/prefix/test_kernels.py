"""Jupyter kernels that run the Python on PATH: in a deployment they run its own."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from support.conda_records import CondaEnvironment
from support.reporters import RecordingReporter
from support.small_prefix import SmallPrefix

KERNEL = "share/jupyter/kernels/python3/kernel.json"
REST = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]


@pytest.fixture
def made(tmp_path: Path) -> SmallPrefix:
    made = SmallPrefix(tmp_path / "env")
    made.write("bin/python3.11", "#!/bin/sh\n", 0o755)
    made.link("bin/python3", "python3.11")
    made.link("bin/python", "python3.11")
    return made


def kernel(made: SmallPrefix, tmp_path: Path, text: str) -> Any:
    made.write(KERNEL, text)
    return json.loads((made.moved(tmp_path / "to") / KERNEL).read_text())


@pytest.mark.parametrize("program", ["python", "python3", "python3.11"])
def test_a_kernel_runs_the_python_of_the_deployment(made: SmallPrefix, tmp_path: Path, program: str) -> None:
    reporter = RecordingReporter()
    text = json.dumps({"argv": [program, *REST], "language": "python"}, indent=1)
    made.write(KERNEL, text)
    manifest = made.pack(tmp_path / "b.tar.zst", reporter)
    assert any(KERNEL in note for note in reporter.notes)
    assert KERNEL not in manifest.changes.modified
    found = kernel(made, tmp_path, text)
    assert found == {"argv": [f"{tmp_path}/to/deployed/bin/{program}", *REST], "language": "python"}


def test_conda_doctor_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    made = CondaEnvironment(tmp_path / "env")
    files = {KERNEL: json.dumps({"argv": ["python", *REST]}).encode(), "share/data": b"1"}
    record = made.install("ipykernel", {"bin/python": b"", **files})
    root = SmallPrefix(made.prefix).moved(tmp_path / "to")
    items = json.loads((root / "conda-meta" / record.name).read_text())["paths_data"]["paths"]
    for item in items:
        assert item["sha256_in_prefix"] == sha256((root / item["_path"]).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        '{"argv": ["/usr/bin/python3", "-m", "x"]}',
        '{"argv": ["python2", "-m", "x"]}',
        '{"argv": ["R"], "env": {"argv": "python"}}',
        '{"metadata": {"argv": ["python"]}, "argv": ["sh"]}',
        '{"metadata": {"argv": ["python"]}, "argv": ["/usr/bin/python3", "-m", "x"]}',
    ],
)
def test_every_other_kernel_stays_as_it_is(made: SmallPrefix, tmp_path: Path, text: str) -> None:
    assert kernel(made, tmp_path, text) == json.loads(text)
    made.write(KERNEL, text[:-1])
    assert (made.moved(tmp_path / "broken") / KERNEL).read_text() == text[:-1]
