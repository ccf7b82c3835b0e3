"""Databases of advisories as directories, zip archives and single files."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

import envpack.audit.database as database_module
from envpack.audit.database import Database, read_database
from envpack.runtime.errors import DatabaseError
from envpack.runtime.report import Reporter
from support.advisories import advisory, write_folder, write_zip

NOW = datetime(2025, 7, 1, tzinfo=timezone.utc)
ONE = advisory("GHSA-1", "Demo", versions=["1.0"], modified="2025-05-01T00:00:00Z")
TWO = advisory("GHSA-2", "other", versions=["1.0"], modified="2025-06-01T00:00:00Z")
GONE = advisory(
    "GHSA-3", "demo", versions=["1.0"], modified="2025-06-15T00:00:00Z", withdrawn="2025-06-15T00:00:00Z"
)
ELSEWHERE = {**advisory("GHSA-4"), "affected": [{"package": {"ecosystem": "npm", "name": "demo"}}]}


def read(*places: Path) -> Database:
    return read_database(places, {"demo"}, NOW, Reporter())


def ids(found: Database) -> list[str]:
    return [one.id for one in found.advisories.get("demo", ())]


def refused(*places: Path) -> str:
    with pytest.raises(DatabaseError) as caught:
        read(*places)
    assert caught.value.hint and caught.value.code == 6
    return caught.value.message


def nested(folder: Path) -> Path:
    write_folder(folder / "2025/05", ONE)
    write_folder(folder / ".git", {"id": "broken"})
    (folder / "README.md").write_text("x")
    return write_folder(folder / "2025/06", TWO, GONE, ELSEWHERE).parents[1]


FORMS: dict[str, Callable[[Path], Path]] = {
    "zip": lambda folder: write_zip(folder / "all.zip", ONE, TWO, GONE, ELSEWHERE),
    "folder": lambda folder: nested(folder / "db"),
    "folder with a zip": lambda folder: (
        write_zip(write_folder(folder / "db") / "all.zip", ONE, TWO, GONE, ELSEWHERE).parent
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str, tmp_path: Path) -> None:
    place = FORMS[form](tmp_path)
    found = read(place)
    assert found.paths == (str(place),)
    assert (found.records, ids(found)) == (2, ["GHSA-1"])
    assert found.modified == datetime(2025, 6, 15, tzinfo=timezone.utc)


def test_one_file(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "db", ONE) / "GHSA-1.json"
    assert ids(read(place)) == ["GHSA-1"]


def test_several_databases(tmp_path: Path) -> None:
    own = advisory("OWN-1", "demo", versions=["2.0"])
    found = read(write_zip(tmp_path / "all.zip", ONE), write_folder(tmp_path / "own", own))
    assert ids(found) == ["GHSA-1", "OWN-1"] and len(found.paths) == 2


def test_each_database_must_have_advisories(tmp_path: Path) -> None:
    good, empty = write_zip(tmp_path / "all.zip", ONE), tmp_path / "empty"
    empty.mkdir()
    assert f"no advisory about a package of PyPI in {empty}" in refused(good, empty)
    other = write_zip(tmp_path / "npm.zip", ELSEWHERE)
    assert f"no advisory about a package of PyPI in {other}" in refused(other, good)


def test_links_to_directories_are_followed_once(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "db", TWO)
    write_folder(tmp_path / "elsewhere", ONE)
    (place / "own").symlink_to(tmp_path / "elsewhere")
    (place / "loop").symlink_to(place)
    assert ids(read(place)) == ["GHSA-1"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_record_that_was_modified_last_counts(order: tuple[int, int], tmp_path: Path) -> None:
    withdrawn = {**ONE, "modified": "2025-06-20T00:00:00Z", "withdrawn": "2025-06-20T00:00:00Z"}
    places = [write_zip(tmp_path / "a.zip", ONE, TWO), write_zip(tmp_path / "b.zip", withdrawn)]
    found = read(*(places[place] for place in order))
    assert (ids(found), found.records) == ([], 1)


def test_a_date_in_the_future_says_nothing_of_the_age(tmp_path: Path) -> None:
    late = {**TWO, "modified": "2099-01-01T00:00:00Z"}
    assert read(write_zip(tmp_path / "a.zip", ONE, late)).modified == datetime(2025, 5, 1, tzinfo=timezone.utc)
    assert read(write_zip(tmp_path / "b.zip", late)).modified is None


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def zipped(path: Path, name: str, data: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, data)
    return path


def damaged(path: Path) -> Path:
    data = bytearray(write_zip(path, ONE, TWO).read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    return path


def unreadable(path: Path) -> Path:
    os.mkfifo(path)
    return path


PROBLEMS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "missing.zip", "No such file"),
    "empty folder": (lambda folder: write_folder(folder / "db"), "no advisory about a package of PyPI"),
    "empty file": (lambda folder: written(folder / "x.json", b""), "not an advisory in OSV's format"),
    "empty zip": (lambda folder: write_zip(folder / "x.zip"), "no advisory about a package of PyPI"),
    "withdrawn only": (lambda folder: write_zip(folder / "x.zip", GONE), "no advisory about a package of PyPI"),
    "other ecosystems": (lambda folder: write_zip(folder / "x.zip", ELSEWHERE), "no advisory about a package"),
    "pipe": (lambda folder: unreadable(folder / "x.json"), "a pipe"),
    "pipe in a folder": (lambda folder: unreadable(write_folder(folder / "db", ONE) / "x.json").parent, "a pipe"),
    "no JSON": (lambda folder: written(folder / "x.json", b"<html>"), "not an advisory in OSV's format"),
    "other JSON": (lambda folder: written(folder / "x.json", b"[]"), "not an object"),
    "deep JSON": (lambda folder: written(folder / "x.json", b"[" * 200_000), "nested too deeply"),
    "other JSON in a zip": (lambda folder: zipped(folder / "x.zip", "a.json", b"{}"), "x.zip: a.json"),
    "truncated": (
        lambda folder: written(folder / "x.zip", write_zip(folder / "y.zip", ONE).read_bytes()[:-30]),
        "x.zip: the archive is truncated",
    ),
    "damaged": (lambda folder: damaged(folder / "x.zip"), "damaged"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_database_that_can_not_be_read_whole_is_an_error(problem: str, tmp_path: Path) -> None:
    make, message = PROBLEMS[problem]
    assert message in refused(make(tmp_path))


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write_zip(tmp_path / "x.zip", {**ONE, "details": "x" * 100_000}, TWO)
    file = written(tmp_path / "x.json", json.dumps({**ONE, "details": "x" * 100_000}).encode())
    monkeypatch.setattr(database_module, "MAX_RECORD_SIZE", 50_000)
    assert "too long for an advisory" in refused(place)
    assert "too long for an advisory" in refused(file)
    monkeypatch.undo()
    monkeypatch.setattr(database_module, "MAX_RECORDS", 1)
    assert "more than 1 advisories" in refused(place)
    monkeypatch.undo()
    monkeypatch.setattr(database_module, "MAX_UNPACKED_SIZE", 50_000)
    assert "more than" in refused(place)
