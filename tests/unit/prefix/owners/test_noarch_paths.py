"""The paths of noarch: python packages, by the records that conda writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envpack.prefix.inventory import read_prefix
from envpack.prefix.model import PrefixContents, Stored
from envpack.prefix.owners.noarch_paths import installed_paths
from envpack.prefix.relocate.normalize import FileNormalizer
from support.conda_records import PLACEHOLDER, CondaEnvironment

SITE = "lib/python3.11/site-packages"
INIT, VENDORED = "site-packages/mod/__init__.py", "site-packages/mod/site-packages/mod/__init__.py"


@pytest.mark.parametrize(
    ("recorded", "files", "expected"),
    [
        (["lib/a"], ["lib/a"], {}),
        ([INIT], [f"lib/python3.11/{INIT}"], {INIT: f"lib/python3.11/{INIT}"}),
        ([INIT], [f"lib/python3.13t/{INIT}"], {INIT: f"lib/python3.13t/{INIT}"}),
        (["python-scripts/x"], ["bin/x"], {"python-scripts/x": "bin/x"}),
        ([INIT], [INIT], {}),
        (["python-scripts/x"], ["python-scripts/x", "bin/x"], {}),
        ([INIT], [], {}),
        (
            [INIT, VENDORED],
            [f"lib/python3.11/{VENDORED}", f"lib/python3.11/{INIT}"],
            {INIT: f"lib/python3.11/{INIT}", VENDORED: f"lib/python3.11/{VENDORED}"},
        ),
        (["share/site-packages/a"], ["share/site-packages/a"], {}),
    ],
)
def test_the_paths_in_the_environment(recorded: list[str], files: list[str], expected: dict[str, str]) -> None:
    assert installed_paths(recorded, files) == expected


@pytest.fixture
def made(tmp_path: Path) -> CondaEnvironment:
    made = CondaEnvironment(tmp_path / "env")
    made.install("python", {"bin/python3.11": b"", f"{SITE}/README": b"own"})
    files = {
        INIT: b"VALUE = 1\n",
        VENDORED: b"VALUE = 2\n",
        "site-packages/mod/paths.py": f"HERE = {PLACEHOLDER!r}\n".encode(),
        "site-packages/mod-1.0.dist-info/METADATA": b"Name: mod\nVersion: 1.0\n",
        "site-packages/mod-1.0.dist-info/RECORD": b"mod/__init__.py,,\nmod/paths.py,,\n",
        "python-scripts/tool": b"#!/bin/sh\necho tool\n",
        "etc/mod.conf": b"on\n",
    }
    made.install("mod", files, noarch=True, entry_points=["mod-run = mod:main"], compiled=[INIT, VENDORED])
    return made


def store(contents: PrefixContents, path: str) -> Stored:
    entry = next(entry for group in contents.groups for entry in group.entries if entry.path == path)
    return FileNormalizer(contents.prefix, contents).normalize(entry, (contents.prefix / path).read_bytes())


def test_every_file_belongs_to_its_conda_package_and_none_is_missed(made: CondaEnvironment) -> None:
    contents = read_prefix(made.prefix)
    assert (contents.missing, contents.foreign, contents.replaced) == ((), (), ())
    assert [group.id for group in contents.groups] == ["conda:mod-1.0-0", "conda:python-1.0-0", "environment"]
    owned = {entry.path for entry in contents.groups[0].entries}
    assert {f"{SITE}/mod/__init__.py", f"{SITE}/mod/site-packages/mod/__init__.py", "bin/tool"} < owned
    assert {"bin/mod-run", "etc/mod.conf", f"{SITE}/mod-1.0.dist-info/RECORD"} < owned
    proved = {entry.path for entry in contents.groups[0].entries if entry.published is not None}
    assert proved == owned - {"bin/mod-run"}
    assert not any(store(contents, path).modified for path in owned)


def test_records_without_what_only_conda_writes_are_read_as_well(made: CondaEnvironment) -> None:
    """micromamba and rattler leave out some of these fields; none of them says which files a package has."""
    of_conda = read_prefix(made.prefix)
    for place in made.prefix.glob("conda-meta/*.json"):
        record = json.loads(place.read_text())
        for name in (
            "link",
            "requested_spec",
            "extracted_package_dir",
            "package_tarball_full_path",
            "arch",
            "platform",
        ):
            del record[name]
        place.write_text(json.dumps({**record, "requested_specs": []}))
    contents = read_prefix(made.prefix)
    assert (contents.missing, contents.foreign, contents.replaced) == ((), (), ())
    assert [(group.id, [entry.path for entry in group.entries]) for group in contents.groups] == [
        (group.id, [entry.path for entry in group.entries]) for group in of_conda.groups
    ]


@pytest.mark.parametrize("path", [f"{SITE}/mod/__init__.py", f"{SITE}/mod/paths.py", "bin/tool", "etc/mod.conf"])
def test_an_edit_is_found(made: CondaEnvironment, path: str) -> None:
    with (made.prefix / path).open("ab") as file:
        file.write(b"# edited\n")
    assert store(read_prefix(made.prefix), path).modified


def test_a_removed_file_is_missed_under_its_path_in_the_environment(made: CondaEnvironment) -> None:
    (made.prefix / SITE / "mod/__init__.py").unlink()
    (made.prefix / "bin/tool").unlink()
    assert read_prefix(made.prefix).missing == ("bin/tool", f"{SITE}/mod/__init__.py")


def test_a_bundle_s_record_has_the_paths_that_conda_doctor_and_rattler_look_at(made: CondaEnvironment) -> None:
    contents = read_prefix(made.prefix)
    path = "conda-meta/mod-1.0-0.json"
    entry = next(entry for entry in contents.groups[-1].entries if entry.path == path)
    items = json.loads(entry.content or b"")["paths_data"]["paths"]
    assert all((made.prefix / item["_path"]).is_file() for item in items if item["path_type"] != "pyc_file")
    digests = {item["_path"]: item.get("sha256_in_prefix") for item in items if item["path_type"] == "hardlink"}
    assert [path for path, digest in digests.items() if digest is None] == [f"{SITE}/mod/paths.py"]


def test_a_file_that_only_the_list_of_files_has_belongs_to_the_package(made: CondaEnvironment) -> None:
    record = made.install("data", {"share/a": b"a"})
    document = json.loads(record.read_text())
    document["files"].append("share/b")
    record.write_text(json.dumps(document))
    (made.prefix / "share/b").write_text("b")
    assert read_prefix(made.prefix).foreign == ()
