"""Reader and writer of the manifest's JSON.

``bundle/FORMAT.md`` is the specification. The reader checks every field that it uses, and raises FormatError with
the path of a wrong one, so that no later code has to check the type or range of a value.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Callable, TypeVar

from envpack.runtime.errors import FormatError
from envpack.runtime.format import limits
from envpack.runtime.format.changes import changes_from_json, changes_to_json
from envpack.runtime.format.json_reader import JsonValue, parse, safe_path
from envpack.runtime.format.layout import MANIFEST_PATH
from envpack.runtime.format.manifest import FORMAT, Frame, Manifest, Package, Segment
from envpack.runtime.format.needs import DetectedNeeds, needs_from_json, needs_to_json
from envpack.runtime.format.services import (
    mounts_from_json,
    mounts_to_json,
    services_from_json,
    services_to_json,
)

T = TypeVar("T")

# --- writing ---


def manifest_to_json(manifest: Manifest) -> bytes:
    """Return the manifest's bytes: ASCII JSON with sorted keys, so that equal manifests give equal bytes."""
    document = {
        "format": manifest.format,
        "name": manifest.name,
        "version": manifest.version,
        "subdir": manifest.subdir,
        "created": manifest.created,
        "writer": manifest.writer,
        "codec": manifest.codec,
        "size": manifest.size,
        "files": manifest.files,
        "python": manifest.python,
        "prefix": {"longest": manifest.longest_prefix, "limited_by": manifest.limited_by},
        "paths": {
            "size": manifest.paths_size,
            "sha256": manifest.paths_sha256,
            "frames": _frames(manifest.head),
        },
        "segments": [{"id": s.id, "frames": _frames(s.frames)} for s in manifest.segments],
        "packages": [{k: v for k, v in vars(p).items() if v not in ("", None)} for p in manifest.packages],
        "requires": dict(manifest.requires),
        "needs": needs_to_json(manifest.needs),
        "variables": dict(manifest.variables),
        "test": list(manifest.test),
        "commands": dict(manifest.commands),
        "changes": changes_to_json(manifest.changes),
    }
    optional = {"services": services_to_json(manifest.services), "mounts": mounts_to_json(manifest.mounts)}
    document.update((key, value) for key, value in optional.items() if value)
    return json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"


def _frames(frames: tuple[Frame, ...]) -> list[list[Any]]:
    return [[frame.stored, frame.size, frame.sha256] for frame in frames]


# --- reading ---


def known_format(top: JsonValue) -> JsonValue:
    """Return ``top``, a whole document, unchanged when its ``format`` is one that this version reads.

    Raises:
        FormatError: it is newer or unknown.
    """
    version = top["format"].count()
    if version > FORMAT:
        raise FormatError(
            f"{top.where}: format {version} is newer than this version of envpack can read ({FORMAT})",
            hint="Update envpack: pip install --upgrade conda-envpack",
        )
    if version != FORMAT:
        raise FormatError(f"{top.where}: unknown format {version}")
    return top


def _text(node: JsonValue) -> str:
    return node.text(limits.MAX_TEXT)


def fact(node: JsonValue) -> str:
    """Return a string of at most `limits.MAX_FACT` characters."""
    return node.text(limits.MAX_FACT)


def manifest_from_json(data: bytes) -> Manifest:
    """Return the manifest that the JSON ``data`` describes.

    Raises:
        FormatError: a field is missing or wrong; the message names it.
        IntegrityError: the manifest is beyond the limits, or the path of its interpreter is unsafe.
    """
    top = known_format(
        parse(data, MANIFEST_PATH, max_size=limits.MAX_MANIFEST, max_values=limits.MAX_MANIFEST_VALUES),
    )
    segments = tuple(
        Segment(fact(segment["id"]), _read_frames(segment["frames"])) for segment in top["segments"].items()
    )
    if len({segment.id for segment in segments}) != len(segments):
        raise FormatError(f"{MANIFEST_PATH}.segments: two segments have the same id")
    prefix, paths = top["prefix"], top["paths"]
    return Manifest(
        format=FORMAT,
        name=fact(top["name"]),
        version=fact(top["version"]),
        subdir=fact(top["subdir"]),
        created=top["created"].count(),
        writer=fact(top["writer"]),
        codec=fact(top["codec"]),
        size=top["size"].count(),
        files=top["files"].count(),
        python=_read_python(top["python"]),
        longest_prefix=None if prefix["longest"].value is None else prefix["longest"].count(),
        limited_by=fact(prefix["limited_by"]),
        paths_size=paths["size"].count(),
        paths_sha256=paths["sha256"].digest(),
        head=_read_frames(paths["frames"]),
        segments=segments,
        packages=tuple(_read_package(package) for package in top["packages"].items()),
        requires={_fact_key(key, value): fact(value) for key, value in top["requires"].pairs()},
        needs=top.get("needs", _read_needs, DetectedNeeds()),
        variables=_read_strings(top["variables"]),
        test=_read_list(top["test"]),
        commands=_read_strings(top["commands"]),
        services=top.get("services", lambda node: _read_flat(node, services_from_json), {}),
        mounts=top.get("mounts", lambda node: _read_flat(node, mounts_from_json), {}),
        changes=_read_flat(top["changes"], changes_from_json),
    )


def _read_frames(node: JsonValue) -> tuple[Frame, ...]:
    return tuple(
        Frame(stored.count(), size.count(), sha256.digest())
        for stored, size, sha256 in (item.exactly(3, "[stored, size, sha256]") for item in node.items())
    )


def _read_python(node: JsonValue) -> str:
    return safe_path(fact(node)) if node.value != "" else ""


def _fact_key(key: str, node: JsonValue) -> str:
    return JsonValue(key, node, "name").text(limits.MAX_FACT)


def _read_strings(node: JsonValue) -> dict[str, str]:
    return {_fact_key(key, value): _text(value) for key, value in node.pairs()}


def _read_list(node: JsonValue) -> tuple[str, ...]:
    return tuple(_text(item) for item in node.items())


def _read_needs(node: JsonValue) -> DetectedNeeds:
    try:
        return needs_from_json(node.flat(limits.MAX_FACT))
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as problem:
        raise FormatError(f"{node.where}: not what an environment needs: {problem}") from None


def _read_flat(node: JsonValue, read: Callable[[Any], T]) -> T:
    try:
        return read(node.flat(limits.MAX_TEXT))
    except ValueError as problem:
        raise FormatError(f"{node.where}: {problem}") from None


def _read_package(node: JsonValue) -> Package:
    texts = ("build", "subdir", "channel", "url", "sha256", "commit", "license", "segment")
    return Package(
        kind=fact(node["kind"]),
        name=fact(node["name"]),
        version=fact(node["version"]),
        size=node.get("size", JsonValue.count, 0),
        files=node.get("files", JsonValue.count, 0),
        **{name: node.get(name, _text, "") for name in texts},
    )


def digest_line(manifest: bytes) -> bytes:
    """Return the content of ``.envpack/manifest.sha256`` for these bytes, in the form that sha256sum writes."""
    return f"{hashlib.sha256(manifest).hexdigest()}  manifest.json\n".encode()
