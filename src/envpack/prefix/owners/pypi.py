"""Distributions that pip, uv and similar tools installed: their metadata and the files they installed.

Sources: the "Recording installed projects" and "Core metadata" specifications on packaging.python.org;
``installed-files.txt`` is what setuptools wrote beside an .egg-info before them. distutils wrote an .egg-info that
is a file with the metadata and lists no other files; easy_install made one .egg folder of each distribution.
"""

from __future__ import annotations

import binascii
import csv
import io
import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from typing import NamedTuple

from envpack.prefix.owners.conda_meta import Claim, portable_url
from envpack.runtime.errors import PackError
from envpack.runtime.format.manifest import Package
from envpack.runtime.fs.json_text import json_value

Read = Callable[[str], bytes]
"""Returns the bytes of a path relative to the prefix."""

_LONGEST_LICENSE = 100

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


class Origin(NamedTuple):
    """The archive or the repository that a distribution was installed from.

    Attributes:
        url: Its URL, without credentials; "" when unknown, and for files and folders of the build machine.
        sha256: The digest of the archive, in hexadecimal; "" when unknown.
        commit: The commit of the repository; "" for an archive.
    """

    url: str = ""
    sha256: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Distribution:
    """An installed distribution.

    Attributes:
        folder: Its .dist-info, .egg-info or EGG-INFO folder, or .egg-info file, relative to the prefix.
        package: Its name, version, origin and license.
        installer: The tool that installed it, as its INSTALLER file says, in lower case; "" without one.
        claims: The paths that it claims.
    """

    folder: str
    package: Package
    installer: str
    claims: Mapping[str, Claim]

    @property
    def record(self) -> str:
        """Return the path of the file that every installation of the distribution rewrites."""
        if self.folder in self.claims:
            return self.folder
        name = "RECORD" if self.folder.endswith(".dist-info") else "PKG-INFO"
        return f"{self.folder}/{name}"


_METADATA = ("METADATA", "PKG-INFO", "RECORD", ".egg-info")


def metadata_folders(paths: Iterable[str]) -> list[str]:
    """Return the paths that `Distribution.folder` may be, found among ``paths`` and their parents, sorted.

    Only those directly in a site-packages (or dist-packages) folder count: deeper ones are vendored.
    """
    found = set()
    for path in paths:
        if not path.endswith(_METADATA):
            continue
        folder, _, name = path.rpartition("/")
        if name in ("METADATA", "PKG-INFO", "RECORD") and folder.endswith((".dist-info", ".egg-info")):
            if _is_site(posixpath.dirname(folder)):
                found.add(folder)
        elif name == "PKG-INFO" and folder.endswith(".egg/EGG-INFO"):
            if _is_site(posixpath.dirname(posixpath.dirname(folder))):
                found.add(folder)
        elif name.endswith(".egg-info") and _is_site(folder):
            found.add(path)
    return sorted(found)


def metadata_folder(path: str) -> str:
    """Return the one of `metadata_folders` that a path could belong to; "" when it can't belong to any."""
    if path.endswith(".egg-info"):
        return path
    if ".dist-info/" not in path and ".egg" not in path:
        return ""
    for part, more in ((".dist-info/", ""), (".egg-info/", ""), (".egg/", "/EGG-INFO")):
        place = path.find(part)
        if place >= 0:
            return path[: place + len(part) - 1] + more
    return ""


def _is_site(folder: str) -> bool:
    return posixpath.basename(folder) in ("site-packages", "dist-packages") and folder.count("/") <= 3


def read_distribution(folder: str, paths: Iterable[str], read: Read) -> Distribution:
    """Read the metadata of a distribution.

    Args:
        folder: Its metadata folder, or .egg-info file, relative to the prefix.
        paths: The paths in that folder.
        read: Returns the bytes of a path relative to the prefix.

    Raises:
        PackError: RECORD is broken.
    """
    inside = set(paths)
    installer = ""
    if f"{folder}/INSTALLER" in inside:
        installer = read(f"{folder}/INSTALLER").decode("utf-8", "replace").strip().lower()
    claims = {path: Claim() for path in inside}
    if f"{folder}/RECORD" in inside:
        claims.update(_record_claims(folder, read(f"{folder}/RECORD")))
    elif f"{folder}/installed-files.txt" in inside:
        lines = read(f"{folder}/installed-files.txt").decode("utf-8", "surrogateescape").splitlines()
        claims.update((path, Claim()) for line in lines if line and (path := _inside(folder, line)))
    return Distribution(
        folder, distribution_package(folder, inside, read, read_headers(folder, inside, read)), installer, claims
    )


