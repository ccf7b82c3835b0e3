"""Installation of a lock's pip packages by uv: exact files, verified by hash, without a resolution."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from envpack.build.activation import activated
from envpack.build.sources import copy_project
from envpack.lock.included_files import section_lines, with_included_options
from envpack.lock.locations import split_subdirectory
from envpack.lock.model import LockedPypi
from envpack.lock.uvtool import build_settings, index_arguments, run_uv
from envpack.runtime.errors import BuildError
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.json_text import json_value
from envpack.runtime.fs.temporary import new_folder, replace_file
from envpack.runtime.report import Reporter, Step
from envpack.spec.model import EnvSpec

_LINK_MODE = "hardlink"
"""Files are hard links into uv's cache, as rattler's are into its own. Nothing writes into a file of the prefix
afterwards (byte code, RECORD and relocation always make new files), and copying gigabytes would take most of the
time of a build. uv copies where the cache is on another file system.
"""


def install_pip(
    spec: EnvSpec,
    packages: Sequence[LockedPypi],
    prefix: Path,
    *,
    index_url: str | None,
    cache_dir: Path | None,
    reporter: Reporter,
) -> None:
    """Install ``packages`` into a prefix, and remove what they record about the build machine.

    Wheels come through uv's cache. Packages that are built from source are installed after them (a build without
    isolation may need them) and use a separate cache: a compiled file may hold the path of this prefix, and must
    never be reused for another one.

    Args:
        spec: The spec, for the options of its pip section.
        packages: The locked packages.
        prefix: The prefix, which has a Python. A work folder beside it is made and removed here.
        index_url: The package index that replaces that of the spec.
        cache_dir: uv's cache for wheels, None for its own.
        reporter: Shows the progress.

    Raises:
        BuildError: The packages can't be installed; it has uv's explanation or the end of the build's log.
    """
    lines = section_lines(spec)
    options = index_arguments(with_included_options(lines, spec.directory), index_url, spec.directory)
    options += [*build_settings(lines), *(line.option for line in lines if line.option == "--no-build-isolation")]
    with new_folder(prefix.parent / "pip") as scratch:
        for from_source, title in ((False, "Installing wheels"), (True, "Building from source")):
            group = [package for package in packages if package.is_wheel is not from_source]
            if not group:
                continue
            cache = scratch / "cache" if from_source else cache_dir
            variables = activated(prefix) if from_source else cached_hosts(group)
            copied = [_with_copied_sources(package, scratch / "sources") for package in group]
            (scratch / "pylock.toml").write_text(pylock(copied), encoding="utf-8")
            arguments = ["pip", "install", "--python", str(prefix / "bin" / "python")]
            arguments += ["--requirements", "pylock.toml", "--no-deps", "--break-system-packages"]
            arguments += ["--link-mode", _LINK_MODE, *options]
            what = f"the pip section of {spec.name} can't be installed"
            with reporter.step(title, total=len(group), unit="packages") as step:
                run_uv(
                    arguments,
                    what,
                    cwd=scratch,
                    cache_dir=cache,
                    on_line=partial(_count, step),
                    activation=variables,
                )
                step.detail = f"{len(group)} packages"
    for site_packages in prefix.glob("lib/python*/site-packages"):
        remove_build_records(site_packages, prefix)


def cached_hosts(wheels: Iterable[LockedPypi]) -> dict[str, str]:
    """Return the variable with which uv takes wheels from its cache that their host does not say how long to keep.

    uv stores a wheel of a pylock.toml under the index that is stated there, and looks for it there by its hash,
    whatever its age, only if it knows that index. `pylock` states the root of the host, and uv requests nothing
    from it. Without this, it fetches and stores a wheel again in each build, where the host sends neither
    Cache-Control nor Last-Modified.

    Args:
        wheels: The wheels; hosts of those without a hash are left out.
    """
    roots: dict[str, bool] = {}
    for wheel in wheels:
        if root := _root(wheel):
            roots[root] = roots.get(root, True) and bool(wheel.sha256)
    stated = os.environ.get("UV_INDEX", "").split()
    known = [root for root, hashed in roots.items() if hashed]
    return {"UV_INDEX": " ".join([*stated, *known])} if known else {}


def _root(package: LockedPypi) -> str:
    """Return the URL of the host that a package is fetched from, without a login; "" for others."""
    parts = urlsplit(package.location)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/" if parts.scheme in ("http", "https") else ""


def _with_copied_sources(package: LockedPypi, sources: Path) -> LockedPypi:
    """Copy the source folder of a package, if it has one, and return the package with the copy as its location."""
    if not package.location.startswith("/"):
        return package
    if not Path(package.location).is_dir():
        raise BuildError(
            f"{package.name} can't be installed: there is no {package.location}",
            hint="A lock names local projects and wheels relative to itself: put them there, or lock again.",
        )
    copy = copy_project(Path(package.location), sources / package.name)
    return replace(package, location=str(copy))


def _count(step: Step, line: str) -> None:
    if line.startswith(" + "):  # ' + name==version', once it is installed
        step.advance()


def pylock(packages: Iterable[LockedPypi]) -> str:
    """Return the text of a pylock.toml (PEP 751) of exactly these packages."""
    lines = ['lock-version = "1.0"', 'created-by = "envpack"', ""]
    for package in packages:
        lines += ["[[packages]]", f"name = {_toml(package.name)}"]
        if package.version:
            lines.append(f"version = {_toml(package.version)}")
        if package.is_wheel and (root := _root(package)):
            lines.append(f"index = {_toml(root)}")
        lines += [_source(package), ""]
    return "\n".join(lines)


def _source(package: LockedPypi) -> str:
    location, below = split_subdirectory(package.location)
    extra = f", subdirectory = {_toml(below)}" if below else ""
    if location.startswith("git+"):
        url, _, commit = location.removeprefix("git+").rpartition("@")
        return f'vcs = {{ type = "git", url = {_toml(url)}, commit-id = {_toml(commit)}{extra} }}'
    if location.startswith("/"):
        return f"directory = {{ path = {_toml(location)} }}"
    hashes = f"{{ sha256 = {_toml(package.sha256)} }}" if package.sha256 else "{}"
    archive = f"{{ url = {_toml(location)}, hashes = {hashes} }}"
    if extra:  # only an archive by its URL can have one (PEP 751)
        return f"archive = {{ url = {_toml(location)}, hashes = {hashes}{extra} }}"
    return f"wheels = [{archive}]" if package.is_wheel else f"sdist = {archive}"


def _toml(text: str) -> str:
    return json.dumps(text)  # every JSON string is a TOML basic string


def remove_build_records(site_packages: Path, prefix: Path) -> None:
    """Delete uv's records about the build machine, which differ between builds and are wrong on other machines.

    These are the time stamps of its cache, the folders that packages were built from, and the hashes in RECORD of
    files that hold the prefix, which every deployment changes (a hash may be left out, PEP 376). RECORD is
    replaced by a new file.
    """
    for record in sorted(site_packages.glob("*.dist-info/RECORD")):
        if _installer(record.parent) != "uv":
            continue
        before = read_file(record).decode("utf-8", "surrogateescape")
        removed = {f"{record.parent.name}/{path.name}": path for path in _build_machine_files(record.parent)}
        lines = [line for line in before.splitlines(keepends=True) if _record_path(line) not in removed]
        from_source = (record.parent / "uv_build.json").is_file()
        after = "".join(_without_unstable_hashes(lines, site_packages, prefix, from_source=from_source))
        if after != before:
            replace_file(record, after.encode("utf-8", "surrogateescape"), durable=False)
        for path in removed.values():
            path.unlink()


def _installer(info: Path) -> str:
    try:
        return read_file(info / "INSTALLER").decode("utf-8").strip()
    except OSError:
        return ""


def _build_machine_files(info: Path) -> Iterator[Path]:
    stamps, direct = info / "uv_cache.json", info / "direct_url.json"
    if stamps.is_file():
        yield stamps
    if direct.is_file() and json_value(read_file(direct)).get("url", "").startswith("file:"):
        yield direct


def _record_path(line: str) -> str:
    return next(csv.reader([line]))[0]


def _without_unstable_hashes(
    lines: Iterable[str], site_packages: Path, prefix: Path, *, from_source: bool
) -> Iterator[str]:
    """Yield the lines of RECORD, without the hashes of files that hold the prefix.

    Only scripts and packages that were built here can hold it.
    """
    for line in lines:
        name = _record_path(line)
        may_hold_prefix = (from_source or name.startswith("../")) and not name.endswith("/RECORD")
        file = site_packages / name
        if may_hold_prefix and file.is_file() and bytes(prefix) in read_file(file):
            yield line.rsplit(",", 2)[0] + ",,\n"
        else:
            yield line
