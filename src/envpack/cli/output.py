"""Output that several commands share, about what they read and wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envpack.cli.console import Console
from envpack.cli.text import escape, plural, wrap

if TYPE_CHECKING:
    from envpack.cli.terminal import Stream
    from envpack.prefix.scan.prune import Selection
    from envpack.release.make import Made
    from envpack.runtime.deployment.source import Fixup
    from envpack.runtime.format.changes import Changes, Unrelocatable
    from envpack.runtime.format.manifest import Manifest
    from envpack.runtime.format.needs import DetectedNeeds

SHORT_LIST = 3
"""The number of files named without -v."""

_LABELS = {
    "modified": "edited",
    "replaced": "replaced by pip or by envpack",
    "foreign": "in no package",
    "missing": "missing",
    "left_out": "of editable installs that are left out",
    "outside": "links to outside the environment",
}


def report_changes(console: Console, changes: Changes, selection: Selection | None = None) -> None:
    """Report how an environment differs from its packages, what was left out, and what can't be relocated.

    Mentions of the prefix that matter and can't be relocated are a warning, and so is a glob that matches no file;
    the rest are notes. -v lists all paths.

    Args:
        console: Receives the notes and warnings.
        changes: The differences.
        selection: The rules for files to leave out, with the number of files each left out.
    """
    reporter = console.reporter
    if selection is not None:
        for glob in selection.idle():
            reporter.warn(f"no file matches {glob!r}; globs have the format of .gitignore, see docs/packing.md")
        if selection.dropped:
            rules = ", ".join(f"{count:,} by {rule}" for rule, count in selection.dropped.most_common())
            reporter.note(f"left out: {plural(selection.dropped.total(), 'file')}, {rules}")
    counts = changes.counts
    parts = [f"{counts[name]:,} {label}" for name, label in _LABELS.items() if counts[name]]
    if parts:
        reporter.note(
            f"differs from the packages as published: {', '.join(parts)}"
            + ("" if console.verbose else " (-v lists them)")
        )
    if console.verbose:
        for name, label in _LABELS.items():
            for path in getattr(changes, name):
                reporter.note(f"  {label}: {path}")
    if changes.needs_activation:
        lines = [f"  {path}" for path in changes.needs_activation] if console.verbose else []
        message = (
            f"{plural(len(changes.needs_activation), 'script')} will need activation if the path of the "
            "destination is long or contains blanks" + ("" if console.verbose else " (-v lists them)")
        )
        reporter.note("\n".join([message, *lines]))
    mentions = sorted(changes.unrelocatable, key=lambda item: not item.matters)
    if mentions:
        _report_unrelocatable(console, mentions)


def _report_unrelocatable(console: Console, mentions: Sequence[Unrelocatable]) -> None:
    important = [item for item in mentions if item.matters]
    shown = mentions if console.verbose else important[:SHORT_LIST]
    files = len({item.path for item in mentions})
    verb = "mentions" if files == 1 else "mention"
    message = f"{plural(files, 'file')} {verb} the environment's path where it can't be replaced; "
    matters = len({item.path for item in important})
    message += f"programs may need it in {matters:,} of them" if matters else "no program is known to need it"
    hidden = "" if len(shown) == len(mentions) else " (-v lists them)"
    lines = [f"  {describe_unrelocatable(item)}" for item in shown]
    report = console.reporter.warn if matters else console.reporter.note
    report("\n".join([message + hidden, *lines]))


def describe_unrelocatable(item: Unrelocatable) -> str:
    """Return one line: path, reason, whether it matters."""
    return f"{item.path}: {item.reason}" + ("" if item.matters else " (no program is known to need it)")


def describe_bundle(path: Path | str, manifest: Manifest, file: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the results of build, convert, pack and release say of the file that was written.

    Args:
        path: The file, or the folder that conda-pack's ``no-archive`` is.
        manifest: Its manifest.
        file: Its ``sha256`` and ``file_size``, where they are known, and what else is said of the file.
    """
    return {
        "bundle": str(path),
        **file,
        "name": manifest.name,
        "version": manifest.version,
        "subdir": manifest.subdir,
        "size": manifest.size,
        "files": manifest.files,
        "packages": len(manifest.packages),
        "longest_prefix": manifest.longest_prefix,
        "changes": manifest.changes.counts,
    }


