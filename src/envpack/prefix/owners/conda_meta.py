"""The records of conda packages in conda-meta: how they are read, and written again for another machine.

The fields are those of conda's PrefixRecord (conda/models/records.py, rattler_conda_types prefix_record.rs).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from envpack.prefix.model import Published
from envpack.prefix.owners.noarch_paths import installed_record
from envpack.prefix.owners.softlinks import record_of_files
from envpack.runtime.errors import PackError
from envpack.runtime.format.manifest import Package
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.transport.redact import without_tokens

LOCAL_CHANNEL = "file:///local-channel"
"""Replaces every channel that was a folder of the build machine; a URL, so that every tool parses it."""

SKIPPED = frozenset({"pixi", "pixi_env_prefix", ".pixi-environment-fingerprint"})
"""Files of conda-meta that tie an environment to the pixi workspace it was made in. They name its manifest on
the build machine, and a deployment belongs to no workspace."""


class Claim(NamedTuple):
    """A package's record of a path that it installed.

    Attributes:
        published: The file as the package published it; None when that is unknown.
        recorded: sha256 of the file as installed, when that differs from ``published``; else "".
        expected: Whether to report the path when it is missing (False for byte-code, folders, and files that were
            never linked).
    """

    published: Published | None = None
    recorded: str = ""
    expected: bool = True


@dataclass(frozen=True)
class CondaRecord:
    """One record of conda-meta.

    Attributes:
        path: The record's path, relative to the prefix.
        package: The package that it describes.
        claims: The package's claims, by path.
        portable: The record's bytes, as they are written for a deployment.
        made: Build time of the package in seconds since 1970; 0 when the record has none.
    """

    path: str
    package: Package
    claims: Mapping[str, Claim]
    portable: bytes
    made: int = 0


def read_record(path: str, data: bytes) -> CondaRecord:
    """Parse the record at ``path`` (relative to the prefix) from its bytes ``data``.

    Raises:
        PackError: The record is broken; the error names it and the problem.
    """
    try:
        document = json_value(data.decode("utf-8"))
        if not isinstance(document, dict):
            raise ValueError("an object was expected")
        package = record_package(document)
        document = installed_record(record_of_files(document))
        claims = _claims(document)
    except UnicodeDecodeError as problem:
        raise _broken(path, f"it is not UTF-8 at byte {problem.start}") from None
    except ValueError as problem:
        raise _broken(path, str(problem)) from None
    return CondaRecord(path, package, claims, portable_record(document), _seconds(document.get("timestamp")))


def _seconds(timestamp: Any) -> int:
    """Return a timestamp in seconds, 0 for an impossible one: conda writes milliseconds, and once wrote seconds.

    See conda/models/records.py, TimestampField.
    """
    if type(timestamp) is not int or timestamp < 0:
        return 0
    seconds = timestamp if timestamp < _LAST else timestamp // 1000
    return seconds if seconds <= _LAST else 0


_LAST = 253402300799
"""The last second of the year 9999, in seconds since 1970: the last that a date can represent."""


def _broken(path: str, problem: str) -> PackError:
    return PackError(
        f"{path} is broken: {problem}",
        hint="Reinstall the package, for example with conda install --force-reinstall, and pack again.",
    )


def _text(document: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = document.get(key, default)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise ValueError(f"the field {key!r} should be a string, found {value!r}")
    return value


def record_package(document: Mapping[str, Any]) -> Package:
    """Return the package of a record.

    Raises:
        ValueError: A field is missing or has another type.
    """
    name, version, build = (_text(document, key) for key in ("name", "version", "build"))
    return Package(
        kind="conda",
        name=name,
        version=version,
        build=build,
        subdir=_text(document, "subdir", ""),
        channel=portable_url(_text(document, "channel", "")),
        url=portable_url(_text(document, "url", "")),
        sha256=_text(document, "sha256", ""),
        license=_text(document, "license", ""),
        segment=f"conda:{name}-{version}-{build}",
    )


_INSTALLED = frozenset({"unix_python_entry_point", "windows_python_entry_point_script"})


def _claims(document: Mapping[str, Any]) -> dict[str, Claim]:
    paths_data, files = document.get("paths_data") or {}, document.get("files") or []
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise ValueError("the field 'files' should be a list of paths")
    paths = paths_data.get("paths") or [] if isinstance(paths_data, dict) else None
    if not isinstance(paths, list):
        raise ValueError("the field 'paths_data' should contain a list of paths")
    claims = {file: Claim(expected=not file.endswith(".pyc")) for file in files}
    for item in paths:
        if not isinstance(item, dict):
            raise ValueError("the field 'paths_data.paths' should contain objects")
        claims[_text(item, "_path")] = _claim(item)
    return claims


def _claim(item: Mapping[str, Any]) -> Claim:
    kind = item.get("path_type")
    sha256, installed = _text(item, "sha256", ""), _text(item, "sha256_in_prefix", "")
    expected = kind not in ("directory", "pyc_file") and not item.get("no_link")
    if kind in _INSTALLED:
        # rattler writes the installed file's digest to sha256, conda to sha256_in_prefix
        return Claim(recorded=installed or sha256)
    placeholder = _text(item, "prefix_placeholder", "")
    if kind == "hardlink" and not sha256 and installed and placeholder and _is_binary(item):
        # a package without paths.json: only the digest of the installed file is known
        return Claim(Published("", None, placeholder.encode(), "binary"), installed, expected)
    if kind != "hardlink" or not sha256:
        return Claim(recorded=installed, expected=expected)
    size = item.get("size_in_bytes")
    published = Published(
        sha256=sha256.lower(),
        size=size if isinstance(size, int) else None,
        placeholder=placeholder.encode() or None,
        file_mode=_text(item, "file_mode", "") if placeholder else "",
    )
    return Claim(published, installed if placeholder else "", expected and not item["_path"].endswith(".pyc"))


def _is_binary(item: Mapping[str, Any]) -> bool:
    """Return whether an installer replaced C strings in the file; False for byte-code, which stores string
    lengths."""
    return item.get("file_mode") == "binary" and not item["_path"].endswith(".pyc")


def portable_record(document: Mapping[str, Any]) -> bytes:
    """Return the record as it is written into a bundle, without data of the build machine.

    Equal records give equal bytes.

    Paths of the package cache are blanked, local channels renamed, and credentials left out. Of files with a
    placeholder, the placeholder and the digest as installed are left out too, because a deployment does not have
    those bytes; the digest of every other file is the published one. The published digests stay, and everything
    that conda, mamba, pixi and rattler need to read the record.
    """
    portable = {key: value for key, value in document.items() if key != "auth"}
    for key in ("extracted_package_dir", "package_tarball_full_path"):
        if key in portable:
            portable[key] = ""
    for key in ("url", "channel", "schannel"):
        if isinstance(portable.get(key), str):
            portable[key] = portable_url(portable[key])
    if isinstance(portable.get("link"), dict):
        # how files were installed from the cache does not apply to a deployment
        portable["link"] = {"source": "", "type": 1}
    for key in ("requested_spec", "requested_specs"):
        if key in portable:
            portable[key] = _portable_specs(portable[key])
    if isinstance(portable.get("files"), list):
        portable["files"] = sorted(portable["files"])
    paths_data = portable.get("paths_data")
    if isinstance(paths_data, dict) and paths_data.get("paths"):
        paths = [_portable_path(path) for path in paths_data["paths"]]
        portable["paths_data"] = {**paths_data, "paths": sorted(paths, key=lambda path: str(path["_path"]))}
    # no indent: with it Python's json is ten times slower, and these are megabytes
    return json.dumps(portable, sort_keys=True).encode() + b"\n"


def without_digests(portable: bytes, paths: Collection[str]) -> bytes:
    """Return a portable record without the digests of ``paths``: these files are packed in another form."""
    document = json.loads(portable)
    for item in (document.get("paths_data") or {}).get("paths") or ():
        if item["_path"] in paths:
            item.pop("sha256_in_prefix", None)
    return json.dumps(document, sort_keys=True).encode() + b"\n"


def _portable_path(item: Any) -> Any:
    left_out = {"sha256_in_prefix", "prefix_placeholder", "inode_paths"}
    if item.get("prefix_placeholder"):
        # the size is that of the published file when conda wrote the record, of the installed one when rattler did
        left_out.update(("file_mode", "size_in_bytes"))
    if item.get("path_type") in _INSTALLED:
        left_out.update(("sha256", "size_in_bytes"))
    portable = {key: value for key, value in item.items() if key not in left_out}
    known = item.get("path_type") == "hardlink" and item.get("sha256") and not item.get("prefix_placeholder")
    # in an environment that was deployed before, files with the prefix have another digest or none, and no size
    if known and (item.get("sha256_in_prefix") == item["sha256"] or isinstance(item.get("size_in_bytes"), int)):
        portable["sha256_in_prefix"] = item["sha256"]  # what 'conda doctor' compares the file with
    return portable


def _portable_specs(value: Any) -> Any:
    if isinstance(value, list):
        return [_portable_specs(item) for item in value]
    return portable_text(value.encode("utf-8", "replace")).decode() if isinstance(value, str) else value


def portable_url(url: str) -> str:
    """Return the URL or channel name without user, password, token (anaconda.org's /t/TOKEN/) and query.

    Folders of the build machine become LOCAL_CHANNEL; the last two parts of a package's URL stay.
    """
    if url.startswith(("/", "~", ".")) or url.lower().startswith("file:"):
        path = urlsplit(url).path if url.lower().startswith("file:") else url
        parts = path.rstrip("/").split("/")
        if parts[-1].endswith((".conda", ".tar.bz2")):
            return "/".join([LOCAL_CHANNEL, *parts[-2:]])
        return LOCAL_CHANNEL
    if "://" not in url:
        return url
    split = urlsplit(url)
    host = split.netloc.rpartition("@")[2]
    return without_tokens(urlunsplit((split.scheme, host, split.path, "", "")))


_CREDENTIALS = re.compile(rb"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]{0,30}://)[^\s/'\"]+@")


def scrub(text: bytes) -> bytes:
    """Return a text such as ``history`` without the credentials in its URLs."""
    plain = _CREDENTIALS.sub(rb"\g<scheme>", text)
    return without_tokens(plain.decode("latin-1")).encode("latin-1")


_PATH = rb"(?:(?<=[\s=\"'\[(,+-])|^)(?P<url>file:(?://)?)?(?P<path>/[^\s\"'\]),]+)"
_SUBDIR = re.compile(rb"/(?:noarch|(?:linux|osx|win|freebsd|emscripten|wasi|zos)-[a-z0-9_]+)$")
"""The folder of a platform, which conda writes before ``::`` (conda/models/records.py, ``dist_str``)."""
_ENDS = rb"(?=[/\s\"'\]),]|$)"


def portable_text(text: bytes, inside: Sequence[bytes] = ()) -> bytes:
    """Return ``history``, or a requested spec, without credentials and without paths of the build machine.

    Channels that were folders become LOCAL_CHANNEL. The environment's own paths stay; of other absolute paths only
    the last part stays.

    Args:
        text: The text to change.
        inside: All paths of the environment itself (see `prefix_aliases.aliases`): these may hold blanks.
    """

    def shortened(found: re.Match[bytes]) -> bytes:
        if found["path"] is None:
            return found[0]
        path, separator, rest = found["path"].partition(b"::")
        if found["url"] or separator:
            subdir = _SUBDIR.search(path) if separator else None
            name = portable_url("file:" + path.decode("utf-8", "replace")).encode()
            return name + (subdir[0] if subdir else b"") + separator + rest
        return path.rstrip(b"/").rpartition(b"/")[2] or path

    # the environment's own paths first: as known paths, they may have blanks
    own = b"|".join(re.escape(name) for name in sorted(inside, key=len, reverse=True))
    pattern = rb"(?:%s)%s[^\s\"'\]),]*|%s" % (own, _ENDS, _PATH) if own else _PATH
    return re.sub(pattern, shortened, scrub(text), flags=re.MULTILINE)
