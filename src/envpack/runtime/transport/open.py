"""Opening of a bundle from a path, an URL or standard input, as a `ByteSource`."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Callable, Sequence
from urllib.parse import quote, unquote

from envpack.runtime.errors import FetchError, FormatError, IntegrityError, UsageError
from envpack.runtime.fs.paths import is_folder
from envpack.runtime.transport.base import ByteSource, FileSource, Pipe, StreamSource
from envpack.runtime.transport.documents import (
    MAX_DOCUMENT,
    PARTS,
    Latest,
    Part,
    is_latest,
    is_parts,
    read_latest,
    read_parts,
)
from envpack.runtime.transport.files import open_file, open_files
from envpack.runtime.transport.redact import printable_url, split_url

STDIN = "-"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
"""The scheme of an URL (RFC 3986, section 3.1), of two letters or more."""
_SLASH = re.compile(r"(?:https?|ftp|file|s3|gs|az|oci):/?(?!/)", re.IGNORECASE)
"""The start of an URL with a missing slash: as a path, it would be printed with its password."""
STORAGE = {"s3": "aws s3 presign", "gs": "gcloud storage sign-url", "az": "az storage blob generate-sas"}
"""The command that makes an https URL, by the scheme of an object store that can't be read from."""


def is_remote(where: Path | str) -> bool:
    """Return whether ``where`` is standard input ("-") or an URL, not a path."""
    return isinstance(where, str) and (where == STDIN or _URL.match(where) is not None)


def local_path(where: Path | str) -> Path | str:
    """Return a path where ``where`` is one, or a ``file://`` URL; else return it unchanged.

    Raises:
        UsageError: the ``file://`` URL has the name of another host.
    """
    if isinstance(where, str) and where.lower().startswith("file://"):
        parts = split_url(where)
        if parts.netloc.lower() not in ("", "localhost"):
            raise UsageError(
                f"{shown(where)} is a file on another host", hint="Write file:///path for a file on this host."
            )
        return Path(unquote(parts.path, errors="surrogateescape"))
    if isinstance(where, str) and _SLASH.match(where) and not os.path.lexists(where):
        raise UsageError("invalid URL: // is missing after its scheme", hint="Write https://host/path.")
    return where if is_remote(where) else Path(where)


def located(where: Path | str) -> Path | str:
    """Return the path or URL of a bundle; a pointer to the latest release is read and followed.

    Args:
        where: a path, an URL, or "-" for standard input.

    Raises:
        FormatError, FetchError, UsageError: as `latest_at` raises them.
    """
    latest, where = latest_at(where), local_path(where)
    if latest is None:
        return where
    if _is_oci(where):
        from envpack.runtime.transport.oci.source import release_in

        return release_in(str(where), latest)
    return sibling(where, latest.bundle)


def latest_at(where: Path | str) -> Latest | None:
    """Return the release that a pointer names; None for a path or URL that is not that of a pointer.

    Raises:
        FormatError, FetchError, UsageError: as `open_source` raises them, for the pointer.
    """
    where = local_path(where)
    if _is_oci(where):
        from envpack.runtime.transport.oci.source import latest_in

        return latest_in(str(where))
    if not is_latest(file_name(where)) or (isinstance(where, Path) and is_folder(where, follow=True)):
        return None
    source = _open(where)
    try:
        return read_latest(source.read(0, MAX_DOCUMENT + 1), source.name)
    finally:
        source.close()


def open_source(where: Path | str) -> ByteSource:
    """Open a path, an URL (``file``, or one of `SCHEMES`) or, for "-", standard input.

    The parts of a split bundle are opened as one, and a pointer to the latest release is followed.

    Raises:
        FormatError: the path or standard input can't be opened as a bundle: it is missing, or not a regular file.
        FetchError: the server does not give the file, or standard input is closed.
        UsageError: the URL is not valid or has an unsupported scheme, or standard input is a terminal.
    """
    where = located(where)
    source = _open(where)
    if not is_parts(file_name(where)):
        return source
    try:
        bundle = read_parts(source.read(0, MAX_DOCUMENT + 1), source.name)
    finally:
        source.close()
    if isinstance(where, Path):
        return open_files([(where.with_name(part.name), part.size) for part in bundle.parts], str(where))
    return _open_joined(where, bundle.parts)


def _open(where: Path | str) -> ByteSource:
    if isinstance(where, Path):
        return open_file(where)
    source = _open_stdin() if where == STDIN else _open_url(where)
    source.advice = "If it is an archive made by conda-pack, save it to a file first."
    return source


def _open_http(where: str) -> ByteSource:
    from envpack.runtime.transport.http.source import open_url  # imported only here: http.client is slow to load

    return open_url(where)


