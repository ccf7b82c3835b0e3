"""No URL is printed with a password, a token or a query, however malformed it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from envpack.runtime.errors import EnvpackError
from envpack.runtime.transport.http.url import parse_url
from envpack.runtime.transport.open import append_suffix, local_path, open_source, shown
from envpack.runtime.transport.redact import printable_url, without_secrets

SECRET = "hunter2secret"
URLS = [
    f"{scheme}{rest}"
    for scheme in ("https://", "http://", "file://", "ftp://", "s3://", "HTTPS://", "http:/", "https:")
    for rest in (
        *(
            f"user:{SECRET}@host/b",
            f"user:hunter/{SECRET}@host/b",
            f"user:{SECRET}@[::1/b",
            f"user:{SECRET}@host:99999/b",
        ),
        *(f"user:{SECRET}@host:x/b", f"user:{SECRET}@/b", f"user:{SECRET}#x@host/b", f"user:{SECRET}?x@host/b"),
        *(f"user:1/{SECRET}@host/b", f"user:a@{SECRET}@host/b", f"user:1?{SECRET}@host/b", f"host/b?sig={SECRET}"),
        *(f"host/b#{SECRET}", f"user:{SECRET}@ho\u2100st/b", f"{SECRET}@host/b", f"user:@{SECRET}@host/b"),
    )
]


USES = (None, local_path, lambda url: append_suffix(url, ".minisig"))


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("use", USES)
def test_no_password_is_printed(url: str, use: Callable[[str], object] | None) -> None:
    use = use or (parse_url if re.match("https?://", url, re.IGNORECASE) else open_source)
    try:
        used = use(url)
    except EnvpackError as error:
        assert SECRET not in " ".join([error.message, error.hint, *error.details])
    else:
        assert SECRET not in (shown(url) if use != parse_url else str(used))
    assert "://" not in url or SECRET not in printable_url(url)


@pytest.mark.parametrize("url", [url for url in URLS if "?sig" not in url and "/b#" not in url])
def test_no_password_is_left_in_a_text(url: str) -> None:
    assert SECRET not in without_secrets(f"can't read '{url}': no such host")


def test_what_is_no_secret_is_printed() -> None:
    for url in ("https://host:8443/a/b.tar.gz", "https://host/a@1/b.tar.gz", "http://[::1]:80/b", "file:///a/b"):
        assert printable_url(url) == url
        assert without_secrets(f"see {url} and mail@example.org") == f"see {url} and mail@example.org"
    assert printable_url("https://u:p@host/b?q#f") == "https://host/b"
    assert without_secrets("https://u:p@host/t/tk-1/ch x") == "https://***@host/t/***/ch x"


def test_a_file_may_have_a_name_like_an_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("http:b").touch()
    assert local_path("http:b") == Path("http:b")
