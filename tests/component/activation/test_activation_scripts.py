"""The texts of the activation scripts; the shells themselves read them in test_activation.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import envpack
from envpack.bundle.zipapp.runtime_zip import runtime_zip
from envpack.runtime.activation import launcher, scripts
from envpack.runtime.activation.variables import variable_scripts
from envpack.runtime.errors import SpecError

SOURCES = Path(envpack.__file__).parent / "runtime/activation"


def test_every_script_travels_and_only_programs_are_executable() -> None:
    modes = {path: mode for path, (_, mode) in scripts().items()}
    assert {path for path, mode in modes.items() if mode != 0o644} == {"bin/conda-unpack"}
    assert modes["bin/conda-unpack"] == 0o755
    on_disk = {file.read_bytes() for file in SOURCES.iterdir() if file.is_file() and file.suffix != ".py"}
    template = (SOURCES / "named-command").read_bytes()  # each bundle has it for the names of its commands
    assert {template, *(data for data, _ in scripts().values())} == on_disk
    assert launcher("serve") == template.replace(b"@NAME@", b"serve")


def test_the_scripts_are_read_from_inside_a_zip_too(tmp_path: Path) -> None:
    archive = tmp_path / "runtime.pyz"
    archive.write_bytes(runtime_zip())
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from envpack.runtime import activation\n"
        "assert activation.__file__.startswith(sys.argv[1])\n"
        "print({path: (data.hex(), mode) for path, (data, mode) in activation.scripts().items()})"
    )
    command = [sys.executable, "-I", "-S", "-c", program, archive]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == f"{ {path: (data.hex(), mode) for path, (data, mode) in scripts().items()} }\n"


def test_values_are_quoted_for_each_shell() -> None:
    texts = variable_scripts({"B": "it's $x!\n\\", "A": ""})
    assert texts == {
        ".envpack/variables.sh": b"_envpack_set A ''\n_envpack_set B 'it'\\''s $x!\n\\'\n",
        ".envpack/variables.fish": b"_envpack_set A ''\n_envpack_set B 'it\\'s $x!\n\\\\'\n",
        ".envpack/variables.csh": b"_envpack_set A ''\n_envpack_set B it\\'s\\ \\$x\\!'\\\n'\\\\\n",
    }


def test_no_variables_make_no_scripts() -> None:
    assert variable_scripts({}) == {}


@pytest.mark.parametrize(
    "name", ["", "1ST", "WITH-DASH", "A B", "A\n", "É", "PATH", "CONDA_PREFIX", "UID", "status"]
)
def test_names_that_no_activation_could_set_are_refused(name: str) -> None:
    with pytest.raises(SpecError) as refused:
        variable_scripts({"GOOD": "x", name: "x", "NUL": "a\0b"})
    assert len(refused.value.details) == 2
    assert any(line.startswith(f"{name}: ") for line in refused.value.details)
