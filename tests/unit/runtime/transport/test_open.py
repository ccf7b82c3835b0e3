"""The scheme of an URL decides what opens it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envpack.runtime.errors import UsageError
from envpack.runtime.transport.base import ByteSource, FileSource
from envpack.runtime.transport.open import SCHEMES, open_source


def test_a_row_for_a_scheme_is_all_that_opens_its_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b").write_bytes(b"a bundle")

    def opened(where: str) -> ByteSource:
        return FileSource(os.open(tmp_path / where.rpartition("/")[2], os.O_RDONLY), where, where)

    with pytest.raises(UsageError, match="can't read from s3:// without"):
        open_source("s3://bucket/b")
    monkeypatch.setitem(SCHEMES, "s3", opened)  # type: ignore[arg-type]
    source = open_source("S3://bucket/b")
    try:
        assert (source.name, source.read(2, 6)) == ("S3://bucket/b", b"bundle")
    finally:
        source.close()


def test_an_unknown_scheme_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="can't read from gopher:// URLs") as caught:
        open_source("gopher://host/b")
    assert caught.value.hint == "Use https, http, oci, file or a path."
