"""Names of bundles: what is parsed, and the order of releases."""

from __future__ import annotations

from datetime import date

import pytest

from envpack.publish.names import BundleName, parse_bundle_name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "demo-1.0-20251219-linux-64.tar.gz",
            BundleName("demo", "1.0", date(2025, 12, 19), "linux-64"),
        ),
        (
            "qwen-edit-2.0+cu121-20251219.3-linux-aarch64.tar.zst",
            BundleName("qwen-edit", "2.0+cu121", date(2025, 12, 19), "linux-aarch64", 3, ".tar.zst"),
        ),
        ("demo-1.0-20251319-linux-64.tar.gz", None),
        ("demo-1.0-20251219.0-linux-64.tar.gz", None),
        ("demo-1.0-20251219-linux-64.tar.gz.sha256", None),
        ("demo-1.0-20251219-linux-64.zip", None),
        ("demo-1.0-linux-64.tar.gz", None),
        ("demo.tar.gz", None),
        ("demo-1.0-٢٠٢٥١٢١٩-linux-64.tar.gz", None),
    ],
)
def test_names_that_a_release_has_are_parsed(text: str, found: BundleName | None) -> None:
    assert parse_bundle_name(text) == found
    if found is not None:
        assert str(found) == text


def test_releases_are_ordered_by_date_version_and_number() -> None:
    names = [
        "demo-9-20251218-linux-64.tar.gz",
        "demo-what_is_this-20251219-linux-64.tar.gz",
        "demo-1.9-20251219-linux-64.tar.gz",
        "demo-1.9-20251219.2-linux-64.tar.gz",
        "demo-1.9-20251219.10-linux-64.tar.gz",
        "demo-1.10-20251219-linux-64.tar.gz",
        "demo-1.0-20251220-linux-64.tar.gz",
    ]
    parsed = [name for name in map(parse_bundle_name, reversed(names)) if name is not None]
    assert [str(name) for name in sorted(parsed, key=lambda name: name.age)] == names
