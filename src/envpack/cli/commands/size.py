"""``envpack size``: where the bytes of a bundle or a deployment are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from envpack.cli.chart import Bar, chart
from envpack.cli.console import Console, Result
from envpack.cli.options import argument, option, require_file
from envpack.cli.output import write_file
from envpack.cli.terminal import Stream
from envpack.cli.text import escape, plural, wrap
from envpack.runtime.report import human_size

if TYPE_CHECKING:
    from envpack.contents.sizes.gpu_code import GpuCodeSizes
    from envpack.contents.sizes.measure import Duplicate, PartSize, PruneSize, Sizes


class _Shown(NamedTuple):
    """The number of rows shown without --all."""

    packages: int = 15
    duplicates: int = 5
    paths: int = 3


def size(
    console: Console,
    source: Annotated[str, argument(metavar="BUNDLE|DEST", help="Bundle (path, URL or '-'), or deployment.")],
    everything: Annotated[bool, option("--all", "-a", help="List all packages and duplicate files.")] = False,
    gpu_code: Annotated[
        bool, option("--gpu-code", help="Measure the GPU code in a bundle, too; this unpacks its libraries.")
    ] = False,
    html: Annotated[
        Path | None, option("--html", metavar="FILE", help="Write a web page with a map of all files instead.")
    ] = None,
) -> Result:
    """Show where the bytes of a bundle or a deployment are.

    Shows the sizes of packages, in the bundle and unpacked, and of kinds of file; GPU code by architecture;
    duplicate files; and what each 'prune:' profile of a spec would leave out. Only the head of a bundle is read,
    and of a deployment the headers of GPU code. The files of a deployment are those of its bundle, without later
    edits. The page of --html needs no network; an existing file is replaced.

    \b
    Examples:
      envpack size demo.tar.gz
      envpack size --gpu-code https://example.org/demo.tar.gz
      envpack size --json /opt/envs/demo | jq '.result.kinds'
      envpack size --html demo.html demo.tar.gz
    """
    from envpack.bundle.codecs import FAST
    from envpack.contents.sizes.page import page
    from envpack.contents.sizes.read import read_sizes

    require_file(html)
    found = read_sizes(source, console.reporter, gpu_code=gpu_code, decoders=FAST)
    result = {**found.as_dict(), "html": None if html is None else str(html)}
    if html is not None:
        write_file(html, page(found))
        return Result("size", result, lambda console: console.out.write(escape(str(html))))
    return Result("size", result, lambda console: _show(console.out, found, everything=everything))


def _show(out: Stream, found: Sizes, *, everything: bool) -> None:
    manifest = found.manifest
    name = escape(f"{manifest.name} {manifest.version}".rstrip())
    out.write(out.style(name, "1") + (f" for {escape(manifest.subdir)}" if manifest.subdir else ""))
    out.pairs(
        [
            ("of", found.name),
            ("compressed", human_size(found.stored)),
            ("unpacked", f"{human_size(found.size)} in {plural(found.files, 'file')}"),
        ]
    )
    shown = _Shown(len(found.parts), len(found.duplicates), 1 << 30) if everything else _Shown()
    _packages(out, found.parts, shown.packages)
    _kinds(out, found)
    _gpu_code(out, found.gpu_code)
    _duplicates(out, found.duplicates, shown)
    _pruned(out, found.pruned)


def _packages(out: Stream, parts: Sequence[PartSize], most: int) -> None:
    _heading(out, "packages", "compressed, and unpacked")
    rows = [Bar(part.name, part.stored, (human_size(part.stored), human_size(part.size))) for part in parts[:most]]
    _write(out, chart(out, rows))
    rest = parts[most:]
    if rest:
        sizes = human_size(sum(part.stored for part in rest)), human_size(sum(part.size for part in rest))
        _remark(out, f"and {len(rest):,} more, {sizes[0]} compressed, {sizes[1]} unpacked (--all)")


def _kinds(out: Stream, found: Sizes) -> None:
    _heading(out, "kinds of file", "unpacked")
    rows = [
        Bar(
            each.kind.title,
            each.size,
            (human_size(each.size), _percent(each.size, found.size), plural(each.files, "file")),
        )
        for each in found.kinds
    ]
    _write(out, chart(out, rows))


def _percent(size: int, total: int) -> str:
    share = 100 * size / total if total else 0
    return f"{share:.0f} %" if share >= 1 or not share else "<1 %"


def _gpu_code(out: Stream, found: GpuCodeSizes) -> None:
    if not found.libraries:
        return
    targets = found.by_target().items()
    number = plural(len(found.libraries), "library")
    if found.unread == len(found.libraries):
        _heading(out, "GPU code", f"in {number} of {human_size(sum(each.size for each in found.libraries))}")
        for name, (_, count) in targets:
            out.write(f"  {escape(name):<12}  in {plural(count, 'library')}")
        _remark(out, "Sizes by target: read them from a bundle with --gpu-code.")
        return
    _heading(out, "GPU code", f"{human_size(found.size)} in {number}")
    rows = [Bar(name, size, (human_size(size), plural(count, "library"))) for name, (size, count) in targets]
    _write(out, chart(out, rows))
    if found.unread:
        _remark(out, f"{plural(found.unread, 'library')} can't be read: see 'envpack verify'.")


def _duplicates(out: Stream, found: Sequence[Duplicate], shown: _Shown) -> None:
    extra = sum(each.extra for each in found)
    copies = sum(len(each.paths) - 1 for each in found)
    _heading(
        out, "duplicate files", f"{human_size(extra)} in {plural(copies, 'further copy')}" if found else "none"
    )
    for each in found[: shown.duplicates]:
        for number, path in enumerate(each.paths[: shown.paths]):
            out.write(f"  {'' if number else human_size(each.extra):>9}  {escape(path)}")
        if len(each.paths) > shown.paths:
            out.write(f"  {'':>9}  and {len(each.paths) - shown.paths:,} more")
    rest = found[shown.duplicates :]
    if rest:
        amount = human_size(sum(each.extra for each in rest))
        _remark(out, f"and {len(rest):,} more files with copies, {amount} (--all)")


def _pruned(out: Stream, found: Sequence[PruneSize]) -> None:
    _heading(out, "prune profiles", "what each would leave out, unpacked and compressed (estimated)")
    rows = [
        Bar(each.profile, each.size, (human_size(each.size), human_size(each.stored), plural(each.files, "file")))
        for each in found
    ]
    _write(out, chart(out, rows))


def _heading(out: Stream, title: str, remark: str) -> None:
    out.write()
    lines = wrap(f"{title}: {remark}", out.width, indent="  ", first="")
    out.write(lines[0].replace(title, out.style(title, "1"), 1))
    _write(out, lines[1:])


def _remark(out: Stream, text: str) -> None:
    _write(out, wrap(text, out.width, indent="  "))


def _write(out: Stream, lines: Iterable[str]) -> None:
    for line in lines:
        out.write(line)
