"""The versions of dependencies: a new release of one can't change what an installed envpack does."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = [text for extra in PROJECT["project"]["optional-dependencies"].values() for text in extra]
DEPENDENCIES = [Requirement(text) for text in [*PROJECT["project"]["dependencies"], *EXTRAS]]
GROUPS = [
    Requirement(item)
    for group in PROJECT["dependency-groups"].values()
    for item in group
    if isinstance(item, str)  # else it includes another group
]


def pins() -> dict[str, list[Version]]:
    """Return the versions in constraints.txt by package; some packages have one for each of several Pythons."""
    found: dict[str, list[Version]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (pin,) = requirement.specifier
            assert pin.operator == "==", line
            found.setdefault(canonicalize_name(requirement.name), []).append(Version(pin.version))
    return found


@pytest.mark.parametrize("requirement", DEPENDENCIES + GROUPS, ids=lambda requirement: str(requirement.name))
def test_the_tested_versions_are_those_that_pyproject_allows(requirement: Requirement) -> None:
    versions = pins()[canonicalize_name(requirement.name)]
    check = any if requirement.marker else all  # one with a marker is for some Pythons
    assert check(requirement.specifier.contains(version) for version in versions), "run: make constraints"


@pytest.mark.parametrize("requirement", DEPENDENCIES, ids=lambda requirement: str(requirement.name))
def test_what_is_before_1_0_has_an_upper_bound(requirement: Requirement) -> None:
    if any(version.major == 0 for version in pins()[canonicalize_name(requirement.name)]):
        assert any(specifier.operator in ("<", "==", "~=") for specifier in requirement.specifier)


@pytest.mark.parametrize("name", ["conda-pack", "py-rattler", "uv"])
def test_the_next_minor_version_of_a_private_interface_is_not_taken(name: str) -> None:
    (requirement,) = (one for one in DEPENDENCIES if one.name == name)
    (version,) = pins()[name]
    assert requirement.specifier.contains(version)
    assert not requirement.specifier.contains(f"{version.major}.{version.minor + 1}.0")


@pytest.mark.parametrize("extra", EXTRAS)
def test_extras_are_tested(extra: str) -> None:
    assert extra in PROJECT["dependency-groups"]["dev"]


def test_the_tested_versions_name_no_index() -> None:
    assert not re.search(r"://|^--", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
