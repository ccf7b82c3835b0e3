"""conda-lock.yml, the lock file of conda-lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from envpack.lock.formats.package_urls import PackageUrl, find_records, parse_package_url
from envpack.lock.locations import parse_location, with_variables
from envpack.lock.model import Lock, LockedPlatform, LockedPypi, named_after
from envpack.lock.target import channel_names
from envpack.lock.target import channels as channels_of
from envpack.runtime.errors import SpecError
from envpack.runtime.report import Reporter
from envpack.runtime.transport.redact import without_secrets
from envpack.spec.model import PLATFORMS
from envpack.spec.nodes import load


def conda_lock(text: str, path: Path, reporter: Reporter | None = None) -> Lock:
    """Return the lock for a conda-lock.yml of the unified format: category main, every platform envpack knows.

    The packages of a platform are looked up in their channels when the lock is asked for that platform.

    Format: https://github.com/conda/conda-lock, ``conda_lock/lockfile/v1/models.py``.
    """
    try:
        content = load(text, str(path))
        version, packages, metadata = content["version"], content["package"] or [], content["metadata"]
        if version != 1:
            raise SpecError(f"{path} has conda-lock's format {version}, expected 1")
        urls = _conda_lock_channels(metadata.get("channels") or [], path.absolute().parent)
        main_packages = _of_main(packages, path, reporter or Reporter())
        platforms = [name for name in metadata["platforms"] if name in PLATFORMS]
        if not platforms:
            raise SpecError(
                f"{path} is for {', '.join(metadata['platforms'])}, expected one of {', '.join(PLATFORMS)}"
            )
        found, refused = _by_platform(main_packages, platforms, path)
        return Lock(named_after(path), urls, found, refused=refused)
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise SpecError(f"{path} is not a conda-lock file: {reason}") from None


def _of_main(packages: Sequence[Mapping[str, Any]], path: Path, reporter: Reporter) -> list[Mapping[str, Any]]:
    """Return the packages of the category "main", as micromamba does; warn of those that are left out."""
    main = [package for package in packages if package.get("category", "main") == "main"]
    names = {(package.get("category", "main"), package["name"]) for package in packages}
    counts = Counter(category for category, _ in names if category != "main")
    others = ", ".join(f"{count} of {category!r}" for category, count in sorted(counts.items()))
    if packages and not main:
        raise SpecError(
            f"{path} has no packages of the category 'main', only {others}",
            hint="envpack builds that category; lock again without --category and --dev.",
        )
    if others:
        reporter.warn(f"{path}: packages of other categories than 'main' are left out: {others}")
    return main


def _conda_lock_channels(channels: Sequence[object], folder: Path) -> tuple[str, ...]:
    """Return the URLs of channels, which early files give as names, later ones as mappings with a URL or name."""
    names = [
        with_variables(channel["url"] if isinstance(channel, Mapping) else str(channel)) for channel in channels
    ]
    return tuple(channel.base_url for channel in channels_of(channel_names(names), folder))


class _Platforms(Mapping[str, LockedPlatform]):
    """The platforms of a file, each of which is read once, when it is first asked for."""

    def __init__(self, readers: Mapping[str, Callable[[], LockedPlatform]]) -> None:
        self._readers = readers
        self._read: dict[str, LockedPlatform] = {}

    def __getitem__(self, name: str) -> LockedPlatform:
        reader = self._readers[name]
        if name not in self._read:
            self._read[name] = reader()
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        return name in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def _by_platform(
    packages: Sequence[Mapping[str, Any]], platforms: Sequence[str], path: Path
) -> tuple[_Platforms, dict[str, SpecError]]:
    """Return the platforms that can be built, and why others can't, which concerns only these."""
    readers, refused = {}, {}
    for platform in platforms:
        own = [package for package in packages if package["platform"] == platform]
        try:
            readers[platform] = partial(_locked, *_conda_lock_packages(own, platform, path), platform)
        except SpecError as error:
            refused[platform] = error
    return _Platforms(readers), refused


def _locked(conda: Sequence[PackageUrl], pypi: tuple[LockedPypi, ...], platform: str) -> LockedPlatform:
    return LockedPlatform(find_records(conda, platform) if conda else (), pypi)


def _conda_lock_packages(
    packages: Sequence[Mapping[str, Any]], platform: str, path: Path
) -> tuple[list[PackageUrl], tuple[LockedPypi, ...]]:
    conda, pypi, errors = [], [], []
    for package in packages:
        hashes, name = package.get("hash") or {}, package["name"]
        where = f"{path}: {name}"
        if package["manager"] == "pip":
            try:
                location, stated = parse_location(with_variables(package["url"]), path.parent)
            except ValueError as error:
                errors.append(f"{where}: {error}")
                continue
            sha256 = "" if location.startswith("git+") else hashes.get("sha256") or stated
            pypi.append(LockedPypi(canonicalize_name(name), package["version"], location, sha256))
            continue
        parsed = parse_package_url(with_variables(package["url"]).partition("#")[0], where, path.absolute().parent)
        if parsed is None:
            errors.append(f"{where}: {without_secrets(package['url'])!r} is not the URL of a conda package")
        else:
            conda.append(
                PackageUrl(parsed.url, hashes.get("md5", ""), hashes.get("sha256", ""), f"{where}:{platform}")
            )
    if errors:
        raise SpecError(errors[0], details=errors)
    return conda, tuple(sorted(pypi, key=lambda package: package.name))
