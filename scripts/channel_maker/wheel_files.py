"""The files of a wheel, moved to where a conda package has them.

Rules: https://packaging.python.org/en/latest/specifications/binary-distribution-format/ (the wheel),
https://packaging.python.org/en/latest/specifications/entry-points/ (console scripts),
https://packaging.python.org/en/latest/specifications/recording-installed-packages/ (RECORD, INSTALLER).
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import posixpath
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from channel_maker.errors import ChannelError
from channel_maker.package import Inline, InZip, Link, PackageFile

_ENTRY_POINT = re.compile(r"\s*(?P<module>\w+(?:\.\w+)*)\s*:\s*(?P<object>\w+(?:\.\w+)*)\s*(?:\[[^\]]*\])?\s*$")
# A noarch package does not know its Python; every site-packages is this deep in the prefix.
_ANY_SITE_PACKAGES = "lib/pythonX.Y/site-packages"

_SCRIPT = """\
#!{placeholder}/bin/python
import sys

from {module} import {top}

if __name__ == "__main__":
    sys.exit({object}())
"""


@dataclass(frozen=True)
class EntryPoint:
    """A console or GUI script: ``name`` runs ``object()`` of ``module``."""

    name: str
    module: str
    object: str

    def __str__(self) -> str:
        return f"{self.name} = {self.module}:{self.object}"

    def script(self, placeholder: str) -> bytes:
        """Return the program in ``bin`` of a package for one Python."""
        top = self.object.split(".")[0]
        return _SCRIPT.format(placeholder=placeholder, module=self.module, top=top, object=self.object).encode()


@dataclass(frozen=True)
class Layout:
    """The paths of files in a package, for one Python (``minor``, such as ``3.11``) or for all (``None``)."""

    minor: str | None
    placeholder: str

    @property
    def site_packages(self) -> str:
        return f"lib/python{self.minor}/site-packages" if self.minor else "site-packages"

    @property
    def scripts(self) -> str:
        return "bin" if self.minor else "python-scripts"

    def installed(self, path: str) -> str:
        """Return the path to which conda installs the package's ``path``."""
        if self.minor:
            return path
        top, _, rest = path.partition("/")
        return {"site-packages": f"{_ANY_SITE_PACKAGES}/{rest}", "python-scripts": f"bin/{rest}"}.get(top, path)

    def recorded(self, path: str) -> str:
        """Return ``path`` as RECORD writes it, relative to site-packages."""
        site_packages = self.site_packages if self.minor else _ANY_SITE_PACKAGES
        return posixpath.relpath(self.installed(path), site_packages)


def parse_entry_points(text: str) -> tuple[EntryPoint, ...]:
    """Return the scripts of ``entry_points.txt``, console scripts first.

    Raises:
        ChannelError: The file is invalid.
    """
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ChannelError(f"entry_points.txt can't be read: {error.message}") from None
    found: dict[str, EntryPoint] = {}
    for section in ("console_scripts", "gui_scripts"):
        for name, value in parser.items(section) if parser.has_section(section) else ():
            match = _ENTRY_POINT.match(value)
            if match is None or "/" in name or name in ("", ".", ".."):
                raise ChannelError(f"entry_points.txt declares an invalid script: {name} = {value}")
            found.setdefault(name, EntryPoint(name, match["module"], match["object"]))
    return tuple(found.values())


def rewrite_shebang(data: bytes, placeholder: str) -> bytes | None:
    """Return a wheel's script, which begins with ``#!python``, with the environment's Python.

    Return None for any other file, which stays unchanged.
    """
    first, newline, rest = data.partition(b"\n")
    match = re.match(rb"#!python(w?)(?=\s|$)(.*)", first)
    if match is None:
        return None
    return b"#!" + placeholder.encode() + b"/bin/python" + match[2] + newline + rest