def describe_built(made: Made) -> dict[str, Any]:
    """Return the ``result`` of ``envpack.build/1``, which is part of that of ``envpack.release/1``."""
    file = {"checksum": str(made.checksum), "sha256": made.sha256, "file_size": made.file_size}
    more = {"tests": list(made.manifest.test), "seconds": made.seconds}
    return {**describe_bundle(made.bundle, made.manifest, file), **more}


def digest_and_size(output: Path) -> dict[str, Any]:
    """Return the ``sha256`` and ``file_size`` (bytes) of an output; the ``sha256`` of a folder is None."""
    from envpack.publish.local import sha256_of

    if output.is_dir():
        return {"sha256": None, "file_size": sum(path.lstat().st_size for path in output.rglob("*"))}
    return {"sha256": sha256_of(output), "file_size": output.stat().st_size}


def list_paths(console: Console, paths: Sequence[str], most: int = 10) -> None:
    """Write paths, one on each line.

    Args:
        console: The console to write to.
        paths: The paths.
        most: The maximum number of paths that are shown without -v.
    """
    shown = paths if console.verbose else paths[:most]
    for path in shown:
        console.out.write(f"  {escape(path)}")
    if len(paths) > len(shown):
        console.out.write(f"  ... and {len(paths) - len(shown):,} more (-v lists them)")


def list_extra_files(console: Console, extra: Sequence[str], what: str) -> None:
    """Write the files of a deployment that are in no bundle, under a title.

    Args:
        console: The console to write to.
        extra: The paths of the files.
        what: The end of the title.
    """
    if extra:
        console.out.write(f"{plural(len(extra), 'file')} {what}:")
        list_paths(console, extra)


def show_origin(
    out: Stream, made_by: str, missing_guarantees: Sequence[str], repairs: Sequence[Fixup], *, verbose: bool
) -> None:
    """Write what the archive of another tool does not state, and what was repaired; nothing for a bundle.

    Args:
        out: The stream to write to.
        made_by: The program that made the archive, and its version.
        missing_guarantees: What the archive does not state, one sentence each; empty for a bundle.
        repairs: The repairs.
        verbose: Whether to list the repaired files.
    """
    if not missing_guarantees:
        return
    out.write()
    _list(out, f"limits of this archive, made by {made_by}", missing_guarantees)
    if repairs:
        parts = [f"{plural(len(repair.paths), 'file')}: {repair.reason}" for repair in repairs]
        _list(out, "corrected" + ("" if verbose else " (-v lists the files)"), parts)
    if verbose:
        for repair in repairs:
            _list(out, repair.kind, repair.paths)


def _list(out: Stream, title: str, lines: Sequence[str]) -> None:
    out.write(escape(title) + ":")
    for line in lines:
        for part in wrap(escape(line), out.width, indent="    ", first="  "):
            out.write(part)


def needs_lines(needs: DetectedNeeds) -> Iterator[tuple[str, str]]:
    """Yield labels and values: each need with its evidence; GPU code only of main libraries."""
    from envpack.runtime.host.checks.gpu_code import shown

    for label, evidence in (("CUDA", needs.cuda), ("ROCm", needs.rocm)):
        if evidence is not None:
            yield label, f"{evidence.value}, {evidence.source}" if evidence.value else evidence.source
    if needs.cuda is None and needs.rocm is None:
        for evidence in needs.cpu_builds:
            yield "no GPU", evidence.source
    for code in needs.gpu_code:
        if code.main and (code.sass or code.ptx):
            yield "GPU code", f"{shown(code)} in {code.library}"
    if needs.jit:
        yield "compiles", f"for the GPU at run time: {', '.join(evidence.value for evidence in needs.jit)}"
    for evidence in needs.cuda_compat:
        yield "driver", f"{evidence.value or 'one'} is included, for forward compatibility: {evidence.source}"
    host = [library.value for library in needs.libraries if not library.inside]
    if host:
        yield "libraries", f"of the host: {', '.join(host)}"
    for label, evidence in (("glibc", needs.glibc), ("CPU", needs.cpu)):
        if evidence is not None:
            yield label, f"{evidence.value}, {evidence.source}"


def write_file(output: Path, data: bytes) -> None:
    """Write the file that a command was asked for; an existing one is replaced at once, when it is complete.

    Raises:
        DestinationError: It can't be written.
    """
    from envpack.runtime.errors import DestinationError
    from envpack.runtime.fs.paths import check_links
    from envpack.runtime.fs.temporary import replace_file

    check_links(output.parent)
    try:
        replace_file(output, data, durable=False)
    except OSError as problem:
        raise DestinationError(f"can't write {output}: {problem.strerror}") from None
