"""Addresses of bundles in registries."""

from __future__ import annotations

import pytest

from envpack.runtime.errors import UsageError
from envpack.runtime.transport.oci.reference import Reference, parse_reference, tag_for
from envpack.runtime.transport.open import append_suffix, shown

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("oci://host/demo", Reference("host", None, "demo")),
        ("oci://Host:5000/team/demo:1.0", Reference("host", 5000, "team/demo", "1.0")),
        (f"oci://host/demo@{DIGEST}", Reference("host", None, "demo", digest=DIGEST)),
        (f"oci://host/demo:1@{DIGEST}", Reference("host", None, "demo", "1", DIGEST)),
        ("oci://[::1]:5000/a__b/c-d", Reference("::1", 5000, "a__b/c-d")),
        ("oci://docker.io/demo", Reference("docker.io", None, "library/demo")),
        ("oci://host/demo:1#.minisig", Reference("host", None, "demo", "1", part=".minisig")),
    ],
)
def test_addresses(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "oci://host",
        "oci://host/",
        "oci:///demo",
        "oci://host/Demo",
        "oci://host/demo//x",
        "oci://host/../x",
        "oci://host/demo:",
        "oci://host/demo:a b",
        "oci://host/demo:" + "1" * 129,
        "oci://host/demo:1+2",
        "oci://host/demo@sha256:12",
        "oci://host/demo@md5:" + "0" * 64,
        "oci://host:0/demo",
        "oci://host:70000/demo",
        "oci://host/demo?x=1",
        "oci://host/" + "a" * 256,
        "oci://host\n/demo",
    ],
)
def test_invalid_addresses(text: str) -> None:
    with pytest.raises(UsageError):
        parse_reference(text)


def test_a_password_is_refused_and_not_printed() -> None:
    with pytest.raises(UsageError, match="a user and a password") as caught:
        parse_reference("oci://ann:secret@host/demo")
    assert "secret" not in str(caught.value.as_dict())


def test_the_api_of_docker_hub_is_at_another_host() -> None:
    reference = parse_reference("oci://docker.io/team/demo")
    assert str(reference.url("x", plain=False)) == "https://registry-1.docker.io/v2/x"
    assert reference.registry == "docker.io"


def test_the_host_of_a_digest_is_shown() -> None:
    """A path behind a port looks like a password with a slash in it."""
    text = f"oci://127.0.0.1:5000/team/demo@{DIGEST}"
    assert shown(text) == text
    assert shown(f"oci://ann:se/cret@127.0.0.1:5000/team/demo@{DIGEST}").count("cret") == 0


def test_a_signature_belongs_to_a_bundle() -> None:
    assert append_suffix("oci://host:1/demo:1", ".minisig") == "oci://host:1/demo:1#.minisig"


def test_a_pinned_reference_has_no_tag_that_moves() -> None:
    assert str(parse_reference("oci://host/demo:latest").pinned(DIGEST)) == f"oci://host/demo@{DIGEST}"
    assert str(parse_reference("oci://host/demo:1").pinned(DIGEST)) == f"oci://host/demo:1@{DIGEST}"


@pytest.mark.parametrize(("text", "tag"), [("1.0-2", "1.0-2"), ("1+a!b", "1_a_b"), ("-1", "_-1"), ("", "_")])
def test_tags(text: str, tag: str) -> None:
    assert tag_for(text) == tag
    assert len(tag_for("x" * 300)) == 128
