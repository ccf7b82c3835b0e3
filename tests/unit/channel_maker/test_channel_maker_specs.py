"""Python requirements have to mean the same to conda."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from rattler import MatchSpec, VersionSpec
from rattler import Version as CondaVersion

from channel_maker.errors import ChannelError
from channel_maker.specs import MarkerEnvironment, applying, conda_clauses, conda_specs, same_result_range

VERSIONS = [
    "0.9",
    "1.0",
    "1.0.1",
    "1.4",
    "1.4.2",
    "1.4.9",
    "1.5",
    "1.10",
    "2.0rc1",
    "2.0",
    "2.0.1",
    "3.0.dev1",
    "3.0",
]


@pytest.mark.parametrize(
    ("specifier", "clauses"),
    [
        ("", ()),
        (">=1.4", (">=1.4",)),
        ("<2,>=1.4", ("<2a0", ">=1.4")),
        ("<2.0rc1", ("<2.0rc1",)),
        ("~=1.4.2", (">=1.4.2,1.4.*",)),
        ("~=1.4", (">=1.4,1.*",)),
        ("~=1!2.3", (">=1!2.3,1!2.*",)),
        ("==1.4.*", ("1.4.*",)),
        ("!=1.4.*", ("!=1.4.*",)),
        ("!=1.4", ("!=1.4",)),
        ("===1.4", ("==1.4",)),
        ("==1.4", ("==1.4",)),
        ("==2.7.1+cu126", ("==2.7.1+cu126",)),
        (">=1.0.0-rc.1", (">=1.0.0rc1",)),
    ],
)
def test_each_operator_has_its_conda_form(specifier: str, clauses: tuple[str, ...]) -> None:
    assert conda_clauses(SpecifierSet(specifier)) == clauses


@pytest.mark.parametrize(
    "specifier",
    [
        ">=1.4",
        "<2.0",
        "<2",
        "<=1.4.2",
        ">1.4",
        "~=1.4.2",
        "~=1.4",
        "~=1.4,!=1.5",
        "==1.4.*",
        "!=1.4.*,>=1.0",
        "==1.4",
        "!=1.4.2",
        "===1.4.2",
        ">=1.0,<2.0,!=1.4.*",
        ">=2.0rc1",
        "<2.0rc1",
    ],
)
def test_conda_accepts_the_versions_pip_accepts(specifier: str) -> None:
    python = SpecifierSet(specifier)
    conda = VersionSpec(",".join(conda_clauses(python)), strict=True)
    accepted = [text for text in VERSIONS if python.contains(Version(text), prereleases=True)]
    assert [text for text in VERSIONS if conda.matches(CondaVersion(text))] == accepted
    assert 0 < len(accepted) < len(VERSIONS)


def test_an_exact_version_also_takes_its_known_local_builds() -> None:
    specs = conda_specs("torch", SpecifierSet("==2.7.1,>2"), known=["2.7.1+cu126", "2.8.0+cu126"])
    assert specs == ("torch >2", "torch ==2.7.1|==2.7.1+cu126")
    alternatives = VersionSpec(specs[1].split(" ")[1], strict=True)
    assert alternatives.matches(CondaVersion("2.7.1+cu126"))
    assert not alternatives.matches(CondaVersion("2.8.0+cu126"))


@pytest.mark.parametrize("specifier", ["", ">=1.0,<2", "~=1.4.2", "==1!2.0", "==2.7.1+cu126", "!=1.4.*"])
def test_every_spec_is_a_strict_match_spec_of_the_normalised_name(specifier: str) -> None:
    for spec in conda_specs("Foo_Bar.baz", SpecifierSet(specifier)):
        assert spec.split(" ")[0] == "foo-bar-baz"
        MatchSpec(spec, strict=True)


def test_a_version_conda_can_not_know_is_refused() -> None:
    with pytest.raises(ChannelError, match="custom-build"):
        conda_clauses(SpecifierSet("===custom-build"))


def environment(version: str) -> MarkerEnvironment:
    minor = ".".join(version.split(".")[:2])
    return {
        "python_version": minor,
        "python_full_version": version,
        "implementation_version": version,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "platform_machine": "x86_64",
        "platform_release": "",
        "platform_version": "",
    }


@pytest.mark.parametrize(
    ("marker", "version", "expected"),
    [
        ("sys_platform == 'win32'", "3.11.7", None),
        ("sys_platform == 'linux'", "3.11.7", None),
        ("python_version < '3.11'", "3.11.7", ">=3.11"),
        ("python_version < '3.11'", "3.10.2", "<3.11.0a0"),
        ("python_version == '3.11'", "3.11.7", ">=3.11,<3.12.0a0"),
        ("python_full_version < '3.11.3'", "3.12.1", ">=3.12"),
        ("python_full_version < '3.11.3'", "3.11.7", ">=3.11.7"),
        ("python_full_version < '3.11.3'", "3.11.1", "<=3.11.1"),
    ],
)
def test_a_noarch_package_is_only_for_pythons_with_the_same_dependencies(
    marker: str, version: str, expected: str | None
) -> None:
    requirement = Requirement(f"tomli; {marker}")

    def result(at: MarkerEnvironment) -> object:
        return applying([requirement], at)

    assert same_result_range(environment(version), result) == expected


def names(requirements: tuple[Requirement, ...]) -> list[str]:
    return [requirement.name for requirement in requirements]


def test_markers_choose_the_requirements_and_extras_stay_out() -> None:
    requirements = [
        Requirement("a"),
        Requirement("b; sys_platform == 'win32'"),
        Requirement("c; python_version >= '3.9'"),
        Requirement("d; extra == 'fast'"),
    ]
    assert names(applying(requirements, environment("3.11.7"))) == ["a", "c"]


def test_a_required_extra_brings_what_it_needs_also_through_another_extra() -> None:
    known = {
        "server": [
            Requirement("base"),
            Requirement("server[loop]; extra == 'standard'"),
            Requirement("tls; extra == 'standard'"),
            Requirement("uvloop; extra == 'loop'"),
            Requirement("never; extra == 'other'"),
        ]
    }
    found = applying(
        [Requirement("server[standard]>=1")],
        environment("3.11.7"),
        requirements_of=lambda name: known.get(name, ()),
    )
    assert names(found) == ["server", "server", "tls", "uvloop"]


def test_extras_that_name_each_other_come_to_an_end() -> None:
    known = {
        "a": [Requirement("a[y]; extra == 'x'"), Requirement("a[x]; extra == 'y'"), Requirement("b; extra == 'y'")]
    }
    found = applying(
        [Requirement("a[x]")], environment("3.11.7"), requirements_of=lambda name: known.get(name, ())
    )
    assert "b" in names(found)
