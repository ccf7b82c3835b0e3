"""The cases of each round: packing without and with a cache, deploying, upgrading, inspecting."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from change import Change

CONDA_PACK = "conda-pack .tar.gz"
CONDA_PACK_ZST = "conda-pack -j .tar.zst"
CP, CP_LINK, TAR = "cp -a", "cp -al", "tar xzf"
CP_SYNCED = "cp -a and sync"
PEERS = (CONDA_PACK, "conda-pack -j .tar.gz", CONDA_PACK_ZST)
"""conda-pack takes most of a round's time; ``--slow-rounds`` limits it."""

FAST = 1
"""zstd's level for those in a hurry (target 2)."""

RACY = 2.1
"""Seconds after which the segment cache trusts a file's times (envpack.bundle.cache.signature.RACY)."""


@dataclass(frozen=True)
class Case:
    """``command`` makes ``output``; ``against`` names the case that the ratio is to. ``before`` is not measured.
    ``output`` is removed before it, and ``drops`` after it, so that little disk is needed; ``accepted``: its exit
    statuses."""

    name: str
    group: str
    command: Sequence[str]
    output: Path | None = None
    against: str = ""
    drops: Sequence[Path] = ()
    before: Callable[[], object] = field(default=lambda: None)
    environ: dict[str, str] = field(default_factory=dict)
    accepted: Sequence[int] = (0,)
    needs: str = ""
    """A program that has to be installed."""


