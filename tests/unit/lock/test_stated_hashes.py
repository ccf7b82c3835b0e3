"""Hashes that a pip section states: only files that have one are locked."""

from __future__ import annotations

from pathlib import Path

import pytest

from envpack.lock.stated_hashes import StatedHashes
from envpack.lock.uvtool import build_settings
from envpack.runtime.errors import BuildError
from envpack.spec.pip_lines import parse_lines

ONE, TWO = "1" * 64, "2" * 64
PACKAGE = {
    "name": "Tool",
    "version": "1.0",
    "wheels": [{"url": "https://h/a.whl", "hashes": {"sha256": ONE}}, {"url": "https://h/b.whl", "hashes": {}}],
    "sdist": {"url": "https://h/a.tar.gz", "hashes": {"sha256": TWO}},
}


def stated(*lines: str, folder: Path = Path()) -> StatedHashes:
    return StatedHashes.of(parse_lines(lines), folder)


def test_files_without_a_stated_hash_are_left_out():
    assert stated("other").allowed(PACKAGE) == PACKAGE
    wheel = stated(f"tool==1.0 --hash=sha256:{ONE}").allowed(PACKAGE)
    assert [file["url"] for file in wheel["wheels"]] == ["https://h/a.whl"]
    assert "sdist" not in wheel
    assert "wheels" not in stated(f"tool --hash=SHA256:{TWO} --hash=sha512:00").allowed(PACKAGE)


def test_a_package_with_another_hash_is_refused():
    with pytest.raises(BuildError, match=r"no file of tool 1\.0 has a hash that the pip section states") as caught:
        stated("tool==1.0 --hash=sha256:00").allowed(PACKAGE)
    assert caught.value.details == ["stated: sha256:00"]
    with pytest.raises(BuildError, match="no file of tool"):
        stated("tool @ git+https://h/t --hash=sha256:00").allowed({"name": "tool", "vcs": {"type": "git"}})


def test_hashes_of_included_files_and_of_urls_count(tmp_path):
    (tmp_path / "r.txt").write_text(f"tool==1.0 \\\n    --hash=sha256:{TWO}\n")
    assert "wheels" not in stated("-r r.txt", folder=tmp_path).allowed(PACKAGE)
    archive = {"name": "x", "archive": {"url": "https://h/x.zip", "hashes": {"sha256": ONE}}}
    assert stated(f"https://h/x.zip --hash=sha256:{ONE}").allowed(archive) == archive
    with pytest.raises(BuildError):
        stated(f"https://h/x.zip --hash=sha256:{TWO}").allowed(archive)


@pytest.mark.parametrize(
    "place",
    ["https://h/tool-1.0%2Bc-py3-none-any.whl", "./w/tool-1.0-py3-none-any.whl", "./src/t.zip", "file:///t.zip"],
)
def test_hashes_of_files_without_a_name_count(place: str):
    archive = {"name": "tool", "archive": {"path": place.rpartition("//")[2], "hashes": {"sha256": ONE}}}
    if place.startswith("http"):
        archive = {"name": "tool", "archive": {"url": place, "hashes": {"sha256": ONE}}}
    assert stated(f"{place} --hash=sha256:{ONE}").allowed(archive) == archive
    with pytest.raises(BuildError, match="no file of tool"):
        stated(f"{place} --hash=sha256:{TWO}").allowed(archive)


def test_every_package_needs_a_hash_where_the_section_says_so():
    with pytest.raises(BuildError, match="states no hash for tool"):
        stated("--require-hashes", "other").allowed(PACKAGE)


def test_settings_of_a_build_are_those_of_one_package():
    lines = parse_lines(['apex @ git+https://h/apex --config-settings "--build-option=--cuda ext"', "six"])
    assert build_settings(lines) == ["--config-settings-package", "apex:--build-option=--cuda ext"]


def test_hashes_of_algorithms_that_the_index_does_not_state_are_named() -> None:
    with pytest.raises(
        BuildError, match="can't be compared: the pip section states sha512, and its index sha256"
    ) as e:
        stated(f"tool==1.0 --hash=sha512:{'0' * 128}").allowed(PACKAGE)
    assert e.value.hint == "State --hash=sha256:HEX in the pip section."
    assert stated(f"tool --hash=sha512:00 --hash=sha256:{ONE}").allowed(PACKAGE)
