"""The sizes of an environment as one HTML page that needs nothing else: no other file, no server, no script.

With a script, it shows a treemap, too. The Content-Security-Policy allows this script and this style by their
digests, and nothing else: names from a bundle can neither run nor load anything (https://www.w3.org/TR/CSP3/).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from html import escape as escape_html
from importlib import resources

from envpack.contents.sizes.gpu_code import GpuCodeSizes
from envpack.contents.sizes.kinds import kinds
from envpack.contents.sizes.measure import MOST_DUPLICATES, MOST_PATHS, Duplicate, Sizes
from envpack.contents.sizes.tree import MOST_NODES, Node, tree
from envpack.runtime.report import escape, human_size

Cell = tuple[str, str]
"""The class of a cell of a table, and its HTML."""


def page(sizes: Sizes, most_nodes: int = MOST_NODES) -> bytes:
    """Return the page, in UTF-8; the same sizes give the same bytes.

    Args:
        sizes: The sizes of an environment.
        most_nodes: The number of folders and files in the treemap; see `tree`.
    """
    manifest = sizes.manifest
    name = _text(f"{manifest.name} {manifest.version}".rstrip())
    style, script = _resource("page.css"), _resource("page.js")
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>Sizes of {name}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        f"<h1>{name}{' for ' + _text(manifest.subdir) if manifest.subdir else ''}</h1>",
        f'<p class="path">{_text(sizes.name)}</p>',
        *_facts(sizes),
        *_treemap(),
        *_packages(sizes),
        *_kinds(sizes),
        *_gpu_code(sizes.gpu_code),
        *_duplicates(sizes.duplicates),
        *_pruned(sizes),
        '<section id="files">',
        "<h2>Packages, folders and files</h2>",
        "<p>Unpacked sizes. Small files are listed together.</p>",
        *_folder(tree(sizes, most_nodes), " open"),
        "</section>",
        f"<script>{script}</script>",
        "</body>",
        "</html>",
    ]
    return ("\n".join(lines) + "\n").encode()


def _resource(name: str) -> str:
    return resources.files("envpack.contents.sizes").joinpath(name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """Return what a policy calls an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(text: str) -> str:
    """Return untrusted text as HTML: control characters become visible, and markup has no meaning."""
    return escape_html(escape(text), quote=True)


def _facts(sizes: Sizes) -> Iterator[str]:
    facts = (
        (human_size(sizes.stored), "compressed"),
        (human_size(sizes.size), "unpacked"),
        (f"{sizes.files:,}", "files"),
        (f"{len(sizes.manifest.packages):,}", "packages"),
    )
    yield '<ul class="facts">'
    yield from (f"<li><b>{value}</b>{what}</li>" for value, what in facts)
    yield "</ul>"


def _treemap() -> Iterator[str]:
    yield '<section id="treemap" hidden>'
    yield "<h2>Map</h2>"
    yield (
        "<p>Areas are unpacked bytes, colors are kinds of file. Click a package or folder to open it, or use the "
        "arrow keys and Enter; Escape goes back.</p>"
    )
    yield '<nav id="crumbs" aria-label="Position in the map"></nav>'
    yield '<div id="map" role="group" aria-label="Map of packages, folders and files"></div>'
    yield '<ul class="legend">'
    for kind in kinds():
        yield f'<li data-k="{kind.name}"><span class="swatch {kind.name}"></span>{kind.title}</li>'
    yield '<li data-k="mixed"><span class="swatch mixed"></span>several kinds</li>'
    yield '</ul><div id="tip" role="status" hidden></div>'
    yield "</section>"


