"""The targets, each a ratio within one run, and whether they are met."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cases import CONDA_PACK, CONDA_PACK_ZST, CP, CP_LINK, FAST, TAR

Figures = Mapping[str, Mapping[str, Any]]
"""By name of a case, what compare.py writes into its JSON: ``seconds`` is the median; ``size``, ``tree`` (memory)
and ``read`` in bytes."""

MEMORY = 300e6
SETTLED = 0.5
LOOKED = 0.5
SHARE_READ = 0.01

_FASTER = "{:.1f}x"


@dataclass(frozen=True)
class Target:
    """``number`` of the target it belongs to; ``value`` is computed from the figures, and held to ``bound``: at
    least it, or at most."""

    number: int
    what: str
    value: Callable[[Figures], float]
    bound: float
    least: bool
    shown: str = "{:.2f}"

    def row(self, figures: Figures) -> dict[str, Any] | None:
        """None when something that it compares was not measured."""
        try:
            value = self.value(figures)
        except KeyError:
            return None
        met = value >= self.bound if self.least else value <= self.bound
        sign = ">=" if self.least else "<="
        return {
            **{"number": self.number, "what": self.what, "measured": self.shown.format(value)},
            **{"target": f"{sign} {self.shown.format(self.bound)}", "met": met, "value": value},
        }


def _faster(name: str, than: str) -> Callable[[Figures], float]:
    return lambda figures: float(figures[than]["seconds"] / figures[name]["seconds"])


def _longer(name: str, than: str) -> Callable[[Figures], float]:
    return lambda figures: float(figures[name]["seconds"] / figures[than]["seconds"])


def _size(name: str, than: str) -> Callable[[Figures], float]:
    return lambda figures: float(figures[name]["size"] / figures[than]["size"])


def _of(name: str, what: str, per: float = 1.0) -> Callable[[Figures], float]:
    return lambda figures: float(figures[name][what]) / per


GZ, ZST, FASTER = "envpack .tar.gz", "envpack .tar.zst", f"envpack .tar.zst --level {FAST}"
CHANGED, UPGRADED = "envpack, one package changed", "deploy, one package changed"


def targets(high: int) -> list[Target]:
    """Return all targets; ``high`` is zstd's level for target 2."""
    small = f"envpack .tar.zst --level {high}"
    return [
        Target(1, "pack gz, times conda-pack", _faster(GZ, CONDA_PACK), 6, True, _FASTER),
        Target(1, "its size to conda-pack's", _size(GZ, CONDA_PACK), 1, False),
        Target(1, "its memory, MB", _of(GZ, "tree", 1e6), MEMORY / 1e6, False, "{:.0f}"),
        Target(2, "pack zst, times conda-pack gz", _faster(ZST, CONDA_PACK), 7, True, _FASTER),
        Target(2, "its size to conda-pack's gz", _size(ZST, CONDA_PACK), 0.85, False),
        Target(2, f"zst level {FAST}, times conda-pack gz", _faster(FASTER, CONDA_PACK), 10, True, _FASTER),
        Target(2, "its size to conda-pack's gz", _size(FASTER, CONDA_PACK), 1, False),
        Target(2, f"zst level {high}, times conda-pack zst", _faster(small, CONDA_PACK_ZST), 2.5, True, _FASTER),
        Target(2, "its size to conda-pack's zst", _size(small, CONDA_PACK_ZST), 1, False),
        Target(3, "pack, 1 changed, times conda-pack", _faster(CHANGED, CONDA_PACK), 25, True, _FASTER),
        Target(4, "deploy gz to cp -a", _longer("envpack deploy gz", CP), 1.1, False),
        Target(4, "deploy zst to cp -a", _longer("envpack deploy zst", CP), 1.1, False),
        Target(4, "deploy gz to tar xzf", _longer("envpack deploy gz", TAR), 1, False),
        Target(5, "deploy, 1 changed, to cp -al", _longer(UPGRADED, CP_LINK), 3, False),
        Target(5, "share of the bundle read", _share_of_upgrade, SHARE_READ, False, "{:.2%}"),
        Target(6, "inspect, s", _of("envpack inspect", "seconds"), LOOKED, False),
        Target(6, "check, s", _of("envpack check", "seconds"), LOOKED, False),
        Target(6, "share of the bundle inspect reads", _share("envpack inspect"), SHARE_READ, False, "{:.2%}"),
        Target(6, "share of the bundle check reads", _share("envpack check"), SHARE_READ, False, "{:.2%}"),
        Target(7, "prefix written in, s", _of("envpack's unpack after it", "seconds"), SETTLED, False),
    ]


def _share(name: str) -> Callable[[Figures], float]:
    return lambda figures: float(figures[name]["read"] / figures[GZ]["size"])


def _share_of_upgrade(figures: Figures) -> float:
    return float(figures[UPGRADED]["bundle_read"] / figures[CHANGED]["size"])


def rows(figures: Figures, high: int) -> list[dict[str, Any]]:
    """Return a row for each target for which everything was measured."""
    return [row for target in targets(high) if (row := target.row(figures)) is not None]
