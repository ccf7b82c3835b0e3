"""The pure parts of ``make systems``, and its services' code: it runs in environments of gigabytes, not here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import systems
from system_trial.workshop import size

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples/systems"


def test_each_system_has_a_spec_and_a_service() -> None:
    for name in systems.SYSTEMS:
        assert (REPOSITORY / f"envspecs/{name}.yml").is_file()
        assert {path.name for path in (EXAMPLES / name).glob("*.py")} == {"main.py", "make_model.py"}


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.glob("*/*.py")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_the_code_of_the_services_is_python_3_10_and_has_one_release(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 10))
    assert text.count('\nRELEASE = "1"\n') == (path.name == "main.py")


def test_the_table_keeps_the_rows_of_other_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "README.md"
    table.write_text("before\n| system | old |\n|---|---|\n| qwen-image | 1 |\n<!-- end of the table -->\nafter\n")
    monkeypatch.setattr(systems, "TABLE", table)
    systems.write_table({"pytorch-serving": {"bundle": "2.0 GB", "answer": "[2, 0]"}})
    lines = table.read_text().splitlines()
    assert lines[0] == "before"
    assert lines[1] == "| " + " | ".join(systems.HEADINGS) + " |"
    assert lines[3].startswith("| pytorch-serving | 2.0 GB |")
    assert lines[4:] == ["| qwen-image | 1 |", "<!-- end of the table -->", "after"]


@pytest.mark.parametrize(
    ("number", "text"), [(12, "12 bytes"), (4_100, "4 kB"), (27_000_000, "27 MB"), (3_254_000_000, "3.25 GB")]
)
def test_sizes_are_written_for_people(number: int, text: str) -> None:
    assert size(number) == text
