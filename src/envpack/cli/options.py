"""Options that several commands share, each defined once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from envpack.runtime.errors import UsageError
from envpack.runtime.format.codec import CODECS

if TYPE_CHECKING:
    from envpack.config import Config


def _console_flag(name: str) -> Callable[[typer.Context, bool], bool]:
    """Return a callback that sets the console's attribute to true, before or after the command's name."""

    def callback(context: typer.Context, value: bool) -> bool:
        if value and context.obj is not None:
            setattr(context.obj, name, True)
        return value

    return callback


def _at_least_one(value: int | None) -> int | None:
    if value is not None and value < 1:
        raise typer.BadParameter(f"{value} is less than 1")
    return value


_LEVELS = ", ".join(f"{codec.format} {codec.levels[0]} to {codec.levels[-1]}" for codec in CODECS)
_DEFAULTS = ", ".join(f"{codec.format} {codec.level}" for codec in CODECS)
_FORMATS = {codec.format: codec.suffixes[0] for codec in CODECS}


def _a_format(value: str | None) -> str | None:
    if value is not None and value not in _FORMATS:
        raise typer.BadParameter(f"{value!r} is not one of {', '.join(map(repr, _FORMATS))}.")
    return value


def _profiles(values: list[str] | None) -> list[str] | None:
    if values:
        from envpack.spec.model import PRUNE_PROFILES

        for value in values:
            if value not in PRUNE_PROFILES:
                raise typer.BadParameter(f"{value!r} is not one of {', '.join(PRUNE_PROFILES)}")
    return values


def channel_urls(values: list[str] | None) -> list[str] | None:
    """Return channels as typed; a path that leads to a channel becomes its URL, also without a leading ``./``."""
    return [_channel(value) for value in values] if values is not None else None


def _channel(value: str) -> str:
    folder = Path(value).expanduser()
    is_channel = "://" not in value and any(folder.glob("*/repodata.json*"))
    return folder.resolve().as_uri() if is_channel else value


def option(*names: str, **settings: Any) -> Any:
    """Return an option; its help contains the default, if this is to be shown."""
    return typer.Option(*names, show_default=False, **settings)


def argument(**settings: Any) -> Any:
    """Return a positional argument; its help contains the default, if this is to be shown."""
    return typer.Argument(show_default=False, **settings)


Json = Annotated[bool, option("--json", help="Print one JSON object on stdout.", callback=_console_flag("json"))]
Verbose = Annotated[
    bool,
    option(
        "--verbose", "-v", help="Print more details, and tracebacks of bugs.", callback=_console_flag("verbose")
    ),
]
Quiet = Annotated[
    bool,
    option("--quiet", "-q", help="Print no progress, only warnings and errors.", callback=_console_flag("quiet")),
]

Channels = Annotated[
    list[str] | None,
    option(
        "--channel",
        "-c",
        metavar="CHANNEL",
        help="Channel, as name, URL or path; replaces those of the spec. Repeatable.",
        callback=channel_urls,
    ),
]
IndexUrl = Annotated[
    str | None, option("--index-url", metavar="URL", help="Package index for the pip section, instead of PyPI.")
]
Jobs = Annotated[
    int | None,
    option(
        "--jobs",
        "-j",
        metavar="N",
        help="Number of processors to use. [default: all available]",
        callback=_at_least_one,
    ),
]
Level = Annotated[
    int | None,
    option("--level", metavar="N", help=f"Compression level: {_LEVELS}. [default: {_DEFAULTS}]"),
]
DestPrefix = Annotated[
    str | None,
    option(
        "--dest-prefix",
        metavar="DIR",
        help="Write this path into the files: no bundle, works there only, needs no conda-unpack.",
    ),
]
Format = Annotated[
    str | None,
    option(
        "--format",
        metavar="|".join(_FORMATS),
        help=f"Write {' or '.join(_FORMATS.values())}. [default: by the suffix of -o, or gz]",
        callback=_a_format,
        autocompletion=lambda: list(_FORMATS),
    ),
]
Exclude = Annotated[
    list[str] | None,
    option("--exclude", metavar="GLOB", help="Leave out files that match; globs as in .gitignore. Repeatable."),
]
Include = Annotated[
    list[str] | None,
    option("--include", metavar="GLOB", help="Keep files that --exclude or --prune would leave out. Repeatable."),
]
Prune = Annotated[
    list[str] | None,
    option(
        "--prune",
        metavar="PROFILE",
        help="Leave out tests, docs, headers, static (libraries) or bytecode. Repeatable.",
        callback=_profiles,
    ),
]
OutsideLinks = Annotated[
    Literal["error", "follow", "keep"],
    typer.Option(
        "--outside-links",
        metavar="WHAT",
        help="Links to outside the environment: error, follow (pack their targets) or keep.",
    ),
]
Editable = Annotated[
    Literal["error", "skip", "wheel"],
    typer.Option(
        "--editable",
        metavar="WHAT",
        help="Editable installs: error, skip (leave them out) or wheel (pack a wheel of each).",
    ),
]
Strict = Annotated[
    bool,
    option("--strict", help="Fail if a file contains the path of the environment where it can't be replaced."),
]
Insecure = Annotated[
    bool, option("--insecure", help="Allow http without TLS, which is otherwise for this host only.")
]
Mirror = Annotated[
    list[str] | None,
    option("--mirror", metavar="URL", help="Read packages from this copy first. Can be repeated."),
]
Expires = Annotated[
    int | None,
    option(
        "--expires", metavar="DAYS", help="Days until the signed pointer expires. [default: 30]", min=1, max=3650
    ),
]
NoCache = Annotated[bool, option("--no-cache", help="Don't read or write the cache. See 'envpack cache'.")]
Gpu = Annotated[
    Literal["required", "optional", "none"] | None,
    option(
        "--gpu",
        metavar="required|optional|none",
        help="optional: failed GPU requirements are warnings; none: not checked. [default: required]",
    ),
]
Probe = Annotated[
    bool,
    option("--probe", help="Also start CUDA (cuInit), in a process of its own, and show its error."),
]
Allow = Annotated[
    list[str] | None,
    option("--allow", metavar="WHAT", help="Only warn if this requirement fails, such as cuda. Repeatable."),
]
AnyParent = Annotated[
    Literal["parent-owner"] | None,
    option(
        "--allow",
        metavar="parent-owner",
        help="As root, also work in a directory that other users can write to.",
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        "--backend", metavar="NAME", help="Program that installs packages: rattler, conda, mamba, micromamba."
    ),
]
LockEnvironment = Annotated[
    str | None,
    option(
        "--environment", metavar="NAME", help="Environment of a pixi.lock. [default: its only one, or default]"
    ),
]
WorkDir = Annotated[
    Path | None,
    option(
        "--work-dir", metavar="DIR", help="Directory to build in. [default: ENVPACK_WORK, or in the user's cache]"
    ),
]
Wait = Annotated[bool, option("--wait", help="Wait if another envpack process has locked the deployment.")]
Keep = Annotated[
    int | None,
    option("--keep", metavar="N", help="Number of previous generations to keep. [default: 1]", min=0),
]


def require_file(output: Path | None) -> None:
    """Raise UsageError when an output is "-": no command writes a file to standard output."""
    if output is not None and str(output) == "-":
        raise UsageError(
            "the output can't be '-': nothing is written to standard output",
            hint="Give the path of a file; './-' is a file of that name.",
        )


SpecOrLock = Annotated[
    Path, argument(metavar="[SPEC|LOCK]", help="An environment.yml or a lock file. [default: ./environment.yml]")
]
BundleOrArchive = Annotated[
    str,
    argument(metavar="BUNDLE", help="Path or URL of a bundle, '-' for stdin, or an archive made by conda-pack."),
]
Deployed = Annotated[Path, argument(metavar="DEST", help="Path of a deployment.")]

Port = Annotated[
    int | None,
    option(
        "--port", metavar="PORT", help="Port of the command, in its variable PORT. [default: as its spec says]"
    ),
]

STORE_VARIABLE = "ENVPACK_STORE"

Store = Annotated[
    Path | None,
    option(
        "--store",
        metavar="DIR",
        help="Store that deployments share files in. [default: ENVPACK_STORE, or store in config.toml]",
    ),
]


def choose_store(option: Path | None, environ: Mapping[str, str], config: Config) -> Path | None:
    """Return the store's folder; None if none is set.

    Args:
        option: The value of ``--store``, which comes first.
        environ: The environment variables, which come second.
        config: The settings, which come last.
    """
    if option is not None:
        return option
    return Path(environ[STORE_VARIABLE]) if environ.get(STORE_VARIABLE) else config.store
