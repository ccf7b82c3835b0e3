"""Environments whose packages conda installed as links into its package cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envpack.prefix.owners.softlinks import is_within, record_of_files
from envpack.runtime.errors import PackError
from support.conda_records import PLACEHOLDER, SITE_PACKAGES, CondaEnvironment
from support.reporters import RecordingReporter
from support.small_prefix import SmallPrefix

FILES = {"lib/libone.so.1": b"library", "share/name": f"at {PLACEHOLDER}\n".encode(), "share/plain": b"plain\n"}


class Linked:
    """An environment with the package ``one`` and the noarch package ``pure``, linked as conda does."""

    def __init__(self, folder: Path) -> None:
        self.made = CondaEnvironment(folder / "env")
        self.cache = folder / "pkgs"
        self._link(self.made.install("one", FILES))
        self._link(self.made.install("pure", {"site-packages/pure.py": b"pure = 1\n"}, noarch=True))
        self.bundle = folder / "b.tar.zst"

    def _link(self, record: Path) -> None:
        document = json.loads(record.read_text())
        source = self.cache / record.stem
        document["link"] = {"source": str(source), "type": 2}
        (source / "info").mkdir(parents=True)
        (source / "info/index.json").write_text("{}")
        for path, item in zip(document["files"], document["paths_data"]["paths"], strict=True):
            if "prefix_placeholder" in item:
                continue  # conda copies these
            item["path_type"] = "softlink"
            del item["sha256_in_prefix"]
            place, cached = self.made.prefix / path, source / item["_path"]
            cached.parent.mkdir(parents=True, exist_ok=True)
            place.rename(cached)
            place.symlink_to(cached)
        record.write_text(json.dumps(document))

    def deployed(self, folder: Path) -> Path:
        return SmallPrefix(self.made.prefix).moved(folder)


def test_the_files_of_the_package_cache_are_packed_and_proved(tmp_path: Path) -> None:
    linked = Linked(tmp_path)
    (linked.made.prefix / "lib/libone.so").symlink_to("libone.so.1")
    told = RecordingReporter()
    manifest = SmallPrefix(linked.made.prefix).pack(linked.bundle, told)
    assert manifest.changes.modified == manifest.changes.missing == () and told.warnings == []
    assert manifest.changes.foreign == ("lib/libone.so",)
    root = linked.deployed(tmp_path)
    assert [path for path in root.rglob("*") if path.is_symlink()] == [root / "lib/libone.so"]
    assert (root / "lib/libone.so").read_bytes() == b"library"
    assert (root / SITE_PACKAGES / "pure.py").read_text() == "pure = 1\n"
    items = json.loads((root / "conda-meta/one-1.0-0.json").read_text())["paths_data"]["paths"]
    assert all(item["path_type"] == "hardlink" and item["sha256_in_prefix"] for item in items)


def test_an_edit_in_the_package_cache_is_found(tmp_path: Path) -> None:
    linked = Linked(tmp_path)
    (linked.made.prefix / "share/plain").write_text("edited\n")
    manifest = SmallPrefix(linked.made.prefix).pack(linked.bundle)
    assert manifest.changes.modified == ("share/plain",)


@pytest.mark.parametrize("source", ["/", "", "secrets", "secrets/", "two-1.0-0"])
def test_a_folder_that_is_no_package_is_not_packed_because_a_record_names_it(source: str, tmp_path: Path) -> None:
    made = CondaEnvironment(tmp_path / "env")
    record = made.install("one", FILES)
    folder = tmp_path / source.strip("/") if source.strip("/") else tmp_path
    folder.mkdir(exist_ok=True)
    (folder / "secret").write_text("secret")
    (made.prefix / "share/out").symlink_to(folder / "secret")
    named = source if source in ("/", "") else f"{tmp_path}/{source}"
    record.write_text(json.dumps({**json.loads(record.read_text()), "link": {"source": named, "type": 2}}))
    with pytest.raises(PackError) as refused:
        SmallPrefix(made.prefix).pack(tmp_path / "b.tar.zst")
    assert refused.value.details == [f"share/out: links to {folder / 'secret'}, outside the environment"]


@pytest.mark.parametrize("elsewhere", ["other", "pkgs", "pkgs/one-1.0-0-more"])
def test_other_links_that_lead_out_are_refused(elsewhere: str, tmp_path: Path) -> None:
    linked = Linked(tmp_path)
    (tmp_path / elsewhere).mkdir(exist_ok=True)
    (tmp_path / elsewhere / "file").touch()
    (linked.made.prefix / "share/out").symlink_to(tmp_path / elsewhere / "file")
    (linked.cache / "one-1.0-0/share/through").symlink_to(tmp_path / elsewhere / "file")
    (linked.made.prefix / "share/through").symlink_to(linked.cache / "one-1.0-0/share/through")
    with pytest.raises(PackError) as refused:
        SmallPrefix(linked.made.prefix).pack(linked.bundle)
    assert [line.partition(":")[0] for line in refused.value.details] == ["share/out", "share/through"]


def test_only_packages_that_are_links_are_read_as_such() -> None:
    item = {"_path": "a", "path_type": "softlink", "sha256": "0"}
    document = {"link": {"type": 1, "source": "/pkgs/a"}, "paths_data": {"paths": [item]}}
    assert record_of_files(document) is document
    document = {**document, "link": {"type": 2, "source": "/pkgs/a"}}
    assert record_of_files(document)["paths_data"]["paths"] == [{**item, "path_type": "hardlink"}]
    assert is_within("/pkgs/a/b", ("/pkgs/a",)) and not is_within("/pkgs/ab", ("/pkgs/a",))
