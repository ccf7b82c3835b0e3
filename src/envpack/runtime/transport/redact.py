"""URLs as they may be printed: without passwords, tokens and queries, also where they are malformed."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from envpack.runtime.errors import UsageError

_SCHEME = r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30}:/{1,2}|\b(?:https?|ftp|s3|gs|az):)"
"""Of a longer one, the end: a text without URLs is then read in a time that grows with its length alone."""

_MALFORMED = re.compile(_SCHEME + r"[^\s'\"<>@/?#:]*(?::[^\s'\"<>@/?#]*[/?#]|[?#])[^\s'\"<>]*@(?!sha256:)")
"""A password with a character in it that has to be quoted (RFC 3986, 3.2.1): it ends at the last @. That of a path
behind a port looks the same, and the host is then not shown; that of a digest in a registry is."""
_USER = re.compile(_SCHEME + r"[^\s'\"<>/?#]+@")
_TOKEN = re.compile(r"(?P<host>://[^/\s]\S*?/t/)[^/\s]+")  # conda's; a file's URL has no host

_STORED_TOKEN = re.compile(
    r"(?P<host>://[^/\s\"']+)(?:/t/[^/\s\"'$]+|(?P<path>(?:/[^/\s\"']+)+?)/t/[a-z]{2}-[a-zA-Z0-9-]*\d[a-zA-Z0-9-]*)"
    r"(?=[/\s\"']|$)",
    re.MULTILINE,
)
"""conda takes ``/t/NAME`` anywhere in a path for a token (conda/common/url.py). Behind other folders, only a name
of Anaconda's form (``tk-`` and a UUID) is one here: indexes have folders such as packages/source/t/tqdm."""


def without_tokens(text: str) -> str:
    """Return ``text`` with conda's tokens taken out of its URLs, which can still be used."""
    return _STORED_TOKEN.sub(lambda match: match["host"] + (match["path"] or ""), text)


def without_secrets(text: str) -> str:
    """Return ``text`` with users, passwords and tokens in its URLs replaced by ``***``."""
    for pattern in (_MALFORMED, _USER):
        text = pattern.sub(r"\g<scheme>***@", text)
    return _TOKEN.sub(r"\g<host>***", text)


def printable_url(url: str) -> str:
    """Return an URL without user, password, query and fragment; of a malformed one, only its scheme."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises ValueError for anything but a number
    except ValueError:
        return f"{url.partition(':')[0]}://..."
    if _MALFORMED.match(url.partition("?")[0]):
        return f"{parts.scheme}://.../{parts.path.rpartition('/')[2].rpartition('@')[2]}"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def split_url(url: str) -> SplitResult:
    """Return the parts of an URL.

    Raises:
        UsageError: It is malformed, or a part of a password may stand where the host or the path does. The message
            has no part of it: Python's own name the part that is wrong.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  raises ValueError for anything but a number
    except ValueError:
        raise malformed() from None
    return parts


def malformed() -> UsageError:
    """Return the error for an URL with parts that can't be distinguished."""
    return UsageError(
        "invalid URL: its host or its port is malformed",
        hint="Write https://user:password@host:port/path, and %2F, %40, %23 for '/', '@', '#' in the password.",
    )
