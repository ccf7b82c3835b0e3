"""``envpack inspect``: what a bundle is and holds, from its head alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from envpack.cli.chart import bar, fit
from envpack.cli.console import Console, Result
from envpack.cli.options import BundleOrArchive, option
from envpack.cli.output import describe_unrelocatable, needs_lines, show_origin
from envpack.cli.terminal import Stream
from envpack.cli.text import escape, human_date, plural
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.interop.inspect import Inspected
    from envpack.runtime.format.changes import Changes
    from envpack.runtime.format.manifest import Manifest, Package
    from envpack.runtime.format.services import Mount

LARGEST = 20
"""Packages shown unless --all is given."""


def inspect(
    console: Console,
    bundle: BundleOrArchive,
    everything: Annotated[bool, option("--all", "-a", help="List all packages, not only the largest.")] = False,
    segments: Annotated[bool, option("--segments", help="List the segments.")] = False,
    require_cuda: Annotated[
        bool,
        option("--require-cuda", help="Print only the value of NVIDIA_REQUIRE_CUDA for a container image."),
    ] = False,
) -> Result:
    """Show what is in a bundle: packages, sizes, requirements.

    Only the head of the bundle is read and verified, also from a server or a pipe. --json prints all information;
    -v lists the files that differ from their packages. An archive made by conda-pack is read completely, and
    contains less information.

    \b
    Examples:
      envpack inspect dist/demo-1.0-20251219-linux-64.tar.gz
      envpack inspect https://example.org/demo.tar.gz
      envpack inspect --json demo.tar.gz | jq '.result.packages[].name'
      envpack inspect --require-cuda demo.tar.gz  # for a container image
    """
    from envpack.bundle.codecs import FAST
    from envpack.interop.detect import is_archive
    from envpack.runtime.reader.bundle import open_bundle
    from envpack.runtime.transport.open import located

    source = located(bundle)
    if isinstance(source, Path) and is_archive(source):
        from envpack.interop.inspect import inspect_archive

        inspected = inspect_archive(source, console.reporter)
        manifest = inspected.manifest
        size = head = source.stat().st_size
        data = describe(manifest, str(source), size, head, _archive(inspected))
    else:
        with open_bundle(source, FAST) as opened:
            manifest = opened.manifest
            head = opened.head_size
            data = describe(manifest, opened.name, opened.size, head)
    if require_cuda:
        return Result("inspect", data, lambda console: console.out.write(escape(data["require_cuda"])))
    return Result(
        "inspect",
        data,
        lambda console: _show(console, manifest, data, head, everything=everything, segments=segments),
    )


def _mount(mount: Mount) -> str:
    size = f"at least {human_size(mount.size)}" if mount.size else ""
    return ", ".join(part for part in (mount.why, size) if part) or "must exist"


def _archive(inspected: Inspected) -> dict[str, Any]:
    origin = inspected.origin
    return {
        "layout": origin.layout,
        "prefix": None if origin.prefix is None else os.fsdecode(origin.prefix),
        "records": len(origin.records),
        "lacks": list(inspected.missing_guarantees),
    }


def describe(
    manifest: Manifest, path: str, file_size: int, head_size: int, archive: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the ``result`` of ``envpack.inspect/1``; ``archive`` is what only archives of other tools have."""
    from envpack.prefix.own.ids import application_path, is_own
    from envpack.runtime.format.changes import changes_to_json
    from envpack.runtime.format.needs import needs_to_json
    from envpack.runtime.format.services import mounts_to_json, services_to_json
    from envpack.runtime.host.checks.registry import wanted_of
    from envpack.runtime.host.exports import require_cuda_of

    return {
        "path": path,
        "file_size": file_size,
        "head_size": head_size,
        "format": manifest.format if archive is None else None,
        "archive": archive,
        "codec": manifest.codec,
        "name": manifest.name,
        "version": manifest.version,
        "subdir": manifest.subdir,
        "created": manifest.created,
        "writer": manifest.writer,
        "python": manifest.python,
        "size": manifest.size,
        "files": manifest.files,
        "longest_prefix": manifest.longest_prefix,
        "limited_by": manifest.limited_by,
        "requires": dict(manifest.requires),
        "needs": needs_to_json(manifest.needs),
        "require_cuda": require_cuda_of(wanted_of(manifest)),
        "variables": dict(manifest.variables),
        "commands": dict(manifest.commands),
        "services": services_to_json(manifest.services),
        "mounts": mounts_to_json(manifest.mounts),
        "test": list(manifest.test),
        "packages": [vars(package) for package in manifest.packages],
        "segments": [
            {"id": part.id, "frames": len(part.frames), "stored": part.stored, "size": part.size}
            for part in manifest.segments
        ],
        "own_files": [
            {"segment": part.id, "path": application_path(part.id) or None, "stored": part.stored}
            for part in manifest.segments
            if is_own(part.id)
        ],
        "changes": changes_to_json(manifest.changes),
    }


def _show(
    console: Console, manifest: Manifest, data: dict[str, Any], head: int, *, everything: bool, segments: bool
) -> None:
    out = console.out
    named = escape(f"{manifest.name} {manifest.version}".rstrip())
    out.write(out.style(named, "1") + (f" for {escape(manifest.subdir)}" if manifest.subdir else ""))
    out.pairs(_facts(manifest, data, head))
    _mapping(out, "requires", manifest.requires)
    found = list(needs_lines(manifest.needs))
    if found:
        _heading(out, "needs", "derived from its packages and files")
        out.pairs(found)
    _mapping(out, "variables", manifest.variables)
    _mapping(out, "commands", manifest.commands, unwrapped=True)
    _mapping(out, "mounts", {path: _mount(mount) for path, mount in manifest.mounts.items()})
    if manifest.test:
        _heading(out, "tests", "commands run after a deployment")
        for command in manifest.test:
            out.write(f"  {escape(command)}")
    _own_files(out, data["own_files"])
    _packages(out, manifest, everything=everything)
    if segments:
        _segments(out, manifest)
    if console.verbose:
        _changes(out, manifest.changes)
    if data["archive"] is not None:
        show_origin(out, manifest.writer, data["archive"]["lacks"], (), verbose=False)


