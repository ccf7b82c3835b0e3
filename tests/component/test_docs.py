"""The documents say what the program does."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from envpack.cli.app import COMMANDS
from envpack.runtime.errors import SpecError
from envpack.runtime.format.services import Service
from envpack.runtime.host.checks.registry import FORMS
from envpack.spec.model import PRUNE_PROFILES
from envpack.spec.parse import parse_spec
from support.forked import envpack

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]


def test_what_is_made_from_the_source_is_up_to_date() -> None:
    subprocess.run([sys.executable, REPOSITORY / "scripts" / "make_docs.py", "--check"], check=True)


COMMAND_KEYS = [field.name for field in fields(Service)]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented_with_every_option(command: str) -> None:
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    section = re.split(r"^## ", page.split(f"## envpack {command}\n")[1], flags=re.MULTILINE)[0]
    shown = envpack(command, "--help").stdout
    options = set(re.findall(r"(?<!\S)--[a-z-]+", shown))
    assert options and options == set(re.findall(r"(?<!\S)--[a-z-]+", section))


def examples() -> list[str]:
    found = []
    for page in (REPOSITORY / "README.md", DOCS / "spec.md"):
        found += re.findall(
            r"^( *)```yaml\n(.*?)^\1```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
    return [re.sub(f"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


@pytest.mark.parametrize("example", examples())
def test_the_specs_shown_are_specs(example: str) -> None:
    spec = parse_spec(example, "demo.yml")
    assert spec.name == "demo" and spec.pip and spec.test


def test_the_spec_page_names_all_there_is() -> None:
    page = (DOCS / "spec.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == {*FORMS, "run", *COMMAND_KEYS}
    assert all(f"`{name}`" in page for name in PRUNE_PROFILES)
    with pytest.raises(SpecError):
        parse_spec("name: x\nenvpack: {unknown: 1}\n", "x.yml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_readme_links_every_page() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f"](docs/{page.name})" not in readme] == []


def test_the_readme_begins_with_the_two_commands() -> None:
    first = re.search(r"```sh\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert first is not None
    assert [line.split("#")[0].strip() for line in first[1].splitlines()] == ["make demo", "make test"]


def test_every_test_that_a_complaint_is_answered_with_is_there() -> None:
    rows = re.findall(r"^\| (\d+|found) \|.*\| (.+?) \|$", (DOCS / "peers.md").read_text("utf-8"), re.MULTILINE)
    assert [int(number) for number, _ in rows if number != "found"] == list(range(1, 26))
    files = {path.name: path.read_text("utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py")}
    for _, answer in rows:
        for name, _, function in re.findall(r"`(test_\w+\.py)(::(test_\w+))?`", answer):
            assert name in files and f"def {function}(" in files[name] + "def (", answer
