"""A difference as Markdown, for release notes and pull requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from envpack.contents.difference import Difference, PackageChange, stored_size
from envpack.runtime.format.manifest import Manifest, Package
from envpack.runtime.report import escape, human_size

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")
"""Characters with a meaning in GitHub's Markdown; a backslash takes it away (GFM 0.29, 6.1)."""


def markdown(found: Difference) -> str:
    """Return a difference as Markdown: a table of packages, one of requirements and settings, and the sizes."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Difference) -> Iterator[str]:
    before, after = found.before.manifest, found.after.manifest
    yield f"## {_text(after.name)} {_text(before.version)} → {_text(after.version)}"
    yield ""
    yield f"{_text(after.subdir or 'any platform')}, {_sizes(before, after)}."
    if found.upgrade is not None:
        total = stored_size(after)
        yield f"An upgrade reads {human_size(found.upgrade.stored)} of {human_size(total)}."
    if found.packages:
        yield from ("", "### Packages", "")
        yield from _table(("Package", "Before", "After", "Size"), map(_package, found.packages))
    if found.settings:
        yield from ("", "### Requirements and settings", "")
        rows = (
            (f"{change.section}: {_text(change.name)}", _value(change.before), _value(change.after))
            for change in found.settings
        )
        yield from _table(("Setting", "Before", "After"), rows)
    if found.files is not None:
        counts = [f"{len(paths):,} {kind}" for kind, paths in found.files._asdict().items() if paths]
        yield ""
        yield f"Files: {', '.join(counts) or 'none changed'}."


def _sizes(before: Manifest, after: Manifest) -> str:
    return (
        f"{len(after.packages):,} packages, {human_size(stored_size(after))} compressed "
        f"({_change(stored_size(before), stored_size(after))}), {human_size(after.size)} unpacked "
        f"({_change(before.size, after.size)})"
    )


def _change(before: int, after: int) -> str:
    sign = "-" if after < before else "+"
    return f"{sign}{human_size(abs(after - before))}"


def _package(change: PackageChange) -> Sequence[str]:
    before, after = change.before, change.after
    size = _change(before.size if before else 0, after.size if after else 0)
    name = f"{_text(change.package.name)} ({change.package.kind})"
    note = "other files" if change.fields == ("files",) else "another archive" if "sha256" in change.fields else ""
    return name, _version(before, change), " ".join(filter(None, (_version(after, change), note))), size


def _version(package: Package | None, change: PackageChange) -> str:
    if package is None:
        return ""
    if change.fields and "version" not in change.fields and package.build and "build" in change.fields:
        return _text(f"{package.version} {package.build}")
    if "commit" in change.fields:
        return _text(f"{package.version} {package.commit[:12]}")
    return _text(package.version)


def _text(text: str) -> str:
    """Return untrusted text as it reads, on one line and without a meaning in Markdown."""
    return _SPECIAL.sub(r"\\\1", escape(text))


def _value(text: str | None) -> str:
    return "" if text is None else _text(text)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
