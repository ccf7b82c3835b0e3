"""Links that a zip holds as copies, in packages as conda records them."""

from __future__ import annotations

import json
from pathlib import Path

from envpack.interop.environment.symlinks import restore_links
from support.conda_records import SITE_PACKAGES, CondaEnvironment


def test_a_link_of_a_noarch_package_is_restored(tmp_path: Path) -> None:
    made = CondaEnvironment(tmp_path / "env")
    place = made.install("mod", {"site-packages/mod/data": b"1", "site-packages/mod/link": b"1"}, noarch=True)
    record = json.loads(place.read_text())
    record["paths_data"]["paths"][1]["path_type"] = "softlink"
    place.write_text(json.dumps(record))
    assert list(restore_links(made.prefix)) == [f"{SITE_PACKAGES}/mod/link"]
    assert (made.prefix / SITE_PACKAGES / "mod/link").readlink() == Path("data")


def test_equal_files_of_a_package_that_was_linked_into_the_cache_stay_files(tmp_path: Path) -> None:
    made = CondaEnvironment(tmp_path / "env")
    place = made.install("mod", {"lib/a": b"same", "lib/b": b"same"})
    record = json.loads(place.read_text())
    record["link"] = {"source": "/pkgs/mod-1.0-0", "type": 2}
    for item in record["paths_data"]["paths"]:
        item["path_type"] = "softlink"
    place.write_text(json.dumps(record))
    assert list(restore_links(made.prefix)) == []
