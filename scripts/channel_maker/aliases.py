"""A second name of a package: conda calls ``pytorch`` what the package index calls ``torch``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from channel_maker.errors import ChannelError
from channel_maker.package import PackageIdentity, PackageMetadata, placeholder_for, write_conda
from channel_maker.wheels import WheelPlan


@dataclass(frozen=True)
class AliasPlan:
    """A package without files, which needs exactly one build of another package."""

    identity: PackageIdentity
    metadata: PackageMetadata

    def write(self, out: Path, *, epoch: int) -> None:
        """Write the package file ``out``."""
        placeholder = placeholder_for(self.identity.name, epoch)
        write_conda(out, self.identity, self.metadata, [], placeholder=placeholder, epoch=epoch)


def parse_aliases(texts: Iterable[str]) -> Mapping[str, str]:
    """Return distributions by the second name of their packages, from texts such as ``pytorch=torch``.

    Raises:
        ChannelError: A text has no ``=``, or an empty part.
    """
    aliases = {}
    for text in texts:
        alias, _, distribution = text.partition("=")
        if not (alias and distribution):
            raise ChannelError(
                f"{text!r} is not a second name.", hint="Write it as ALIAS=NAME, such as pytorch=torch."
            )
        aliases[alias] = canonicalize_name(distribution)
    return aliases


def plan_aliases(aliases: Mapping[str, str], wheels: Collection[WheelPlan]) -> list[AliasPlan]:
    """Return a plan for each second name of ``wheels``: version and build are those of the wheel's package.

    Raises:
        ChannelError: There is no wheel of a distribution.
    """
    plans = []
    for alias, distribution in aliases.items():
        same = [plan.identity for plan in wheels if plan.identity.name == distribution]
        if not same:
            raise ChannelError(
                f"{alias} can't be another name of {distribution}: no wheel of it is among those that were found.",
                hint=f"Add a requirement, such as {distribution}.",
            )
        for wheel in same:
            identity = PackageIdentity(alias, wheel.version, wheel.build, wheel.subdir)
            depends = (f"{distribution} {wheel.version} {wheel.build}",)
            metadata = PackageMetadata(
                depends=depends,
                summary=f"Another name of {distribution}",
                index_extra={"noarch": "generic"} if wheel.subdir == "noarch" else {},
            )
            plans.append(AliasPlan(identity, metadata))
    return plans
