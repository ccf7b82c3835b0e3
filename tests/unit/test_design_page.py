"""The instructions in docs/design.md for adding something are right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCE = REPOSITORY / "src" / "envpack"
PAGE = (REPOSITORY / "docs" / "design.md").read_text(encoding="utf-8")
HOW_TO = PAGE.split("\n## How to add a ...\n")[1].split("\n## ")[0]
PARTS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", HOW_TO, re.MULTILINE | re.DOTALL))


def named(text: str) -> list[Path]:
    """Return the files and folders that a text names in backquotes."""
    found = [name for name in re.findall(r"`([\w./]+)`", text) if "/" in name or (SOURCE / name).is_dir()]
    return [(REPOSITORY if name.startswith("tests/") else SOURCE) / name for name in found]


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_there_is_a_part_for_each_seam() -> None:
    assert list(PARTS) == [
        "Codec",
        "Host check",
        "Source of bytes",
        "Place to publish to",
        "Command",
        "Metric",
        "Archive format of another tool",
        "Shell",
    ]


@pytest.mark.parametrize("part", PARTS)
def test_every_path_exists_and_there_are_at_most_three_steps(part: str) -> None:
    assert named(PARTS[part])
    assert [path for path in named(PARTS[part]) if not path.exists()] == []
    steps = re.findall(r"^(\d)\. ", PARTS[part], re.MULTILINE)
    assert steps == ["1", "2", "3"][: len(steps)]


@pytest.mark.parametrize("part", PARTS)
def test_the_row_shown_is_one_of_the_source(part: str) -> None:
    (row,) = re.findall(r"```text\n(.*?)```", PARTS[part], re.DOTALL)
    files = [path for path in named(PARTS[part]) if path.suffix == ".py"]
    assert any(squeezed(row) in squeezed(path.read_text(encoding="utf-8")) for path in files)