def _facts(manifest: Manifest, data: dict[str, Any], head: int) -> list[tuple[str, str]]:
    changes = manifest.changes
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in changes.counts.items() if count)
    anywhere = "any destination"
    if manifest.longest_prefix is not None:
        anywhere = f"destinations of up to {manifest.longest_prefix} bytes, limited by {manifest.limited_by}"
    kind = [
        ("made by", manifest.writer),
        ("dated", f"{human_date(manifest.created)}, from its newest package or SOURCE_DATE_EPOCH"),
        ("format", f"{manifest.format}, {manifest.codec}, {plural(len(manifest.segments), 'segment')}"),
        ("head", f"{human_size(head)}, the only part that was read"),
    ]
    unchanged = "none: every file is as published in its package"
    archive = data["archive"]
    if archive is not None:
        prefix = archive["prefix"] or "unknown"
        kind = [
            ("made by", f"{manifest.writer}, compression {manifest.codec}"),
            ("prefix", f"{prefix}, {plural(archive['records'], 'file')} recorded"),
        ]
        unchanged = "none that the metadata shows"
    return [
        ("file", data["path"]),
        (
            "size",
            f"{human_size(data['file_size'])}, unpacked {human_size(manifest.size)} "
            f"in {plural(manifest.files, 'file')}",
        ),
        *kind,
        ("python", _python(manifest)),
        ("deploys to", anywhere),
        ("changes", counts or unchanged),
    ]


def _python(manifest: Manifest) -> str:
    if not manifest.python:
        return "none"
    versions = [package.version for package in manifest.packages if package.name == "python"]
    return f"{versions[0]}, {manifest.python}" if versions else manifest.python


def _heading(out: Stream, title: str, remark: str = "") -> None:
    out.write()
    out.write(out.style(title, "1") + (f": {remark}" if remark else ""))


def _mapping(out: Stream, title: str, values: Mapping[str, str], *, unwrapped: bool = False) -> None:
    if values:
        _heading(out, title)
        out.pairs(values.items(), unwrapped=unwrapped)


def _own_files(out: Stream, own: Sequence[Mapping[str, Any]]) -> None:
    if own:
        _heading(out, "own files", "parts of their own, not from packages")
        out.pairs(
            (
                part["segment"],
                f"{human_size(part['stored'])} packed" + (f", at {part['path']}" if part["path"] else ""),
            )
            for part in own
        )


def _packages(out: Stream, manifest: Manifest, *, everything: bool) -> None:
    packages = sorted(manifest.packages, key=lambda package: (-package.size, package.name))
    shown = packages if everything else packages[:LARGEST]
    kinds = {kind: sum(package.kind == kind for package in packages) for kind in ("conda", "pypi")}
    counts = " and ".join(f"{number:,} from {kind}" for kind, number in kinds.items() if number)
    rest = packages[len(shown) :]
    _heading(out, "packages", (counts or "none") + (f", the {len(shown)} largest" if rest else ""))
    if shown:
        _chart(out, shown)
    if rest:
        out.write(f"  and {len(rest):,} more, {human_size(sum(package.size for package in rest))} (--all)")


def _chart(out: Stream, packages: Sequence[Package]) -> None:
    """Write name, version, kind, size and a bar of each; long names and versions are cut on a terminal only."""
    from rich.cells import cell_len

    names = [escape(package.name) for package in packages]
    versions = [escape(package.version) for package in packages]
    name_width, version_width = max(map(cell_len, names)), max(map(cell_len, versions))
    if out.width is not None:
        name_width, version_width = min(name_width, out.width // 3), min(version_width, out.width // 5)
    kinds = out.width is None or out.width >= 60
    used = 2 + name_width + 2 + version_width + 2 + (7 if kinds else 0) + 9 + 2
    columns_left = max(0, min(30, (out.width or 100) - used - 1))
    largest = max(package.size for package in packages)
    for package, name, version in zip(packages, names, versions, strict=True):
        name = fit(name, name_width, unicode=out.unicode)
        version = fit(version, version_width, unicode=out.unicode)
        kind = out.style(f"{package.kind:<5}", "2") + "  " if kinds else ""
        filled = bar(package.size, largest, columns_left, unicode=out.unicode) if columns_left else ""
        drawn = out.style(filled, "36") if filled else ""
        out.write(f"  {name}  {version}  {kind}{human_size(package.size):>9}  {drawn}".rstrip())


def _segments(out: Stream, manifest: Manifest) -> None:
    stored = sum(segment.stored for segment in manifest.segments)
    _heading(out, "segments", f"{human_size(stored)} in total")
    out.write(out.style(f"  {'stored':>10}  {'unpacked':>10}  frames  id", "2"))
    for segment in manifest.segments:
        out.write(
            f"  {human_size(segment.stored):>10}  {human_size(segment.size):>10}  {len(segment.frames):>6}  "
            f"{escape(segment.id)}"
        )


def _changes(out: Stream, changes: Changes) -> None:
    for name, found in vars(changes).items():
        if found:
            _heading(out, name.replace("_", " "))
            for item in found:
                out.write(f"  {escape(item if isinstance(item, str) else describe_unrelocatable(item))}")
