"""``envpack diff``: what changed from one bundle or deployment to another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from envpack.cli.console import Console, Result
from envpack.cli.options import argument, option
from envpack.cli.terminal import Stream
from envpack.cli.text import escape, human_date, plural, table, wrap
from envpack.runtime.errors import UsageError
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.contents.difference import Difference, PackageChange, SettingChange
    from envpack.runtime.format.manifest import Package

_SHOWN = 20
"""Number of files shown unless -v is given."""

_TITLES = {
    "requires": "stated requirements",
    "needs": "derived requirements",
    "variables": "variables",
    "commands": "commands",
    "services": "services",
    "mounts": "mounts",
    "test": "tests",
}


def diff(
    console: Console,
    before: Annotated[
        str, argument(metavar="OLD", help="Bundle (path, URL or '-'), deployment, or .manifest.json of a release.")
    ],
    after: Annotated[str, argument(metavar="NEW", help="The same, of the newer one.")],
    markdown: Annotated[bool, option("--markdown", help="Print Markdown, for release notes.")] = False,
) -> Result:
    """Show what changed from one bundle or deployment to another.

    Compares packages (version, build, archive), requirements, settings, files and sizes, and says how much an
    upgrade reads. Only the heads of bundles are read, also from a server. Files are listed unless their package
    has another version; -v lists all. The files of a deployment are those of its bundle, without later edits: see
    'envpack verify'. A manifest lists no files. The exit code is 0, whether there are differences or not.

    \b
    Examples:
      envpack diff demo-1.0.tar.gz demo-1.1.tar.gz
      envpack diff /opt/envs/demo https://example.org/demo.tar.gz
      envpack diff --markdown old.tar.gz new.tar.gz >>notes.md
    """
    from envpack.bundle.codecs import FAST
    from envpack.contents.difference import difference
    from envpack.contents.markdown import markdown as to_markdown
    from envpack.contents.read import read_contents

    if before == after == "-":
        raise UsageError("only one of them can come from standard input", hint="Give the path of the other one.")
    if markdown and console.json:
        raise UsageError("--markdown and --json are two forms of the same result", hint="Give one of them.")
    found = difference(read_contents(before, FAST), read_contents(after, FAST))
    if markdown:
        return Result("diff", found.as_dict(), lambda console: console.out.write(to_markdown(found).rstrip("\n")))
    return Result("diff", found.as_dict(), lambda console: _show(console, found))


def _show(console: Console, found: Difference) -> None:
    out = console.out
    before, after = found.before.manifest, found.after.manifest
    to = "→" if out.unicode else "->"
    names = [f"{manifest.name} {manifest.version}".rstrip() for manifest in (before, after)]
    if before.name == after.name:
        names[1] = after.version
    out.write(out.style(f"{escape(names[0])} {to} {escape(names[1])}", "1"))
    out.pairs(_facts(found, to))
    _packages(out, found, to)
    for section, title in _TITLES.items():
        changes = [change for change in found.settings if change.section == section]
        if changes:
            _settings(out, title, changes)
    _files(out, found, everything=console.verbose)


def _facts(found: Difference, to: str) -> Iterator[tuple[str, str]]:
    from envpack.contents.difference import stored_size

    before, after = found.before.manifest, found.after.manifest
    yield "old", found.before.name
    yield "new", found.after.name
    if before.subdir != after.subdir:
        yield "platform", f"{before.subdir or 'any'} {to} {after.subdir or 'any'}"
    if before.created != after.created:
        yield "dated", f"{human_date(before.created)} {to} {human_date(after.created)}"
    yield "size", _sizes(stored_size(before), stored_size(after), to)
    yield "unpacked", f"{_sizes(before.size, after.size, to)} in {plural(after.files, 'file')}"
    if found.upgrade is not None:
        segments = f"{found.upgrade.segments:,} of {plural(len(after.segments), 'segment')}"
        yield "upgrade", f"reads {human_size(found.upgrade.stored)} in {segments}"


def _sizes(before: int, after: int, to: str) -> str:
    if before == after:
        return f"{human_size(after)}, unchanged"
    return f"{human_size(before)} {to} {human_size(after)}, {_signed(after - before)}"


def _signed(size: int) -> str:
    return f"{'-' if size < 0 else '+'}{human_size(abs(size))}"


def _packages(out: Stream, found: Difference, to: str) -> None:
    kinds = [change.kind for change in found.packages]
    counts = [f"{kinds.count(kind):,} {kind}" for kind in ("changed", "added", "removed") if kind in kinds]
    unchanged = len(found.after.manifest.packages) - len([kind for kind in kinds if kind != "removed"])
    _heading(out, "packages", ", ".join([*counts, f"{unchanged:,} unchanged"]))
    rows = [_package(change, to) for change in found.packages]
    styles = {"added": "32", "removed": "31", "changed": "33"}
    for change, line in zip(found.packages, table(rows, out.width), strict=True):
        out.write(out.style(line, styles[change.kind]))


def _package(change: PackageChange, to: str) -> Sequence[str]:
    before, after = change.before, change.after
    name = escape(change.package.name)
    size = _signed((after.size if after else 0) - (before.size if before else 0))
    if before is None or after is None:
        return change.kind, name, escape(change.package.version), change.package.kind, size
    if change.fields == ("files",):
        versions = f"{escape(after.version)}, other files"
    else:
        left, right = (escape(_identity(package, change.fields)) for package in (before, after))
        versions = f"{left} {to} {right}"
        if "sha256" in change.fields:
            versions = f"{escape(after.version)}, another archive"
    return change.kind, name, versions, change.package.kind, size


def _identity(package: Package, fields: Sequence[str]) -> str:
    if "version" in fields:
        return package.version
    return f"{package.version} {package.build if 'build' in fields else package.commit[:12]}"


def _settings(out: Stream, title: str, changes: Sequence[SettingChange]) -> None:
    _heading(out, title)
    for change in changes:
        out.write(f"  {out.style(escape(change.name), '36')}")
        for sign, value, style in (("-", change.before, "31"), ("+", change.after, "32")):
            if value is not None:
                for line in wrap(escape(value), out.width, indent="      ", first=f"    {sign} "):
                    out.write(out.style(line, style))


def _files(out: Stream, found: Difference, *, everything: bool) -> None:
    """List the files that differ: all of them, or a few of those that no other package explains."""
    if found.files is None:
        _heading(out, "files", "not compared, a manifest does not list them")
        return
    counts = [f"{len(paths):,} {kind}" for kind, paths in found.files._asdict().items() if paths]
    _heading(out, "files", ", ".join(counts) or "none changed")
    listed = found.files if everything else found.unexplained_files()
    assert listed is not None
    lines = [
        out.style(f"  {sign} {escape(path)}", style)
        for sign, paths, style in (
            ("~", listed.changed, "33"),
            ("+", listed.added, "32"),
            ("-", listed.removed, "31"),
        )
        for path in paths
    ]
    shown = lines if everything else lines[:_SHOWN]
    for line in shown:
        out.write(line)
    rest = sum(map(len, found.files)) - len(shown)
    if rest:
        where = " of these packages" if len(shown) == len(lines) else ""
        out.write(f"  {'and ' if shown else ''}{plural(rest, 'file')}{where} (-v)")


def _heading(out: Stream, title: str, remark: str = "") -> None:
    out.write()
    out.write(out.style(title, "1") + (f": {remark}" if remark else ""))
