"""The requirements of a bundle on its host, as a spec states them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from envpack.runtime.host.checks.registry import parse_need
from envpack.runtime.host.minimum import Minimum


@dataclass(frozen=True)
class Requires:
    """The ``requires:`` mapping: minimums by the name of the requirement, as the host checks list them."""

    minimums: Mapping[str, Minimum] = field(default_factory=dict)

    def get(self, name: str) -> Minimum | None:
        """Return the minimum of this name, None when the spec states none."""
        return self.minimums.get(name)

    def as_dict(self) -> dict[str, str]:
        """Return the texts of the requirements, by name."""
        return {name: need.text for name, need in self.minimums.items()}

    @classmethod
    def from_dict(cls, texts: Mapping[str, str]) -> Requires:
        """Return the requirements that `as_dict` made ``texts`` from.

        Raises:
            KeyError: A spec can't state a requirement of this name.
            ValueError: `parse_need` refuses a text.
        """
        return cls({name: parse_need(name, text) for name, text in texts.items()})