def _table(title: str, heads: Sequence[Cell], rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    yield f'<div class="scroll" tabindex="0" role="region" aria-label="{title}"><table><thead><tr>'
    yield "".join(f'<th scope="col" class="{style}">{text}</th>' for style, text in heads)
    yield "</tr></thead><tbody>"
    for row in rows:
        yield "<tr>" + "".join(f'<td class="{style}">{text}</td>' for style, text in row) + "</tr>"
    yield "</tbody></table></div>"


def _bar(size: int, largest: int) -> Cell:
    width = f"{100 * size / largest:.1f}" if largest else "0"
    return (
        "wide",
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{width}" height="8"/></svg>',
    )


def _percent(size: int, total: int) -> str:
    share = 100 * size / total if total else 0
    return f"{share:.1f} %" if share >= 0.05 or not share else "&lt;0.1 %"


def _packages(sizes: Sizes) -> Iterator[str]:
    largest = max((part.stored for part in sizes.parts), default=0)
    yield "<h2>Packages</h2>"
    yield "<p>Compressed: what the package takes in the bundle, which hosts download and registries store. "
    yield "Names in parentheses are parts of a bundle that belong to no package.</p>"
    heads = (
        ("text", "Package"),
        ("text extra", "Version"),
        ("text extra", "Kind"),
        ("", "Compressed"),
        ("", "Unpacked"),
        ("extra", "Files"),
        ("wide", ""),
    )
    yield from _table(
        "Packages",
        heads,
        (
            (
                ("text", _text(part.name)),
                ("text extra", _text(part.package.version) if part.package else ""),
                ("text extra", _text(part.package.kind) if part.package else ""),
                ("", human_size(part.stored)),
                ("", human_size(part.size)),
                ("extra", f"{part.files:,}"),
                _bar(part.stored, largest),
            )
            for part in sizes.parts
        ),
    )


def _kinds(sizes: Sizes) -> Iterator[str]:
    largest = max((each.size for each in sizes.kinds), default=0)
    yield "<h2>Kinds of file</h2>"
    yield "<p>By the path of a file alone; a library among the tests of a package counts as a test.</p>"
    yield from _table(
        "Kinds of file",
        (("text", "Kind"), ("", "Unpacked"), ("", "Share"), ("extra", "Files"), ("wide", "")),
        (
            (
                ("text", f'<span class="swatch {each.kind.name}"></span>{each.kind.title}'),
                ("", human_size(each.size)),
                ("", _percent(each.size, sizes.size)),
                ("extra", f"{each.files:,}"),
                _bar(each.size, largest),
            )
            for each in sizes.kinds
        ),
    )


def _gpu_code(found: GpuCodeSizes) -> Iterator[str]:
    if not found.libraries:
        return
    yield "<h2>GPU code</h2>"
    yield "<p>sm_90 is machine code for compute capability 9.0, compute_90 is PTX for it.</p>"
    unread = found.unread == len(found.libraries)
    if unread:
        yield "<p>Sizes were not read: make the page of a deployment, or with --gpu-code.</p>"
    elif found.unread:
        yield f"<p>Libraries that can't be read: {found.unread:,}. They are not in these sizes.</p>"
    targets = found.by_target()
    largest = max(size for size, _ in targets.values()) if targets else 0
    yield from _table(
        "GPU code",
        (("text", "Target"), ("", "Size"), ("", "Libraries"), ("wide", "")),
        (
            (
                ("text", _text(name)),
                ("", "" if unread else human_size(size)),
                ("", f"{count:,}"),
                _bar(size, largest),
            )
            for name, (size, count) in targets.items()
        ),
    )
    yield "<h2>Libraries with GPU code</h2>"
    yield from _table(
        "Libraries with GPU code",
        (("text", "Library"), ("", "Size"), ("", "GPU code"), ("text extra", "Targets")),
        (
            (
                ("text", _text(library.path)),
                ("", human_size(library.size)),
                ("", "" if library.targets is None else human_size(sum(library.targets.values()))),
                ("text extra wrap", _text(" ".join(library.names))),
            )
            for library in found.libraries
        ),
    )


def _duplicates(found: Sequence[Duplicate]) -> Iterator[str]:
    yield "<h2>Duplicate files</h2>"
    if not found:
        yield "<p>None.</p>"
        return
    extra = human_size(sum(each.extra for each in found))
    first = f" These are the {MOST_DUPLICATES} largest." if len(found) > MOST_DUPLICATES else ""
    yield f"<p>{len(found):,} files have copies, which take {extra}. Hard links are not counted.{first}</p>"
    yield from _table(
        "Duplicate files",
        (("text", "Paths"), ("", "Copies take"), ("extra", "Paths")),
        (
            (("text", _paths(each.paths)), ("", human_size(each.extra)), ("extra", f"{len(each.paths):,}"))
            for each in found[:MOST_DUPLICATES]
        ),
    )


def _paths(paths: Sequence[str]) -> str:
    shown = [_text(path) for path in paths[:MOST_PATHS]]
    if len(paths) > MOST_PATHS:
        shown.append(f"and {len(paths) - MOST_PATHS:,} more")
    return '<ul class="paths">' + "".join(f"<li>{path}</li>" for path in shown) + "</ul>"


def _pruned(sizes: Sizes) -> Iterator[str]:
    largest = max((each.size for each in sizes.pruned), default=0)
    yield "<h2>Prune profiles</h2>"
    yield (
        "<p>What each profile of <code>prune:</code> in the spec would leave out now. Compressed sizes are "
        "estimated from how much the packages are compressed as a whole.</p>"
    )
    yield from _table(
        "Prune profiles",
        (("text", "Profile"), ("", "Unpacked"), ("", "Compressed"), ("extra", "Files"), ("wide", "")),
        (
            (
                ("text", each.profile),
                ("", human_size(each.size)),
                ("", human_size(each.stored)),
                ("extra", f"{each.files:,}"),
                _bar(each.size, largest),
            )
            for each in sizes.pruned
        ),
    )


def _folder(node: Node, attributes: str = "") -> Iterator[str]:
    """Yield a folder: its folders, then a table of its files.

    The script reads the sizes, the numbers of files and the kinds from the attributes.
    """
    yield f'<details data-n="{node.size}" data-f="{node.files}"{attributes}>'
    yield f"<summary><b>{_text(node.name)}</b><span>{human_size(node.size)}</span></summary>"
    for child in node.children:
        if child.children:
            yield from _folder(child)
    leaves = [child for child in node.children if not child.children]
    if leaves:
        yield "<table>"
        for leaf in leaves:
            files = f' data-f="{leaf.files}"' if leaf.files != 1 else ""
            kind = f' data-k="{leaf.kind}"' if leaf.kind else ""
            yield f'<tr data-n="{leaf.size}"{files}{kind}><td>{_text(leaf.name)}<td>{human_size(leaf.size)}'
        yield "</table>"
    yield "</details>"
