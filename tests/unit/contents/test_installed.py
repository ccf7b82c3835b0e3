"""The packages of an environment from the metadata that conda and pip left."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from envpack.contents.inventory import Installed, inventory, metadata_paths
from envpack.runtime.errors import PackError
from envpack.runtime.format.changes import Changes
from envpack.runtime.format.manifest import Package, PathRecord, PathsTable
from support.bundle_factory import draft

SITE = "lib/python3.12/site-packages"
PYTHON = Package("conda", "python", "3.12.4", build="0", segment="conda:python")


def record(name: str, *depends: str, version: str = "1.0") -> tuple[str, bytes]:
    document = {"name": name, "version": version, "build": "0", "depends": list(depends), "files": []}
    return f"conda-meta/{name}-{version}-0.json", json.dumps(document).encode()


def metadata(name: str, *requires: str, version: str = "1.0") -> tuple[str, bytes]:
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {text}" for text in requires)]
    return f"{SITE}/{name}-{version}.dist-info/METADATA", "\n".join(lines).encode() + b"\n\nRequires-Dist: no\n"


def environment(
    segments: Mapping[str, Mapping[str, bytes]], *packages: Package, modified: tuple[str, ...] = ()
) -> dict[str, Installed]:
    table = PathsTable({id: tuple(PathRecord(path, "file") for path in files) for id, files in segments.items()})
    files = {path: data for inside in segments.values() for path, data in inside.items()}
    manifest = draft(packages=packages, subdir="linux-64", changes=Changes(modified=modified))
    wanted = metadata_paths(table)
    found = inventory(manifest, table, {path: data for path, data in files.items() if path in wanted})
    return {one.package.name: one for one in found}


def pypi(name: str) -> Package:
    return Package("pypi", name, "1.0", segment=f"pypi:{name}")


def requires(one: Installed) -> set[str]:
    return {name for distribution in one.distributions for name in distribution.requires}


def test_a_conda_package_has_the_distributions_in_it() -> None:
    """py-opencv of conda-forge is opencv-python on PyPI, whose advisories apply to it."""
    opencv = Package("conda", "py-opencv", "1.0", build="0", segment="conda:py-opencv")
    found = environment(
        {
            "conda:py-opencv": dict(
                [
                    record("py-opencv", "python >=3.12", "conda-forge::numpy[version='>=1']", "__glibc >=2.17"),
                    metadata("opencv_python"),
                    metadata("opencv_python_headless"),
                ]
            )
        },
        opencv,
    )["py-opencv"]
    assert found.depends == {"python", "numpy"}
    assert [distribution.name for distribution in found.distributions] == [
        "opencv-python",
        "opencv-python-headless",
    ]


def test_versions_may_follow_the_names_of_dependencies_at_once() -> None:
    depends = (
        "numpy>=1.20",
        "python=3.12",
        "a==1",
        "b<2",
        "c!=3",
        "d~=1",
        "conda-forge::e[build=x]",
        "f",
        "__cuda>=12",
    )
    package = Package("conda", "demo", "1.0", build="0", segment="conda:demo")
    found = environment({"conda:demo": dict([record("demo", *depends)])}, package)["demo"]
    assert found.depends == {"numpy", "python", "a", "b", "c", "d", "e", "f"}


def test_a_distribution_with_two_directories_of_metadata_is_there_once() -> None:
    _, text = metadata("demo", "other")
    package = Package("conda", "demo", "1.0", build="0", segment="conda:demo")
    files = {f"{SITE}/demo-1.0.dist-info/METADATA": text, f"{SITE}/demo-1.0-py3.12.egg-info/PKG-INFO": text}
    found = environment({"conda:demo": {**dict([record("demo")]), **files}}, package)["demo"]
    assert [distribution.name for distribution in found.distributions] == ["demo"]


def test_a_marker_that_can_not_be_evaluated_is_taken_as_true() -> None:
    found = environment(
        {"pypi:demo": dict([metadata("demo", 'odd; python_version ~= "3"', 'no; python_version < "3"')])},
        pypi("demo"),
    )["demo"]
    assert requires(found) == {"odd"}


def test_requirements_are_those_of_this_platform_and_python() -> None:
    found = environment(
        {
            "pypi:app": dict(
                [
                    metadata(
                        "app",
                        "Plain_Name (>=1)",
                        'win; sys_platform == "win32"',
                        'old; python_version < "3.12"',
                        'new; python_full_version >= "3.12.4" and platform_machine == "x86_64"',
                        'tested; extra == "test"',
                        "not a requirement !",
                        "app",
                    )
                ]
            )
        },
        PYTHON,
        pypi("app"),
    )
    assert requires(found["app"]) == {"plain-name", "new"}


def test_extras_are_those_that_are_required() -> None:
    """Also where one extra requires another one."""
    found = environment(
        {
            "pypi:app": dict([metadata("app", "server[fast]")]),
            "pypi:server": dict(
                [
                    metadata(
                        "server",
                        'server[loop]; extra == "fast"',
                        'uvloop; extra == "loop"',
                        'docs; extra == "docs"',
                    )
                ]
            ),
        },
        PYTHON,
        pypi("app"),
        pypi("server"),
    )
    assert requires(found["server"]) == {"uvloop"}


def test_documents_in_a_wheel() -> None:
    path, data = metadata("app")
    folder = path.rpartition("/")[0]
    files = {
        path: data,
        f"{folder}/sboms/auditwheel.cdx.json": b'{"bomFormat": "CycloneDX", "components": []}',
        f"{folder}/sboms/other.spdx.json": b'{"spdxVersion": "SPDX-2.3"}',
        f"{folder}/sboms/broken.cdx.json": b"{",
        f"{folder}/sboms/deep.cdx.json": b"[" * 100_000,
    }
    found = environment({"pypi:app": files}, pypi("app"))["app"].distributions[0]
    assert found.documents == ({"bomFormat": "CycloneDX", "components": []},)


def test_files_that_are_not_as_published() -> None:
    path, data = metadata("app")
    found = environment({"pypi:app": {path: data}, "pypi:b": {"b": b""}}, pypi("app"), modified=(path, "b"))
    assert found["app"].modified == (path,)


def test_other_files_are_not_read() -> None:
    path, data = metadata("app")
    folder = path.rpartition("/")[0]
    paths = [path, f"{folder}/RECORD", f"{folder}/LICENSE", f"{SITE}/app.py", "conda-meta/history", "x.json"]
    assert metadata_paths(PathsTable({"a": tuple(PathRecord(name, "file") for name in paths)})) == {path}
    assert data


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"name": "a", "version": "1", "build": "0", "depends": [1]}', b"\xff", b"[" * 9999],
)
def test_a_broken_record_is_named(data: bytes) -> None:
    with pytest.raises(PackError, match=r"conda-meta/a\.json"):
        environment({"conda:a": {"conda-meta/a.json": data}}, Package("conda", "a", "1", segment="conda:a"))
