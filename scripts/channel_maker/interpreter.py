"""The properties that a Python interpreter reports."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from channel_maker.errors import ChannelError

SUBDIRS = {("linux", "x86_64"): "linux-64", ("linux", "aarch64"): "linux-aarch64"}

# Runs in the interpreter that is asked, which may be old: nothing newer than Python 3.6 here.
_QUESTION = r"""
import json, os, platform, sys, sysconfig
if sys.version_info < (3, 8):
    print(json.dumps({"too_old": platform.python_version()}))
    raise SystemExit
version = "{0.major}.{0.minor}.{0.micro}".format(sys.implementation.version)
if sys.implementation.version.releaselevel != "final":
    version += sys.implementation.version.releaselevel[0] + str(sys.implementation.version.serial)
config = sysconfig.get_config_vars()
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": platform.python_version(),
    "system": sys.platform,
    "machine": platform.machine(),
    "abiflags": sys.abiflags,
    "executable": getattr(sys, "_base_executable", None) or sys.executable,
    "base_prefix": sys.base_prefix,
    "stdlib": os.path.dirname(os.__file__),
    "dynload": [path for path in sys.path if path.endswith("lib-dynload")],
    "include": [sysconfig.get_path("include", "posix_prefix"), config.get("INCLUDEPY")],
    "multiarch": getattr(sys.implementation, "_multiarch", ""),
    "library_folder": config.get("LIBDIR"),
    "pkgconfig_folder": config.get("LIBPC"),
    "schemes": list(sysconfig.get_scheme_names()),
    "build": [sys.version, config.get("CONFIG_ARGS")],
    "markers": {
        "implementation_name": sys.implementation.name,
        "implementation_version": version,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "platform_python_implementation": platform.python_implementation(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    },
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """An installed CPython 3; all paths are those of the installation, also where a virtual environment was named.

    ``subdir`` is conda's word for its platform, ``markers`` the environment its requirements' markers see.
    """

    asked: Path
    executable: Path
    version: str
    subdir: str
    base_prefix: Path
    stdlib: Path
    dynload: tuple[Path, ...]
    include: tuple[Path, ...]
    library_folder: Path | None
    pkgconfig_folder: Path | None
    schemes: tuple[str, ...]
    build: tuple[str, ...]
    markers: Mapping[str, str]

    @property
    def minor(self) -> str:
        """``3.11``"""
        return ".".join(self.version.split(".")[:2])

    @property
    def tag(self) -> str:
        """``py311``"""
        return "py" + self.minor.replace(".", "")

    @property
    def site_packages(self) -> str:
        """The folder of packages, relative to a prefix."""
        return f"lib/python{self.minor}/site-packages"

    @property
    def looks_elsewhere(self) -> bool:
        """Whether a distribution changed the folders from which this Python imports packages."""
        return bool({"posix_local", "rpm_prefix"} & set(self.schemes))

    @property
    def pin(self) -> str:
        """The MatchSpec of the Pythons that files for this minor version fit."""
        major, minor = self.minor.split(".")
        return f"python >={self.minor},<{major}.{int(minor) + 1}.0a0"


def ask(python: Path) -> Interpreter:
    """Ask the interpreter ``python``.

    Raises :class:`ChannelError` where it is none that a package can be made of.
    """
    try:
        result = subprocess.run(
            [python, "-I", "-"], input=_QUESTION, capture_output=True, text=True, errors="replace"
        )
    except OSError as error:
        raise ChannelError(
            f"{python} can't be run as a Python interpreter: {error.strerror or error}.",
            hint="Name the program itself, such as /usr/bin/python3.",
        ) from None
    try:
        answer: dict[str, Any] = json.loads(result.stdout) if result.returncode == 0 else {}
    except ValueError:
        answer = {}
    if not answer:
        raise ChannelError(
            f"{python} is not a working Python interpreter (exit status {result.returncode}).",
            hint="Name the program itself, such as /usr/bin/python3.",
            details=result.stderr.strip().splitlines()[-5:],
        )
    return _interpreter(python, answer)


def _interpreter(python: Path, answer: Mapping[str, Any]) -> Interpreter:
    if "too_old" in answer:
        raise ChannelError(f"{python} is Python {answer['too_old']}; 3.8 or later is required.")
    if answer["implementation"] != "cpython":
        raise ChannelError(f"{python} is {answer['implementation']}; only CPython can be packaged.")
    if answer["abiflags"]:
        raise ChannelError(
            f"{python} is a build with ABI flags {answer['abiflags']!r} (debug or free-threaded); "
            "only the default build can be packaged."
        )
    subdir = SUBDIRS.get((answer["system"], answer["machine"]))
    if subdir is None:
        raise ChannelError(
            f"{python} runs on {answer['system']} {answer['machine']}; packages are made on Linux only "
            f"({', '.join(sorted(machine for _, machine in SUBDIRS))})."
        )
    stdlib = Path(answer["stdlib"])
    multiarch = answer["multiarch"]
    include = [Path(path) for path in answer["include"] if path]
    include += [path.parent / multiarch / path.name for path in include if multiarch]
    return Interpreter(
        asked=python,
        executable=Path(answer["executable"]).resolve(),
        version=answer["version"],
        subdir=subdir,
        base_prefix=Path(answer["base_prefix"]),
        stdlib=stdlib,
        dynload=tuple(dict.fromkeys(Path(path) for path in answer["dynload"])),
        include=tuple(path for path in dict.fromkeys(include) if path.is_dir()),
        library_folder=_folder(answer["library_folder"]),
        pkgconfig_folder=_folder(answer["pkgconfig_folder"]),
        schemes=tuple(answer["schemes"]),
        build=(str(os.fspath(answer["base_prefix"])), *(str(part) for part in answer["build"])),
        markers=answer["markers"],
    )


def _folder(path: str | None) -> Path | None:
    return Path(path) if path and Path(path).is_dir() else None