def _record_claims(folder: str, data: bytes) -> dict[str, Claim]:
    site = posixpath.dirname(folder)
    text = data.decode("utf-8", "surrogateescape")
    claims = {}
    try:
        for row in csv.reader(io.StringIO(text, newline="")):
            path = _inside(site, row[0]) if row and row[0] else ""
            if path:
                recorded = _sha256(row[1]) if len(row) > 1 else ""
                claims[path] = Claim(None, recorded, not path.endswith(".pyc"))
    except csv.Error as problem:
        raise PackError(
            f"{folder}/RECORD is broken: {problem}",
            hint="Reinstall the distribution with pip install --force-reinstall, and pack again.",
        ) from None
    return claims


def _inside(base: str, path: str) -> str:
    """Return a path relative to ``base`` as one relative to the prefix; "" when it lies outside the prefix."""
    if ".." not in path and "//" not in path and not path.startswith(("/", "./")):
        return f"{base}/{path}"
    # normpath stops at the root, so a path with more ".." than there are folders is caught by its depth
    if path.startswith("/") or path.count("../") > base.count("/") + 1:
        return ""
    return posixpath.normpath(posixpath.join("/", base, path)).lstrip("/")


def _sha256(field: str) -> str:
    name, _, value = field.partition("=")
    if name != "sha256":
        return ""
    try:
        # base64's own function takes three times as long, and there are tens of thousands of digests
        usual = value.replace("-", "+").replace("_", "/")
        return binascii.a2b_base64(usual + "=" * (-len(value) % 4)).hex()
    except ValueError:
        return ""


def read_headers(folder: str, inside: Collection[str], read: Read) -> Message:
    """Return the fields of a distribution's metadata; none where it has no such file.

    Args:
        folder: Its metadata folder, or .egg-info file, relative to the prefix.
        inside: The paths in that folder.
        read: Returns the bytes of a path relative to the prefix.
    """
    for path in (f"{folder}/METADATA", f"{folder}/PKG-INFO", folder):
        if path in inside:
            head = read(path).replace(b"\r\n", b"\n").partition(b"\n\n")[0]
            return HeaderParser().parsestr(head.decode("utf-8", "replace"))
    return Message()


def distribution_package(folder: str, inside: Collection[str], read: Read, headers: Message) -> Package:
    """Return name, version, origin and license of a distribution; the arguments are as those of `read_headers`."""
    own = posixpath.dirname(folder) if folder.endswith(".egg/EGG-INFO") else folder
    stem = posixpath.basename(own).rpartition(".")[0]
    guessed_name, _, guessed_version = stem.partition("-")
    name = str(headers.get("Name") or guessed_name).strip()
    version = str(headers.get("Version") or guessed_version.partition("-")[0]).strip()
    return Package(
        kind="pypi",
        name=name,
        version=version,
        **_origin(folder, inside, read)._asdict(),
        license=_license(headers),
        segment=f"pypi:{name}-{version}",
    )


def _license(headers: Message) -> str:
    """Return License-Expression (PEP 639), else a License that is a name and not a text, else the classifiers."""
    for key in ("License-Expression", "License"):
        value = str(headers.get(key) or "").strip()
        if value and value != "UNKNOWN" and "\n" not in value and len(value) <= _LONGEST_LICENSE:
            return value
    classifiers = [str(value) for value in headers.get_all("Classifier", [])]
    names = [c.rpartition("::")[2].strip() for c in classifiers if c.startswith("License ::")]
    return ", ".join(dict.fromkeys(names))


def origin(url: str, sha256: object = "", commit: object = "", subdirectory: object = "") -> Origin:
    """Return an origin that may be published; values of other types or forms than those of `Origin` are left out.

    Args:
        url: The URL.
        sha256: The digest of the archive.
        commit: The commit of the repository.
        subdirectory: The folder of the project in it, which becomes a fragment of the URL.
    """
    public = "" if url.startswith("file:") else portable_url(url)
    if public and isinstance(subdirectory, str) and subdirectory:
        public += f"#subdirectory={subdirectory}"
    return Origin(public, _matching(_SHA256, sha256), _matching(_COMMIT, commit))


def _matching(pattern: re.Pattern[str], value: object) -> str:
    text = value.lower() if isinstance(value, str) else ""
    return text if pattern.fullmatch(text) else ""


def _origin(folder: str, inside: Collection[str], read: Read) -> Origin:
    """Return the origin that an installer recorded because it was no index (PEP 610)."""
    if f"{folder}/direct_url.json" not in inside:
        return Origin()
    try:
        document = json_value(read(f"{folder}/direct_url.json"))
        archive, repository = document.get("archive_info") or {}, document.get("vcs_info") or {}
        hashes = archive.get("hashes") or {}
        sha256 = hashes.get("sha256") or str(archive.get("hash", "")).removeprefix("sha256=")
        return origin(str(document["url"]), sha256, repository.get("commit_id"), document.get("subdirectory"))
    except (AttributeError, ValueError, KeyError, TypeError):
        return Origin()
