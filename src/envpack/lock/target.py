"""The description of the target machine for the solver, independent of the build machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from envpack.lock.condarc import channel_settings
from envpack.runtime.errors import SpecError
from envpack.runtime.transport.redact import printable_url, without_secrets
from envpack.spec import EnvSpec, Requires

if TYPE_CHECKING:
    from rattler import Channel, ChannelConfig, GenericVirtualPackage

DEFAULT_GLIBC = "2.28"
"""glibc of a target when the spec states none: that of RHEL 8, Debian 10 and manylinux_2_28 (PEP 600), and the
default of pixi (https://pixi.sh/latest/workspace/system_requirements/).
"""

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
        SpecError: A channel is malformed.
    """
    from envpack.spec import DEFAULT_CHANNELS

    if override:
        return channels(channel_names(override), Path.cwd())
    own = spec.channels or channel_settings(os.environ).channels or DEFAULT_CHANNELS
    named = [text.split("::", 1)[0] for text in spec.dependencies if "::" in text]
    found = channels(channel_names([*own, *named]), spec.directory)
    return list({channel.base_url: channel for channel in found}.values())


def with_channel_url(dependency: str, root: Path) -> str:
    """Return ``channel::package`` with the URL that the channel's name stands for, others as they are."""
    name, separator, package = dependency.partition("::")
    expanded = channels(channel_names([name]), root) if separator else []
    return f"{expanded[0].base_url.rstrip('/')}::{package}" if len(expanded) == 1 else dependency
