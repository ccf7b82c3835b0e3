"""The web server of ``make systems``."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from system_trial.server import serving


def test_files_are_served_whole_and_in_ranges_and_what_is_sent_is_counted(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(b"0123456789")
    with serving(tmp_path) as server:
        with urlopen(f"{server.url}bundle") as answer:
            assert answer.read() == b"0123456789"
        with urlopen(Request(f"{server.url}bundle", headers={"Range": "bytes=2-4"})) as answer:
            assert (answer.status, answer.read()) == (206, b"234")
        with urlopen(Request(f"{server.url}bundle", headers={"Range": "bytes=7-"})) as answer:
            assert answer.headers["Content-Range"] == "bytes 7-9/10"
            assert answer.read() == b"789"
        with pytest.raises(urllib.error.HTTPError, match="416") as refused:
            urlopen(Request(f"{server.url}bundle", headers={"Range": "bytes=10-"}))
        refused.value.close()
        with pytest.raises(urllib.error.HTTPError, match="404") as missing:
            urlopen(f"{server.url}other")
        missing.value.close()
    assert server.sent == 10 + 3 + 3