def wheel_files(
    archive: zipfile.ZipFile, dist_info: str, layout: Layout, distribution: str, entry_points: Iterable[EntryPoint]
) -> list[PackageFile]:
    """Return the files of the package that is made from a wheel, RECORD and INSTALLER included.

    Args:
        archive: The open wheel.
        dist_info: The name of its ``.dist-info`` folder.
        layout: The paths of files in the package.
        distribution: The name of its folder of headers.
        entry_points: Its scripts.

    Raises:
        ChannelError: A path leads out of the wheel.
    """
    data_folder = dist_info[: -len("dist-info")] + "data"
    dropped = {f"{dist_info}/{name}" for name in ("RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED")}
    digests = _digests(archive, f"{dist_info}/RECORD")
    files: list[PackageFile] = []
    for member in archive.infolist():
        if member.is_dir() or member.filename in dropped:
            continue
        if member.filename.startswith("/") or ".." in member.filename.split("/"):
            raise ChannelError(f"The wheel contains a path outside its root: {member.filename}")
        files.append(_moved(archive, member, data_folder, layout, distribution, digests))
    if layout.minor:
        files += [
            PackageFile(f"{layout.scripts}/{entry.name}", Inline(entry.script(layout.placeholder)), True, "text")
            for entry in entry_points
        ]
    info = f"{layout.site_packages}/{dist_info}"
    files.append(PackageFile(f"{info}/INSTALLER", Inline(b"conda\n")))
    record = _record(files, f"{info}/RECORD", layout, () if layout.minor else entry_points)
    return [*files, PackageFile(f"{info}/RECORD", Inline(record))]


def _digests(archive: zipfile.ZipFile, record: str) -> dict[str, str]:
    """sha256 (hexadecimal) by path, as the wheel's own RECORD has them."""
    try:
        text = archive.read(record).decode()
    except KeyError:
        raise ChannelError(f"The wheel has no {record}.") from None
    digests = {}
    for row in csv.reader(text.splitlines()):
        if len(row) > 1 and row[1].startswith("sha256="):
            value = row[1].removeprefix("sha256=")
            digests[row[0]] = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    return digests


def _moved(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    data_folder: str,
    layout: Layout,
    distribution: str,
    digests: Mapping[str, str],
) -> PackageFile:
    path = member.filename
    digest = digests.get(path)
    executable = bool((member.external_attr >> 16) & 0o111)
    if not path.startswith(f"{data_folder}/"):
        return PackageFile(f"{layout.site_packages}/{path}", InZip(archive, member), executable, sha256=digest)
    kind, _, rest = path[len(data_folder) + 1 :].partition("/")
    if kind == "scripts":
        # only the few bytes of a "#!python" script change; a program of many megabytes is streamed as it is
        with archive.open(member) as stream:
            script = stream.read(8) == b"#!python"
        changed = rewrite_shebang(archive.read(member), layout.placeholder) if script else None
        target = f"{layout.scripts}/{rest}"
        if changed is None:
            return PackageFile(target, InZip(archive, member), True, sha256=digest)
        return PackageFile(target, Inline(changed), True, "text")
    folders = {
        "purelib": f"{layout.site_packages}/",
        "platlib": f"{layout.site_packages}/",
        "data": "",
        "headers": f"include/python{layout.minor}/{distribution}/",
    }
    if kind not in folders or (kind == "headers" and not layout.minor):
        raise ChannelError(f"The wheel contains files that a conda package can't contain: {path}")
    return PackageFile(folders[kind] + rest, InZip(archive, member), executable, sha256=digest)


def _record(
    files: list[PackageFile], own_path: str, layout: Layout, made_when_installed: Iterable[EntryPoint]
) -> bytes:
    rows = [_record_row(file, layout) for file in files]
    rows += [(layout.recorded(f"{layout.scripts}/{entry.name}"), "", "") for entry in made_when_installed]
    rows.append((layout.recorded(own_path), "", ""))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(sorted(rows))
    return text.getvalue().encode()


def _record_row(file: PackageFile, layout: Layout) -> tuple[str, str, str]:
    path = layout.recorded(file.path)
    if file.prefix_mode or isinstance(file.source, Link):
        # what conda writes the prefix into has a hash only once it is installed
        return (path, "", "")
    sha256 = file.sha256
    if sha256 is None:
        with file.source.open() as stream:
            sha256 = hashlib.sha256(stream.read()).hexdigest()
    value = base64.urlsafe_b64encode(bytes.fromhex(sha256)).rstrip(b"=").decode()
    return (path, f"sha256={value}", str(file.source.size))
