"""Packing of a prefix into a bundle."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from packaging.utils import canonicalize_name

from envpack.bundle.cache.segment_cache import SegmentCache
from envpack.bundle.codecs import encoder_for
from envpack.bundle.model import Item, PackFindings
from envpack.bundle.own_scripts import activation_variables, with_launchers, with_variables
from envpack.bundle.reader_limits import check_paths
from envpack.bundle.segment_adder import BundleSegmentAdder, SegmentAdder, Sink
from envpack.bundle.writer import BundleWriter
from envpack.bundle.zipapp.runtime_zip import runtime_files
from envpack.prefix.inventory import read_prefix
from envpack.prefix.model import Group, PrefixContents
from envpack.prefix.needs.derive import derive_needs
from envpack.prefix.needs.requires import contradictions
from envpack.prefix.own.place import add_own_files
from envpack.prefix.own.read import OwnFiles, OwnRules, read_own_files
from envpack.prefix.owners.editable_policy import Policy
from envpack.prefix.owners.pypi import Origin
from envpack.prefix.relocate.normalize import FileNormalizer
from envpack.prefix.relocate.residual_mentions import LIMIT
from envpack.prefix.scan.outputs import without_output
from envpack.prefix.scan.prune import Selection
from envpack.prefix.scan.walk import GENERATED, Outside
from envpack.runtime.errors import PackError
from envpack.runtime.format.changes import Changes, Unrelocatable
from envpack.runtime.format.layout import OWN_FOLDER
from envpack.runtime.format.manifest import Manifest, Package, PathRecord
from envpack.runtime.format.services import Mount, Service
from envpack.runtime.format.tree_rules import forbidden_reason, leading_out
from envpack.runtime.host.detect.machine import host_subdir
from envpack.runtime.parallel.threads import processors
from envpack.runtime.report import Reporter, human_size
from envpack.runtime.version import __version__

RUNTIME = "runtime"
"""Id of the segment with the files that envpack adds: the same in every bundle of one envpack version."""


@dataclass(frozen=True)
class PackSettings:
    """Settings of a bundle, and what it says of itself beyond what the prefix shows.

    Attributes:
        name: Name of the environment (default: the prefix's directory name).
        version: Version of the environment.
        subdir: Conda subdir (default: that of the packages, else the host's).
        requires: Requirements on hosts, as the spec states them.
        test: Shell commands that test a deployment.
        commands: Commands of the environment.
        services: How commands are run, by name.
        mounts: Paths outside the environment that commands need.
        selection: Paths to pack (default: all).
        outside: Treatment of links that lead out of the prefix.
        editable: Treatment of editable installs that lead out of the prefix.
        strict: Whether a mention of the prefix that can't be relocated is an error.
        level: Compression level (default: the codec's own).
        jobs: Processors to use (default: those this process may use).
        created: Time of creation, in seconds since 1970 (default: that of the newest conda package).
        cache: Directory of the segment cache; None: no cache.
        origins: Origins of distributions by normalised name, where the environment does not record them.
        own: Files from outside the environment, such as the application's code.
    """

    name: str = ""
    version: str = "0.0.0"
    subdir: str = ""
    requires: Mapping[str, str] = field(default_factory=dict)
    test: tuple[str, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    mounts: Mapping[str, Mount] = field(default_factory=dict)
    selection: Selection = field(default_factory=Selection)
    outside: Outside = "error"
    editable: Policy = "error"
    strict: bool = False
    level: int | None = None
    jobs: int | None = None
    created: int | None = None
    cache: Path | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)
    own: tuple[OwnFiles, ...] = ()


def pack_prefix(prefix: Path, output: Path, *, settings: PackSettings, reporter: Reporter) -> Manifest:
    """Pack the environment at ``prefix`` into ``output``.

    After an error, no output appears, and an earlier one is unchanged.

    Args:
        prefix: Directory of the environment.
        output: Path of the bundle; its suffix decides the format.
        settings: Settings of the bundle.
        reporter: Receives progress and warnings.

    Returns:
        The manifest of the bundle.

    Raises:
        PackError: The environment can't be packed faithfully.
        DestinationError: The output can't be written.
        UsageError: The suffix or the level is unknown.
    """
    encoder = encoder_for(output.name, settings.level)
    contents = read_for_packing(prefix, output, settings, reporter)
    normalizer = FileNormalizer(contents.prefix, contents)
    jobs = settings.jobs or processors()
    with ExitStack() as stack:
        writer = stack.enter_context(BundleWriter(output, encoder, jobs))
        cache = None
        if settings.cache is not None:
            cache = stack.enter_context(SegmentCache(settings.cache, encoder, contents, normalizer))
        adder = BundleSegmentAdder(contents, normalizer, writer, encoder, cache, output.parent, jobs)
        manifest = pack_contents(contents, normalizer, writer, settings=settings, reporter=reporter, adder=adder)
        adder.keep(output)
        return manifest


def read_for_packing(prefix: Path, output: Path, settings: PackSettings, reporter: Reporter) -> PrefixContents:
    """Read the environment as ``settings`` select it, without ``output``, which may lie in it.

    Args:
        prefix: The environment.
        output: The bundle, which may be in the environment; it is not read.
        settings: The selection of files, and the treatment of links and editable installs.
        reporter: Receives notes and warnings.

    Raises:
        PackError: As for `pack_prefix`.
    """
    rules = OwnRules(settings.selection.keep_own, settings.outside, (output,), settings.created)
    own = read_own_files(settings.own, rules, reporter)
    keep = without_output(settings.selection if settings.selection else None, prefix, output)
    if compilers := settings.selection.keep_for_compilers(prefix):
        reporter.note(f"headers and libraries that {', '.join(compilers)} may need at run time are not pruned")
    contents = read_prefix(
        prefix, keep=keep, outside=settings.outside, editable=settings.editable, reporter=reporter
    )
    return add_own_files(contents, own, rules.seen)


def pack_contents(
    contents: PrefixContents,
    normalizer: FileNormalizer,
    sink: Sink,
    *,
    settings: PackSettings,
    reporter: Reporter,
    title: str = "Packing",
    adder: SegmentAdder | None = None,
) -> Manifest:
    """Write an environment that was read, with the files that envpack adds.

    Args:
        contents: The environment.
        normalizer: FileNormalizer of its files.
        sink: Target to write to.
        settings: Settings of the bundle.
        reporter: Receives progress and warnings.
        title: Name of the step, as shown.
        adder: Adds the segments to the target; None: each is packed by this process.

    Returns:
        The manifest of the bundle.

    Raises:
        PackError: As for `pack_prefix`.
    """
    adder = adder or SegmentAdder(contents, normalizer, sink)
    variables = activation_variables(contents.prefix, reporter)
    check_names(contents.groups, contents.outside)
    found = PackFindings()
    total = sum(entry.size for group in contents.groups for entry in group.entries)
    groups = tuple(with_variables(contents.groups, variables))
    groups = tuple(with_launchers(groups, settings.commands, contents.prefix, reporter))
    with ExitStack() as stack:
        # before any step of the reporter, as the processes fork: a progress bar may have a thread
        stack.enter_context(adder.workers(groups))
        needs = derive_needs(contents, reporter)
        for sentence in contradictions(settings.requires, needs):
            reporter.warn(sentence)
        step = stack.enter_context(reporter.step(title, total))
        sink.add_segment(RUNTIME, _own_items(settings.cache))
        for group in groups:
            found.add(adder.add(group, step.advance))
        if found.changing:
            raise changing(found.changing)
        if settings.strict and found.unrelocatable:
            raise _not_relocatable(found.unrelocatable)
        manifest = sink.finish(replace(_draft(contents, settings, variables, found), needs=needs))
        step.detail = f"{human_size(manifest.size)} in {manifest.files} files"
        step.detail += f" to {human_size(sink.stored)}" if sink.stored else ""
        if adder.reused:
            step.detail += f", {adder.reused} of {len(contents.groups)} parts reused"
    _tell_limits(found, reporter)
    for path in found.unsearched:
        reporter.note(f"{path}: only its first {human_size(LIMIT)} were searched for the environment's path")
    return manifest


_MOST_LISTED = 10


def _tell_limits(found: PackFindings, reporter: Reporter) -> None:
    """Tell the user which files limit the length of a destination, and which programs name sources."""
    limits = sorted(found.limits, key=lambda limit: (limit.room, limit.path))
    if limits:
        lines = [f"  {limit.path}: {limit.room} bytes, {limit.string!r}" for limit in limits[:_MOST_LISTED]]
        lines += [f"  and {len(limits) - _MOST_LISTED} more files"] if limits[_MOST_LISTED:] else []
        reporter.warn(
            f"the path of a deployment can have at most {limits[0].room} bytes: compiled files have paths of this "
            "environment in them that can't become longer; 'envpack deploy --allow room' ignores this\n"
            + "\n".join(lines)
        )
    if found.sources:
        paths = sorted(found.sources)
        shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if paths[3:] else "")
        reporter.note(f"names of sources or headers in messages of compiled files may stay a placeholder: {shown}")


def check_names(groups: Sequence[Group], outside: Collection[str]) -> None:
    """Raise PackError for paths that every reader of bundles refuses, before anything is compressed.

    Args:
        groups: The groups of the paths.
        outside: Links that may lead out of the environment.
    """
    entries = [entry for group in groups for entry in group.entries]
    wrong = [reason for reason in (forbidden_reason(entry.path) for entry in entries) if reason]
    wrong += [
        f"{entry.path!r} lies where envpack puts files of its own"
        for entry in entries
        if entry.path == OWN_FOLDER or entry.path.startswith(_BELOW_OWN)
    ]
    if wrong:
        raise PackError(
            f"{len(wrong):,} path{'s' if len(wrong) > 1 else ''} can't be in a bundle: {wrong[0]}",
            hint="Remove them, or exclude them.",
            details=wrong,
        )
    links = {entry.path: entry.target for entry in entries if entry.type == "symlink"}
    out = [f"{path}: links to {links[path]}" for path in leading_out(links, outside)]
    if out:
        raise PackError(
            f"{len(out):,} link{'s' if len(out) > 1 else ''} out of the environment, through other links in it",
            hint="Remove or exclude them.",
            details=out,
        )
    check_paths(groups)


_BELOW_OWN = tuple(f"{path}/" for path in (*GENERATED, OWN_FOLDER))


def changing(found: list[str]) -> PackError:
    """Return the error for files that changed while they were packed."""
    several = len(found) > 1
    return PackError(
        f"{len(found)} file{'s' if several else ''} changed while the environment was packed",
        hint="Pack again when no process writes to it. Exclude files that change all the time, such as logs.",
        details=sorted(found),
    )


def _not_relocatable(found: list[Unrelocatable]) -> PackError:
    several = len(found) > 1
    return PackError(
        f"{len(found)} file{'s contain' if several else ' contains'} the environment's path in a form that can't "
        "be relocated",
        hint="Exclude them, or pack without --strict if deployments do not need them.",
        details=[f"{item.path}: {item.reason}" for item in sorted(found, key=lambda item: item.path)],
    )


def _draft(
    contents: PrefixContents, settings: PackSettings, variables: Mapping[str, str], found: PackFindings
) -> Manifest:
    packages = tuple(
        _with_origin(group.package, settings.origins) for group in contents.groups if group.package is not None
    )
    subdirs = {package.subdir for package in packages} - {"noarch", ""}
    return Manifest(
        name=settings.name or contents.prefix.name,
        version=settings.version,
        subdir=settings.subdir or (min(subdirs) if subdirs else host_subdir()),
        created=contents.newest if settings.created is None else settings.created,
        writer=f"envpack {__version__}",
        codec="",
        size=0,
        files=0,
        paths_size=0,
        paths_sha256="",
        head=(),
        segments=(),
        packages=packages,
        python=contents.python,
        requires=dict(settings.requires),
        variables=variables,
        test=settings.test,
        commands=dict(settings.commands),
        services=dict(settings.services),
        mounts=dict(settings.mounts),
        changes=Changes(
            modified=tuple(sorted(found.modified)),
            missing=contents.missing,
            foreign=contents.foreign,
            replaced=contents.replaced,
            left_out=contents.left_out,
            outside=contents.outside,
            needs_activation=tuple(sorted(found.needs_activation)),
            unrelocatable=tuple(sorted(found.unrelocatable, key=lambda item: (item.path, item.reason))),
        ),
    )


def _with_origin(package: Package, origins: Mapping[str, Origin]) -> Package:
    """Return a distribution with its origin; one from an index has none in the environment (PEP 610)."""
    known = origins.get(canonicalize_name(package.name)) if package.kind == "pypi" else None
    if known is None:
        return package
    found = {key: value for key, value in known._asdict().items() if value}
    return replace(package, **found)


def _own_items(cache: Path | None) -> Iterator[Item]:
    for path, (data, mode) in sorted(runtime_files(cache).items()):
        record = PathRecord(path, "file", mode=mode, size=len(data), sha256=sha256(data).hexdigest())
        yield Item(record, [data])
