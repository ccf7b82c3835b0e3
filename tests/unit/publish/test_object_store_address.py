"""Addresses in object stores."""

from __future__ import annotations

import pytest

from envpack.publish.object_store.address import Address, parse_address
from envpack.runtime.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bundles", Address("s3", "bundles")),
        ("S3://bundles/", Address("s3", "bundles")),
        ("s3://my.bundles/a/b/", Address("s3", "my.bundles", "a/b")),
        ("gs://my_bundles/a%20b/%C3%BC", Address("gs", "my_bundles", "a b/ü")),
        ("az://container/a%3Fb+c", Address("az", "container", "a?b+c")),
    ],
)
def test_an_address_has_a_bucket_and_a_prefix(text: str, expected: Address) -> None:
    assert parse_address(text) == expected
    assert parse_address(str(expected)) == expected


@pytest.mark.parametrize("name", ["demo-1.0+cu12-20261127-linux-64.tar.gz", "1!2.0", "a b", "50%", "a#b?c@d:e"])
def test_the_address_of_a_file_leads_to_it(name: str) -> None:
    folder = Address("s3", "bundles", "prod")
    found = parse_address(folder.of(name))
    assert (found.parent, found.name) == (folder, name)
    top = parse_address(Address("s3", "bundles").of(name))
    assert (top.parent, top.name) == (Address("s3", "bundles"), name)


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3:///prod",
        "s3://-bundles/a",
        "s3://bundles:80/a",
        "s3://b/a//b",
        "s3://b/../a",
        "s3://b/a/.",
        "s3://b/a%0Ab",
        "s3://b/a?versionId=1",
        "s3://b/a#b",
        "s3://b/%FF",
        "s3://bücher/a",
    ],
)
def test_others_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)


def test_keys_in_an_address_are_refused_and_not_shown() -> None:
    with pytest.raises(UsageError, match="have no user and password") as caught:
        parse_address("s3://AKIAEXAMPLE:wJalrXUtnFEMI@bundles/prod")
    assert "wJalr" not in f"{caught.value.message}{caught.value.hint}"
