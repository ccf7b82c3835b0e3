"""Names of published bundles: ``<name>-<version>-<YYYYMMDD>[.<ordinal>]-<subdir>.tar.gz``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from packaging.version import InvalidVersion, Version

from envpack.runtime.format.codec import CODECS
from envpack.runtime.transport.documents import PARTS

SUFFIXES = {codec.format: codec.suffixes[0] for codec in CODECS}
"""The suffix of each format."""

_NAME = re.compile(
    r"(?P<name>.+)-(?P<version>[^-]+)-(?P<day>[0-9]{8})(?:\.(?P<ordinal>[1-9][0-9]{0,5}))?-(?P<subdir>[a-z0-9]+-[a-z0-9_]+)"
    rf"(?P<suffix>{'|'.join(map(re.escape, SUFFIXES.values()))})"
)


@dataclass(frozen=True)
class BundleName:
    """The parts of a bundle's name.

    Attributes:
        name: The name of the environment.
        version: Its version, which has no hyphen.
        day: The date.
        subdir: conda's platform.
        ordinal: The number of earlier releases of the day; not in the name when 0.
        suffix: The suffix of the format.
    """

    name: str
    version: str
    day: date
    subdir: str
    ordinal: int = 0
    suffix: str = SUFFIXES["gz"]

    @property
    def stem(self) -> str:
        """Return the name without suffix."""
        dated = f"{self.day:%Y%m%d}" + (f".{self.ordinal}" if self.ordinal else "")
        return f"{self.name}-{self.version}-{dated}-{self.subdir}"

    @property
    def age(self) -> tuple[Any, ...]:
        """Return what orders the releases of an environment: date, version, and number on that day."""
        try:
            version: tuple[int, Any] = (1, Version(self.version))
        except InvalidVersion:  # of conda's rules, which allow more
            version = (0, self.version)
        return self.day, version, self.ordinal

    def __str__(self) -> str:
        return self.stem + self.suffix


def parse_published_name(file: str, name: str) -> BundleName | None:
    """Return the parts of the last component of a bundle's path or URL.

    In a registry that is ``REPOSITORY:TAG[@DIGEST]``, and the tag is the name without that of the environment.

    Args:
        file: The component.
        name: The name of the environment.
    """
    _, colon, tag = file.partition("@")[0].partition(":")
    return parse_bundle_name(f"{name}-{tag}{SUFFIXES['gz']}" if colon else file.removesuffix(PARTS))


def parse_bundle_name(text: str) -> BundleName | None:
    """Return the parts of a bundle's file name; None for a name that is not made by ``envpack release``."""
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    digits = found["day"]
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None
    return BundleName(
        found["name"], found["version"], day, found["subdir"], int(found["ordinal"] or 0), found["suffix"]
    )
