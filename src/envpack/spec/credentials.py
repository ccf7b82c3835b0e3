"""Passwords and tokens in the URLs of channels and indexes: left out of files."""

from __future__ import annotations

import re

from envpack.runtime.transport.redact import without_tokens

_USER = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]{0,30}://)(?P<user>[^/\s\"']+)@")


def without_credentials(text: str) -> str:
    """Return ``text`` with passwords and conda's tokens taken out of its URLs, which can still be used.

    The user of an ssh URL stays, and so do ``${NAME}``, which stand for a variable of whoever reads the file.
    """
    return without_tokens(_USER.sub(_plain, text))


def _plain(match: re.Match[str]) -> str:
    scheme, user = match["scheme"], match["user"]
    if not re.sub(r"\$\{?\w+\}?|:", "", user):
        return match[0]
    if "ssh" in scheme:
        return f"{scheme}{user.partition(':')[0]}@"
    return scheme