@dataclass(frozen=True)
class Plan:
    """The parameters of a round: the environment, a work folder, the number of threads, zstd's high level."""

    prefix: Path
    work: Path
    jobs: int
    high: int
    change: Change

    def cases(self) -> list[Case]:
        """Return the cases in the order of a round: a case that another one needs comes before it."""
        return [*self._peers(), *self._copies(), *self._cold(), *self._warm()]

    def _envpack(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "envpack", *map(str, arguments)]

    def _pack(self, output: Path, *options: object) -> list[str]:
        return self._envpack(
            "--quiet", "pack", "-p", self.prefix, "-o", output, "-j", self.jobs, "--force", *options
        )

    def _peers(self) -> list[Case]:
        theirs, plain = self.work / "condapack.tar.gz", self.work / "plain"
        command = [sys.executable, "-m", "conda_pack.cli", "-q", "-f", "-p", str(self.prefix)]
        command.append("--ignore-missing-files")
        threads = ["-j", str(self.jobs)]
        gz, zst = self.work / "threads.tar.gz", self.work / "threads.tar.zst"
        piped = f"tar -C {self.prefix} -cf - ."
        pigz, zstd = self.work / "pigz.tar.gz", self.work / "zstd.tar.zst"
        unpack = f'PATH={plain}/bin:"{Path(sys.executable).parent}":$PATH exec {plain}/bin/conda-unpack'
        return [
            Case(CONDA_PACK, "pack", [*command, "-o", str(theirs)], theirs),
            Case(PEERS[1], "pack", [*command, *threads, "-o", str(gz)], gz, CONDA_PACK, [gz]),
            Case(PEERS[2], "pack", [*command, *threads, "-o", str(zst)], zst, CONDA_PACK, [zst]),
            Case(
                "tar | pigz", "pack", _shell(f"{piped} | pigz -p {self.jobs} >{pigz}"), pigz, CONDA_PACK,
                [pigz], needs="pigz",
            ),
            Case(
                "tar | zstd -T", "pack", _shell(f"{piped} | zstd -q -T{self.jobs} >{zstd}"), zstd, CONDA_PACK,
                [zstd], needs="zstd",
            ),
            Case(TAR, "deploy", _shell(f"mkdir {plain} && tar -xzf {theirs} -C {plain}"), plain, CP, [theirs]),
            Case("conda-unpack after it", "settle", _shell(unpack), drops=[plain]),
        ]  # fmt: skip

    def _copies(self) -> list[Case]:
        copy = self.work / "copy"
        synced = _shell(f"cp -a {self.prefix} {copy} && sync -f {copy}")
        return [
            Case(CP_SYNCED, "deploy", synced, copy, CP, [copy]),
            Case(CP, "deploy", ["cp", "-a", str(self.prefix), str(copy)], copy, drops=[copy]),
            Case(CP_LINK, "upgrade", ["cp", "-al", str(self.prefix), str(copy)], copy, drops=[copy]),
        ]

    def _cold(self) -> list[Case]:
        gz, zst, other = (self.work / name for name in ("envpack.tar.gz", "envpack.tar.zst", "other.tar.zst"))
        root = self.work / "root"
        levels = [(f"envpack .tar.zst --level {level}", level) for level in (FAST, self.high)]
        unpacked = _shell(f"mkdir {root} && tar -xzf {gz} -C {root}")
        settle = [sys.executable, str(root / ".envpack/runtime.pyz"), "unpack", str(root)]
        unmet = (0, 9)  # a bundle that needs a GPU, on a host without: the answer all the same
        return [
            *(
                Case(name, "pack", self._pack(other, "--no-cache", "--level", level), other, CONDA_PACK, [other])
                for name, level in levels
            ),
            Case("envpack .tar.zst", "pack", self._pack(zst, "--no-cache"), zst, CONDA_PACK),
            Case("envpack deploy zst", "deploy", self._deploy(zst, root), root, CP, [root, zst]),
            Case("envpack .tar.gz", "pack", self._pack(gz, "--no-cache"), gz, CONDA_PACK),
            Case("envpack deploy gz", "deploy", self._deploy(gz, root), root, CP, [root]),
            Case("tar xzf envpack's", "deploy", unpacked, root, CP),
            Case("envpack's unpack after it", "settle", settle, against="conda-unpack after it", drops=[root]),
            Case("envpack inspect", "look", self._envpack("inspect", gz, "--json")),
            Case("envpack check", "look", self._envpack("check", gz, "--json"), accepted=unmet, drops=[gz]),
        ]

    def _warm(self) -> list[Case]:
        first, second = self.work / "first.tar.gz", self.work / "second.tar.gz"
        root, store, folder = self.work / "deployed", self.work / "store", self.work / "cache"
        beside = self.work / ".deployed.envpack"
        cache = {"ENVPACK_CACHE": str(folder)}

        def empty() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(RACY)

        def changed() -> None:
            self.change.make()
            time.sleep(RACY)

        return [
            Case(
                "envpack .tar.gz, empty cache", "warm", self._pack(first), first, CONDA_PACK, environ=cache,
                before=empty,
            ),
            Case(
                "envpack, nothing changed", "warm", self._pack(second), second, CONDA_PACK, [second],
                environ=cache,
            ),
            Case(
                "envpack, one package changed", "warm", self._pack(second), second, CONDA_PACK, [folder],
                environ=cache, before=changed,
            ),
            Case(
                "deploy, store empty", "upgrade", self._deploy(first, root, "--store", store), root, CP, [first],
                before=lambda: shutil.rmtree(store, ignore_errors=True),
            ),
            Case(
                "deploy, one package changed", "upgrade", self._deploy(second, root, "--store", store), None,
                CP_LINK, [root, beside, store, second],
            ),
        ]  # fmt: skip

    def _deploy(self, bundle: Path, root: Path, *options: object) -> list[str]:
        return self._envpack("--quiet", "deploy", bundle, root, "--json", "--gpu", "none", *options)


def _shell(line: str) -> list[str]:
    return ["sh", "-c", line]


def isolated(work: Path) -> None:
    """Keep this process away from the user's settings, deployments and caches."""
    os.environ.update(XDG_STATE_HOME=str(work / "state"), XDG_CONFIG_HOME=str(work / "config"))
    for name in ("ENVPACK_STORE", "ENVPACK_CACHE"):
        os.environ.pop(name, None)
