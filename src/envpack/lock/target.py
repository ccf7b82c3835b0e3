"""The description of the target machine for the solver, independent of the build machine."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from envpack.lock.condarc import channel_settings, split_subdir
from envpack.lock.locations import with_variables
from envpack.runtime.errors import SpecError
from envpack.runtime.transport.redact import printable_url, without_secrets
from envpack.spec.model import EnvSpec
from envpack.spec.requires import Requires

if TYPE_CHECKING:
    from rattler import Channel, ChannelConfig, GenericVirtualPackage

DEFAULT_GLIBC = "2.28"
"""glibc of a target when the spec states none: that of RHEL 8, Debian 10 and manylinux_2_28 (PEP 600), and the
default of pixi (https://pixi.sh/latest/workspace/system_requirements/).
"""

_IN_BRACKETS = re.compile(
    r"\[(?P<before>[^\]]*?)\bchannel\s*=\s*(['\"]?)(?P<channel>[^'\",\]]+)\2(?P<after>[^\]]*)\]"
)
_KERNELS = ((2, 28, "4.18"), (0, 0, "3.10"))  # kernel of the oldest distribution with that glibc: RHEL 8, RHEL 7
_ARCHSPEC = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}


def current_platform() -> str:
    """Return the conda subdir of the machine envpack runs on."""
    from rattler.platform import Subdir

    return str(Subdir.current())


def glibc_version(requires: Requires) -> tuple[int, int]:
    """Return the glibc version of the target, major and minor."""
    glibc = requires.get("glibc")
    version = glibc.version if glibc else tuple(map(int, DEFAULT_GLIBC.split(".")))
    return version[0], version[1] if len(version) > 1 else 0


def virtual_package_texts(platform: str, requires: Requires) -> list[str]:
    """Return the target's virtual packages as ``name=version=build``."""
    glibc = glibc_version(requires)
    kernel = next(kernel for major, minor, kernel in _KERNELS if glibc >= (major, minor))
    texts = ["__unix=0=0", f"__linux={kernel}=0", f"__glibc={glibc[0]}.{glibc[1]}=0"]
    texts.append(f"__archspec=1={_ARCHSPEC[platform]}")
    cuda = requires.get("cuda")
    if cuda:
        texts.append(f"__cuda={cuda.minimum}=0")
    return texts


def virtual_packages(platform: str, requires: Requires) -> list[GenericVirtualPackage]:
    """Return `virtual_package_texts` as objects of rattler."""
    from rattler import GenericVirtualPackage, PackageName, Version
    from rattler.package import BuildString

    return [
        GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))
        for name, version, build in (text.split("=") for text in virtual_package_texts(platform, requires))
    ]


def channel_names(names: Sequence[str]) -> list[str]:
    """Return channels with names that conda's configuration defines, and ``defaults``, replaced."""
    return channel_settings(os.environ).expand(names)


def channels(names: Sequence[str], root: Path) -> list[Channel]:
    """Return the channels in order of priority; relative paths start at ``root``."""
    from rattler import ChannelConfig

    alias = channel_settings(os.environ).alias
    config = ChannelConfig(channel_alias=f"{alias}/", root_dir=str(root.absolute()))
    return [_channel(str(Path(name).expanduser()) if name[:1] == "~" else name, config) for name in names]


def _channel(name: str, config: ChannelConfig) -> Channel:
    from rattler import Channel
    from rattler.exceptions import InvalidChannelError

    try:
        return Channel(name, config)
    except InvalidChannelError as error:
        where = printable_url(name) if "://" in name else repr(name)
        raise SpecError(
            f"the channel {where} can't be used: {without_secrets(str(error))}",
            hint="Give a name, a folder, or an URL; of a password in it, write %2F for '/', %40 for '@'.",
        ) from None


def spec_channels(spec: EnvSpec, override: Sequence[str] = ()) -> list[Channel]:
    """Return the channels to solve with.

    These are the spec's own, else those of conda's configuration, followed by those named in a dependency
    (``channel::package``), as conda does it. ``override``, when given, replaces them all; its paths start at the
    working directory.

    Raises:
        SpecError: A channel is malformed, or needs a variable that is not set.
    """
    from envpack.spec.model import DEFAULT_CHANNELS

    if override:
        return channels(channel_names(override), Path.cwd())
    stated = [with_variables(channel, "channel") for channel in spec.channels]
    own = stated or channel_settings(os.environ).channels or DEFAULT_CHANNELS
    named = [channel for channel, _ in map(split_channel, spec.dependencies) if channel]
    found = channels(channel_names([*own, *named]), spec.directory)
    return list({channel.base_url: channel for channel in found}.values())


def with_channel_url(dependency: str, root: Path) -> str:
    """Return a dependency with the URL of the channel that it names, others as they are.

    Of several channels that the name stands for, it is the first.
    """
    name, package = split_channel(dependency)
    expanded = channels(channel_names([name]), root) if name else []
    if not expanded:
        return package
    subdir = split_subdir(name)[1]
    return f"{expanded[0].base_url.rstrip('/')}{f'/{subdir}' if subdir else ''}::{package}"


def split_channel(dependency: str) -> tuple[str, str]:
    """Return the channel that a dependency names, "" when it names none, and the dependency without it.

    A MatchSpec has it in front (``conda-forge::numpy``) or in brackets (``numpy[channel=conda-forge]``).
    """
    name, separator, package = dependency.partition("::")
    if separator and "[" not in name:
        return name.strip(), package
    match = _IN_BRACKETS.search(dependency)
    if match is None:
        return "", dependency
    rest = ",".join(filter(None, (match[part].strip(", ") for part in ("before", "after"))))
    return match["channel"], dependency[: match.start()] + (f"[{rest}]" if rest else "")