def _open_joined(where: str, parts: Sequence[Part]) -> ByteSource:
    from envpack.runtime.transport.http.joined import Piece, open_joined
    from envpack.runtime.transport.http.pool import Pool
    from envpack.runtime.transport.http.url import parse_url

    if split_url(where).scheme.lower() not in ("http", "https"):
        raise UsageError(
            f"{shown(where)}: parts are read from a path, https or http", hint="Join them with 'cat'."
        )
    pieces = [Piece(parse_url(str(sibling(where, part.name))), part.size) for part in parts]
    return open_joined(pieces, Pool(), shown(where), shown(where))


def _open_oci(where: str) -> ByteSource:
    from envpack.runtime.transport.oci.source import open_oci

    return open_oci(where)


SCHEMES: dict[str, Callable[[str], ByteSource]] = {"https": _open_http, "http": _open_http, "oci": _open_oci}
"""The functions that open an URL, by its scheme. Each raises FetchError where the bytes can't be had, and
UsageError where the URL is not valid. A ``file`` URL is a path, see `local_path`. The command line adds those of
object stores.
"""


def _open_url(where: str) -> ByteSource:
    scheme = where.partition("://")[0].lower()
    if scheme in SCHEMES:
        return SCHEMES[scheme](where)
    if scheme in STORAGE:
        raise unreadable_store(scheme)
    raise UsageError(f"can't read from {scheme}:// URLs", hint=f"Use {', '.join(SCHEMES)}, file or a path.")


def unreadable_store(scheme: str) -> UsageError:
    """Return the error for an object store whose files can be read only by an URL of http."""
    return UsageError(
        f"can't read from {scheme}:// without the keys of an account",
        hint=f"Use a public or presigned https:// URL. '{STORAGE[scheme]}' makes one. Or install envpack with its "
        "extra for object stores: pip install 'conda-envpack[cloud]'",
    )


def shown(where: Path | str) -> str:
    """Return ``where`` as it may be printed: an URL without its user, password and query."""
    if isinstance(where, Path) or not is_remote(where) or where == STDIN:
        return str(where)
    return printable_url(where)


def append_suffix(where: Path | str, suffix: str) -> Path | str:
    """Return the path or URL of ``where`` with ``suffix`` appended to the file name.

    Raises:
        IntegrityError: ``where`` is standard input.
        UsageError: it is a ``file://`` URL of another host.
    """
    where = local_path(where)
    if where == STDIN:
        raise IntegrityError(
            f"there is no {suffix} file for a bundle from a pipe",
            hint="Save the bundle and that file, or give its URL.",
        )
    if isinstance(where, Path):
        return where.with_name(_without_parts(where.name) + suffix)
    parts = split_url(where)
    if _is_oci(where):  # what belongs to a bundle in a registry has no name of its own
        return parts._replace(fragment=suffix).geturl()
    return parts._replace(path=_without_parts(parts.path) + suffix).geturl()


def _is_oci(where: Path | str) -> bool:
    return isinstance(where, str) and where.lower().startswith("oci://")


def _without_parts(name: str) -> str:
    return name[: -len(PARTS)] if is_parts(name) else name


def file_name(where: Path | str) -> str:
    """Return the last part of a path or URL; "" for standard input."""
    if isinstance(where, Path):
        return where.name
    return "" if where == STDIN else unquote(split_url(where).path.rpartition("/")[2])


def sibling(where: Path | str, name: str) -> Path | str:
    """Return the path or URL of a file beside ``where``, which is not standard input."""
    if isinstance(where, Path):
        return where.with_name(name)
    parts = split_url(where)
    return parts._replace(path=f"{parts.path.rpartition('/')[0]}/{quote(name)}").geturl()


def _open_stdin() -> ByteSource:
    try:
        fd = os.dup(0)
    except OSError:
        raise FetchError("standard input is closed", hint="Pipe a bundle into it.") from None
    if os.isatty(fd):
        os.close(fd)
        raise UsageError(
            "can't read a bundle from standard input: it is a terminal",
            hint="Pipe a bundle into it, as in 'curl -s URL | envpack ...', or give its path or URL.",
        )
    kind = os.fstat(fd).st_mode
    if stat.S_ISREG(kind) and os.lseek(fd, 0, os.SEEK_CUR) == 0:
        return FileSource(fd, "standard input", STDIN)
    if stat.S_ISDIR(kind):
        os.close(fd)
        raise FormatError("standard input is a directory", hint="Pipe a bundle into it.")
    return StreamSource(Pipe(fd), "standard input", STDIN)
