"""Bundles that an attacker makes who knows the format: correct digests, and one wrong statement.

`Forgery` makes a small sound bundle and lets each of its parts be changed on the way, before what is computed
from it is; `HOSTILE` lists what must be refused. Nothing of envpack's own writer is used: its checks are no help.
"""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from envpack.runtime.host.detect.machine import host_subdir

Json = dict[str, Any]
PLACEHOLDER = ("/placehold" * 26)[:255]
P = PLACEHOLDER.encode()
EPOCH = 315532800


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass") if not _escapes(text) else text.encode("utf-8", "surrogateescape")


def _escapes(text: str) -> bool:
    return any(0xDC80 <= ord(char) <= 0xDCFF for char in text)


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width, value)


def block(
    name: bytes, mode: int, size: int, mtime: int, kind: bytes, link: bytes = b"", digits: bytes = b""
) -> bytes:
    coded = digits or (octal(size, 11) if size < 1 << 33 else b"\x80" + size.to_bytes(11, "big"))
    head = name.ljust(100, b"\0") + octal(mode, 7) + octal(0, 7) * 2 + coded + octal(mtime, 11)
    tail = (kind + link.ljust(100, b"\0") + b"ustar  \0").ljust(356, b"\0")
    return head + b"%06o\0 " % (sum(head) + sum(tail) + 256) + tail


def long(kind: bytes, name: bytes) -> bytes:
    data = name + b"\0"
    return block(b"././@LongLink", 0o644, len(data), 0, kind) + data + bytes(-len(data) % 512)


KINDS = {"file": b"0", "hardlink": b"1", "symlink": b"2", "directory": b"5"}


def header(record: Json) -> bytes:
    """Return the entry of a record, as FORMAT.md defines it, however absurd the record is."""
    kind = record["type"]
    name = raw(record["path"]) + (b"/" if kind == "directory" else b"")
    link = raw(record.get("target", ""))
    before = b""
    if len(link) > 100:
        before, link = long(b"K", link), link[:100]
    if len(name) > 100:
        before, name = before + long(b"L", name), name[:100]
    fixed = {"symlink": 0o777, "hardlink": 0o644}
    mode: int = fixed[kind] if kind in fixed else record.get("mode", 0o644)
    size: int = record.get("size", 0) if kind == "file" else 0
    return before + block(name, mode, size, int(record.get("mtime", EPOCH)), KINDS.get(kind, b"0"), link)


def file(path: str, data: bytes = b"data", mode: int = 0o644, **more: Any) -> tuple[Json, bytes]:
    record = {
        "path": path,
        "type": "file",
        "mode": mode,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "mtime": EPOCH,
    }
    return {**record, **more}, data


def link(path: str, target: str) -> tuple[Json, bytes]:
    return {"path": path, "type": "symlink", "target": target}, b""


def hard(path: str, target: str) -> tuple[Json, bytes]:
    return {"path": path, "type": "hardlink", "target": target}, b""


def folder(path: str, mode: int = 0o755) -> tuple[Json, bytes]:
    return {"path": path, "type": "directory", "mode": mode}, b""


def relocated(data: bytes, **relocation: Any) -> tuple[Json, bytes]:
    return file("share/x", data, relocation={"placeholder": 0, **relocation})


def same(value: Any) -> Any:
    return value


def gz(data: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(data)


@dataclass
class Forgery:
    """``items``: paths with their data, added to those of a sound bundle. The functions get what is to be written
    and give what is written instead: the records, the stream of a segment, the documents (or their bytes), the
    frames after their digests are known, the first frame's tar stream, the whole file."""

    items: Iterable[tuple[Json, bytes]] = ()
    table: Callable[[Json], Json | bytes] = same
    manifest: Callable[[Json], Json | bytes] = same
    stream: Callable[[bytes], bytes] = same
    first: Callable[[bytes], bytes] = same
    first_frame: Callable[[bytes], bytes] = same
    frame: Callable[[bytes], bytes] = same
    whole: Callable[[bytes], bytes] = same
    pack: Callable[[bytes], bytes] = gz
    sound: list[tuple[Json, bytes]] = field(default_factory=lambda: list(SOUND))

    def write(self, path: Path) -> Path:
        path.write_bytes(self.whole(self._file()))
        return path

    def _file(self) -> bytes:
        chosen = list({item[0]["path"]: item for item in self.sound}.values()) + list(self.items)
        segments, records = [], []
        stream = bytearray()
        for record, data in copy.deepcopy(chosen):
            stream += header(record)
            if record["type"] == "file":
                record.setdefault("offset", len(stream))
                stream += data + bytes(-len(data) % 512)
            records.append(record)
        payload = b""
        for id, content in (("environment", self.stream(bytes(stream))), ("end", bytes(1024))):
            frames = []
            for position in range(0, len(content), 4 << 20):
                piece = content[position : position + (4 << 20)]
                packed = self.frame(self.pack(piece))
                frames.append([len(packed), len(piece), hashlib.sha256(packed).hexdigest()])
                payload += packed
            segments.append({"id": id, "frames": frames})
        document = {
            "format": 1,
            "segments": [{"id": "environment", "placeholders": [PLACEHOLDER], "paths": records}],
        }
        rooms = any({"strings", "padded"} & set(record.get("relocation", ())) for record in records)
        size = sum(record["size"] for record in records if record["type"] == "file")
        table = as_bytes(self.table(document))
        head = member(".envpack/paths.json", table)
        packed_head, head_frames = b"", []
        for position in range(0, len(head), 16 << 20):
            piece = head[position : position + (16 << 20)]
            packed = self.pack(piece)
            head_frames.append([len(packed), len(piece), hashlib.sha256(packed).hexdigest()])
            packed_head += packed
        manifest = {
            **copy.deepcopy(MANIFEST),
            "codec": "gzip" if self.pack is gz else "zstd",
            "size": size,
            "files": len(chosen),
            "prefix": {"longest": 255 if rooms else None, "limited_by": "share/x" if rooms else ""},
            "paths": {"size": len(table), "sha256": hashlib.sha256(table).hexdigest(), "frames": head_frames},
            "segments": segments,
        }
        data = as_bytes(self.manifest(manifest))
        line = f"{hashlib.sha256(data).hexdigest()}  manifest.json\n".encode()
        first = self.first(member(".envpack/manifest.json", data) + member(".envpack/manifest.sha256", line))
        return self.first_frame(self.pack(first)) + packed_head + payload


def as_bytes(document: Json | bytes) -> bytes:
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def member(path: str, data: bytes) -> bytes:
    return block(path.encode(), 0o644, len(data), EPOCH, b"0") + data + bytes(-len(data) % 512)


SOUND: list[tuple[Json, bytes]] = [
    file("bin/tool", b"#!" + P + b"/bin/python\nprint()\n", 0o755, relocation={"placeholder": 0, "text": [2]}),
    file("bin/activate", b"true\n"),
    file("lib/data", b"lib"),
    link("lib/link", "data"),
    hard("lib/hard", "lib/data"),
    folder("var/empty", 0o700),
]
MANIFEST: Json = {
    "format": 1,
    "name": "sound",
    "version": "1.0",
    "subdir": host_subdir(),
    "created": 1,
    "writer": "a test",
    "python": "",
    "packages": [{"kind": "conda", "name": "a", "version": "1", "size": 3, "files": 1, "segment": "environment"}],
    "requires": {},
    "needs": {},
    "variables": {"A": "b"},
    "test": [],
    "commands": {"c": "d"},
    "changes": {"modified": [], "outside": []},
}


def at(document: Json, path: str, value: Any) -> Json:
    """Return the document with the value at ``path`` (``a.0.b``) replaced; a callable gets the old value."""
    place: Any = document
    *steps, last = [int(step) if step.lstrip("-").isdigit() else step for step in path.split(".")]
    for step in steps:
        place = place[step]
    place[last] = value(place[last]) if callable(value) else value
    return document


def states(path: str, value: Any) -> Forgery:
    """Return a valid bundle with another statement in its manifest."""
    return Forgery(manifest=lambda document: at(document, path, value))


def lists(path: str, value: Any) -> Forgery:
    """Return a valid bundle with another value in its paths table: at ``path`` of the segment."""
    return Forgery(table=lambda document: at(document, f"segments.0.{path}", value))


def text_of(document: Json, old: str, new: str) -> bytes:
    text = json.dumps(document)
    assert old in text
    return text.replace(old, new, 1).encode()


def outside(*items: tuple[Json, bytes]) -> Forgery:
    """Return a bundle in which the links among these may lead out."""
    names = [record["path"] for record, _ in items if record["type"] == "symlink"]
    return Forgery(items, manifest=lambda document: at(document, "changes.outside", names))


def gzip_with_name(frame: bytes) -> bytes:
    """Return the member with a file name of 80 MB in its gzip header, which is ignored."""
    return frame[:3] + b"\x08" + frame[4:10] + b"n" * (80 << 20) + b"\0" + frame[10:]


def zst_bomb(size: int) -> bytes:
    """Return a zstd frame that states ``size`` bytes and has 8 GiB: RFC 8878, 3.1.1, RLE blocks of 128 KiB."""
    blocks = (1 << 1 | (128 << 10) << 3).to_bytes(3, "little") + b"a"
    return b"\x28\xb5\x2f\xfd\xa0" + size.to_bytes(4, "little") + blocks * (1 << 16) + b"\x01\0\0"


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def many_records(document: Json) -> bytes:
    """6 million links: more bytes than a table may have."""
    one = '{"path":"a%07d","type":"symlink","target":"b"}'
    rows = ",".join(one % number for number in range(100_000))
    return (
        b'{"format":1,"segments":[{"id":"environment","placeholders":[],"paths":['
        + b",".join([rows.encode()] * 60)
        + b"]}]}"
    )


def big(count: int, piece: bytes, document: Json, key: str) -> bytes:
    """Return the document with a list of ``count`` items as the value of ``key``."""
    marker = "PLACE"
    whole = json.dumps({**document, key: marker}).encode()
    return whole.replace(b'"PLACE"', b"[" + (piece + b",") * (count - 1) + piece + b"]")


def swap_frames(data: bytes) -> bytes:
    start = data.index(b"\x1f\x8b\x08", len(data) // 2)
    return data[start:] + data[:start]


def two_frames(document: Json) -> Json:
    """Let the frame of the first segment belong to the last one, too."""
    document["segments"][1]["frames"] = document["segments"][0]["frames"]
    return document


ESC = "\x1b]0;owned\x07\x1b[2J"
RIGHT = hashlib.sha256(b"data").hexdigest()

HOSTILE: dict[str, Forgery] = {
    # names
    "an absolute path": Forgery([file("/tmp/owned")]),
    "a path that climbs out": Forgery([file("../owned")]),
    "a path that climbs out on the way": Forgery([file("lib/../../owned")]),
    "a path that ends in dots": Forgery([file("lib/..")]),
    "a path with an empty part": Forgery([file("lib//owned")]),
    "a path with a dot": Forgery([file("lib/./owned")]),
    "a path that ends in a slash": Forgery([file("lib/owned/")]),
    "a path of a dot": Forgery([file(".")]),
    "no path": Forgery([file("")]),
    "a NUL in a path": Forgery([file("a\0b")]),
    "a name of 256 bytes": Forgery([file("n" * 256)]),
    "a name of 128 wide characters": Forgery([file("ü" * 128)]),
    "a path of 3,000 bytes": Forgery([file("/".join(["n" * 200] * 15))]),
    "a path of 1,000 parts": Forgery([file("/".join("n" * 1000))]),
    "a lone surrogate in a path": Forgery([file("a\ud800")]),
    "a second spelling of a path": Forgery([file("é"), file("\udcc3\udca9")]),
    # one tree
    "a path twice": Forgery([file("x", b"1"), file("x", b"2")]),
    "a file over a link": Forgery([link("x", "lib/data"), file("x")]),
    "a link over a file": Forgery([file("x"), link("x", "lib/data")]),
    "a folder over a file": Forgery([file("x"), folder("x")]),
    "a file over a folder": Forgery([folder("x"), file("x")]),
    "a path below a file": Forgery([file("x"), file("x/y")]),
    "a path below a link": Forgery([link("x", "lib"), file("x/y")]),
    "a path below a link that comes later": Forgery([file("x/y"), link("x", "lib")]),
    "a folder below a link": Forgery([link("x", "lib"), folder("x/y")]),
    "a hard link below a link": Forgery([link("x", "lib"), hard("x/y", "lib/data")]),
    # links
    "a link to an absolute path": Forgery([link("x", "/etc/passwd")]),
    "a link that climbs out": Forgery([link("lib/x", "../../x")]),
    "a link to nothing": Forgery([link("x", "")]),
    "a link that climbs out through a link": Forgery([link("lib/d", ".."), link("e", "lib/d/../..")]),
    "a link that climbs out behind a link": Forgery(
        [folder("lib/s"), link("lib/s/l", "../.."), link("e", "lib/s/l/..")]
    ),
    "links that climb out in four steps": Forgery(
        [
            folder("a/b/c"),
            link("a/b/c/one", "../../.."),
            link("a/b/two", "c/one"),
            link("a/three", "b/two"),
            link("four", "a/three/.."),
        ]
    ),
    "a NUL in a link": Forgery([link("x", "a\0b")]),
    "a link's target of 5,000 bytes": Forgery([link("x", "y" * 5000)]),
    "a hard link that climbs out": Forgery([hard("x", "../x")]),
    "a hard link to an absolute path": Forgery([hard("x", "/etc/passwd")]),
    "a hard link to a link": Forgery([hard("x", "lib/link")]),
    "a hard link to a later file": Forgery([hard("x", "y"), file("y")]),
    "a hard link to a folder": Forgery([hard("x", "var/empty")]),
    "a hard link to itself": Forgery([hard("x", "x")]),
    "a hard link to the manifest": Forgery([hard("x", ".envpack/manifest.json")]),
    "40,000 hard links to one file": Forgery([hard(f"h/{number}", "lib/data") for number in range(40_000)]),
    # kinds and modes
    "a character device": Forgery([({"path": "x", "type": "chardev", "mode": 0o644}, b"")]),
    "a FIFO": Forgery([({"path": "x", "type": "fifo", "mode": 0o644}, b"")]),
    "no type": Forgery([file("x")], table=lambda d: (d["segments"][0]["paths"][-1].pop("type"), d)[1]),
    "a device where the table has a file": Forgery(
        [file("x", b"")], stream=lambda s: s[:-512] + block(b"x", 0o644, 0, EPOCH, b"3")
    ),
    "a link where the table has a file": Forgery(
        [file("x", b"")], stream=lambda s: s[:-512] + block(b"x", 0o777, 0, EPOCH, b"2", b"/etc/passwd")
    ),
    "setuid": Forgery([file("x", mode=0o4755)]),
    "setgid": Forgery([folder("x", mode=0o2755)]),
    "a sticky file": Forgery([file("x", mode=0o1755)]),
    "a negative mode": lists("paths.1.mode", -1),
    "a negative time": lists("paths.1.mtime", -1),
    "a time after 2242": Forgery([file("x", mtime=1 << 33)]),
    "a time of 2**62": lists("paths.1.mtime", 1 << 62),
    # envpack's own
    "the manifest replaced": Forgery([file(".envpack/manifest.json", b"{}")]),
    "the manifest's digest replaced": Forgery([file(".envpack/manifest.sha256")]),
    "the paths table replaced": Forgery([file(".envpack/paths.json", b"{}")]),
    ".envpack is a link": Forgery([link(".envpack", "lib")]),
    ".envpack is a link that leads out": outside(link(".envpack", "/tmp")),
    ".envpack is a file": Forgery([file(".envpack")]),
    ".envpack is a closed folder": Forgery([folder(".envpack", 0)]),
    "the prefix is a link that leads out": outside(link(".envpack/prefix", "../../outside/victim")),
    "the prefix is a link inside": Forgery([link(".envpack/prefix", "../lib/data")]),
    "the record is a link that leads out": outside(link(".envpack/deployment.json", "../../outside/victim")),
    "the lock is a link that leads out": outside(link(".envpack/lock", "../../outside/new")),
    "the lock is a file": Forgery([file(".envpack/lock")]),
    "the lock is a folder": Forgery([folder(".envpack/lock")]),
    "the stamps are a link": outside(link(".envpack/check", "../../outside/victim")),
    "places said to be written in": Forgery([file(".envpack/settling", b'{"settled": true, "prefixes": ["/"]}')]),
    "a name of a file being written": outside(link("bin/.tool.envpack-new", "../../outside/victim")),
    "a name of a record being written": Forgery([file(".envpack/.deployment.json.new")]),
    "a hard link in .envpack": Forgery([hard(".envpack/x", "lib/data")]),
    "a name of a folder at work": Forgery([file(".envpack-unpacked/x")]),
    "the name of a lock": Forgery([file(".envpack-lock")]),
    "the name of a state directory": Forgery([file("lib/.x.envpack/lock")]),
    # sizes
    "a manifest that states too few bytes": states("size", 1),
    "a manifest that states 2**62 bytes": states("size", 1 << 62),
    "a manifest that states too few files": states("files", 1),
    "a negative size": states("size", -1),
    "a size of 2**64": states("size", 1 << 64),
    "a file of 2**62 bytes": lists("paths.1.size", 1 << 62),
    "a file one byte longer": lists("paths.2.size", 4),
    "a file one byte shorter": lists("paths.2.size", 2),
    "a file that begins elsewhere": lists("paths.2.offset", 512),
    "a file with another digest": lists("paths.2.sha256", RIGHT),
    "a frame of 16 MiB and more": states("segments.0.frames.0.1", (16 << 20) + 1),
    "a frame that unpacks to nothing": states("segments.0.frames.0.1", 0),
    "a frame that unpacks to less": states("segments.0.frames.0.1", 10),
    "a frame that unpacks to more": states("segments.0.frames.0.1", lambda size: size + 512),
    "a frame of nothing": states("segments.0.frames.0.0", 0),
    "a frame of 2**62 bytes": states("segments.0.frames.0.0", 1 << 62),
    "a frame of another digest": states("segments.0.frames.0.2", RIGHT),
    "a table of 2**62 bytes": states("paths.size", 1 << 62),
    "a table one byte shorter": states("paths.size", lambda size: size - 1),
    "a table of no frame": states("paths.frames", []),
    "a segment of no frame": states("segments.0.frames", []),
    "a frame used twice": Forgery(manifest=two_frames),
    "a frame listed twice": states("segments.0.frames", lambda frames: frames * 2),
    "segments in another order": states("segments", lambda segments: segments[::-1]),
    "no end": states("segments", lambda segments: segments[:1]),
    "no segments": states("segments", []),
    "a segment twice": states("segments", lambda segments: segments[:1] + segments),
    "room for more than there is": Forgery(
        [relocated(P + b"\0", padded=[0])], manifest=lambda d: at(d, "prefix.longest", 4000)
    ),
    "room for any, and there is not": Forgery(
        [relocated(P + b"\0", strings=[[0, 255]])], manifest=lambda d: at(d, "prefix.longest", None)
    ),
    "more behind the last file": Forgery(stream=lambda s: s + bytes(512)),
    "a file that the table has not": Forgery(stream=lambda s: s + member("owned", b"owned")),
    "another name than the table's": Forgery(stream=lambda s: s.replace(b"lib/data", b"lib/dota", 1)),
    "data in the padding": Forgery(stream=lambda s: s.replace(b"lib" + bytes(509), b"lib!" + bytes(508), 1)),
    # bombs
    "a manifest of 80 MB": states("name", "n" * (80 << 20)),
    "a name of 10 MB": states("name", "n" * (10 << 20)),
    "a manifest of 6 million lists": Forgery(manifest=lambda d: big(6_000_000, b"[]", d, "segments")),
    "a manifest of 5 million segments": Forgery(
        manifest=lambda d: big(2_000_000, b'{"id":"","frames":[]}', d, "segments")
    ),
    "a first frame with a name of 80 MB": Forgery(first_frame=gzip_with_name),
    "a first frame without end": Forgery(first_frame=lambda f: f[:10] + b"\0\0\0\xff\xff" * (14 << 20)),
    "a first frame of 200 MB of nothing": Forgery(first=lambda s: bytes(200 << 20)),
    "a zstd frame that states less": Forgery(pack=zst, first_frame=lambda f: zst_bomb(1 << 20)),
    "a zstd frame that states 4 GB": Forgery(pack=zst, first_frame=lambda f: zst_bomb((1 << 32) - 1)),
    "a payload that is a zstd bomb": Forgery(pack=zst, frame=lambda f: zst_bomb(4096)),
    "a payload that is a gzip bomb": Forgery(frame=lambda f: gz(bytes(64 << 20))),
    "a table of 6 million": Forgery(table=many_records),
    "a table of 20 million lists": Forgery(table=lambda d: big(20_000_000, b"[]", d, "segments")),
    "a table of 8 million paths": Forgery(
        table=lambda d: big(8_000_000, b'{"path":"a"}', d, "segments").replace(b'"segments"', b'"paths"', 1)
    ),
    "a manifest nested 100,000 deep": Forgery(manifest=lambda d: nested(100_000)),
    "needs nested 900 deep": Forgery(
        manifest=lambda d: text_of(d, '"needs": {}', '"needs": ' + nested(900).decode())
    ),
    "requirements nested 200 deep": Forgery(
        manifest=lambda d: text_of(d, '"requires": {}', '"requires": ' + '{"a":' * 200 + "1" + "}" * 200)
    ),
    "a number of a million digits": Forgery(
        manifest=lambda d: text_of(d, '"created": 1', '"created": ' + "9" * 1_000_000)
    ),
    "a number of 1e999": Forgery(manifest=lambda d: text_of(d, '"created": 1', '"created": 1e999')),
    "needs of 1e999 bytes": Forgery(manifest=lambda d: text_of(d, '"needs": {}', '"needs": {"disk": 1e999}')),
    "no number": Forgery(manifest=lambda d: text_of(d, '"created": 1', '"created": NaN')),
    "a key twice": Forgery(manifest=lambda d: text_of(d, '"name": "sound"', '"name": "a", "name": "b"')),
    "a path's key twice": Forgery(
        table=lambda d: text_of(d, '"path": "lib/data"', '"path": "a", "path": "lib/data"')
    ),
    "a NUL in a test": states("test", ["true\0"]),
    "a lone surrogate in a test": states("test", ["true \ud800"]),
    "bytes that are no text": Forgery(manifest=lambda d: b"\xff\xfe" + json.dumps(d).encode()),
    "no JSON": Forgery(manifest=lambda d: b"{"),
    "no object": Forgery(manifest=lambda d: b"[1]"),
    # relocations
    "a relocation beyond the end": Forgery([relocated(P, text=[1])]),
    "a relocation at 2**62": Forgery([relocated(P, text=[1 << 62])]),
    "a relocation before the beginning": Forgery([relocated(P, text=[-1])]),
    "relocations that overlap": Forgery([relocated(P + P, text=[0, 100])]),
    "a relocation twice": Forgery([relocated(P + P, text=[0, 0])]),
    "relocations of two kinds at one place": Forgery([relocated(P + P, text=[0], padded=[0])]),
    "a relocation where no placeholder is": Forgery([relocated(b"x" * 255, text=[0])]),
    "no such placeholder": Forgery([relocated(P, placeholder=7, text=[0])]),
    "an empty placeholder": Forgery(table=lambda d: at(d, "segments.0.placeholders", [""])),
    "a placeholder of 1 MB": Forgery(table=lambda d: at(d, "segments.0.placeholders", ["/" * (1 << 20)])),
    "a placeholder that is no string": Forgery(table=lambda d: at(d, "segments.0.placeholders", [[1]])),
    "a relocation that is a list": Forgery([file("share/x", P, relocation=[0])]),
    "a string that ends before it begins": Forgery([relocated(P + b"\0", strings=[[0, 100]])]),
    "a string that ends beyond the file": Forgery([relocated(P + b"\0", strings=[[0, 400]])]),
    "a string of one number": Forgery([relocated(P + b"\0", strings=[[0]])]),
    "byte-code of no kind": Forgery([relocated(b"z\xff" + P, marshal=[[0, 120, 255, 2]])]),
    "byte-code of kind 0": Forgery([relocated(b"z\xff" + P, marshal=[[0, 0, 255, 2]])]),
    "a short string of 300 bytes": Forgery([relocated(b"z\xff" + P, marshal=[[0, 122, 300, 2]])]),
    "a string shorter than what is in it": Forgery([relocated(b"z\x05" + P, marshal=[[0, 122, 5, 2]])]),
    "a string that is elsewhere": Forgery([relocated(b"z\xff" + P + P, marshal=[[0, 122, 255, 257]])]),
    "byte-code of four numbers": Forgery([relocated(bytes(16) + P, bytecode=[1, 2, 3, 4])]),
    "byte-code of one number": Forgery([relocated(bytes(16) + P, bytecode=[1])]),
    "byte-code of another source": Forgery([relocated(bytes(16) + P, bytecode=[77, 1, 255])]),
    "an unknown form": Forgery([relocated(P, encoded={"base64": [0]})]),
    "a form that is not there": Forgery([relocated(P, encoded={"percent": [0]})]),
    "forms in a list": Forgery([relocated(P, encoded=[0])]),
    "a first line that is not there": Forgery([relocated(b"#!" + P + b"\n", shebang=["#!", "/bin/python"])]),
    "a first line of three and a half": Forgery([relocated(b"#!" + P, shebang=["#!", "/x", "", "", ""])]),
    "a first line of nothing": Forgery([relocated(b"#!" + P, shebang=["", ""])]),
    "a first line of numbers": Forgery([relocated(b"#!" + P, shebang=[1, 2])]),
    "a first line of 1 MB": Forgery(
        [relocated(b"#!" + P + b" " * (1 << 20), shebang=["#!", " " * (1 << 20) + "x"])]
    ),
    "a first line of no such form": Forgery([relocated(b"#!" + P + b"/bin/x", shebang=["#!", "/bin/x", "cobol"])]),
    # types
    "a manifest of the future": states("format", 2),
    "a table of the future": Forgery(table=lambda d: at(d, "format", 2)),
    "a format of nought": states("format", 0),
    "a format that is true": states("format", True),
    "a format in words": states("format", "1"),
    "a codec of another file": states("codec", "zstd"),
    "a name that is null": states("name", None),
    "segments in an object": states("segments", {}),
    "frames in words": states("segments.0.frames", "none"),
    "a digest of 63 digits": states("paths.sha256", "0" * 63),
    "a digest in capitals": states("paths.sha256", lambda digest: digest.upper()),
    "tests in an object": states("test", {"a": "b"}),
    "variables in a list": states("variables", ["a"]),
    "packages of strings": states("packages", ["a"]),
    "changes of numbers": states("changes", {"modified": [1]}),
    "needs in words": states("needs", "none"),
    "needs of wrong types": states("needs", {"cuda": 12, "gpu_code": {"a": 1}}),
    "GPU code in words": states("needs", {"gpu_code": ["sm_90"]}),
    "an interpreter that is elsewhere": states("python", "../../bin/sh"),
    "a path that is a number": lists("paths.1.path", 7),
    "a target that is a list": Forgery(
        [link("x", "y")], table=lambda d: at(d, "segments.0.paths.-1.target", ["y"])
    ),
    "a segment that the manifest has not": Forgery(table=lambda d: at(d, "segments.0.id", "other")),
    "paths in an object": lists("paths", {}),
    "a record that is null": lists("paths.0", None),
    "escape codes in a name, and a lie": Forgery([file(f"lib/{ESC}\n"), file(f"lib/{ESC}\n")]),
    "escape codes in the bundle's name, and a lie": Forgery(
        manifest=lambda d: at(at(d, "name", ESC), "size", 1), items=[file("x")]
    ),
    "escape codes in a key": Forgery(manifest=lambda d: at({**d, "segments": [{ESC: 1}]}, "name", "x")),
    # the file
    "a file twice": Forgery(whole=lambda data: data * 2),
    "a bundle behind a bundle": Forgery(whole=lambda data: data + Forgery([file("x")])._file()),
    "trailing NULs": Forgery(whole=lambda data: data + bytes(512)),
    "a member of nothing at the end": Forgery(whole=lambda data: data + gz(b"")),
    "half a file": Forgery(whole=lambda data: data[: len(data) // 2]),
    "halves in another order": Forgery(whole=swap_frames),
    "no payload": Forgery(whole=lambda data: data[: data.index(b"\x1f\x8b\x08", 10)]),
    "a first frame of three entries": Forgery(first=lambda s: s + member("x", b"1")),
    "a first frame of one entry": Forgery(first=lambda s: s[: s.index(b".envpack/manifest.sha256")]),
    "a first frame with a size below nought": Forgery(
        first=lambda s: block(b".envpack/manifest.json", 0o644, 0, EPOCH, b"0", digits=b"-0000001000\0") + s
    ),
    "a manifest of another digest": Forgery(first=lambda s: s.replace(b'"sound"', b'"SOUND"')),
    "a plain tar.gz": Forgery(whole=lambda data: gz(member("x", b"1") + bytes(1024))),
    "gzip of text": Forgery(whole=lambda data: gz(b"text\n" * 100)),
    "gzip of nothing": Forgery(whole=lambda data: gz(b"")),
    "gzip of NULs": Forgery(whole=lambda data: gz(bytes(1 << 20))),
    "nothing": Forgery(whole=lambda data: b""),
    "a script": Forgery(whole=lambda data: b"#!/bin/sh\nexit 0\n"),
    "an ELF file": Forgery(whole=lambda data: b"\x7fELF" + bytes(1000)),
    "a gzip of gzip": Forgery(whole=gzip.compress),
}

SOUND_BUNDLES: dict[str, Forgery] = {
    "as it is": Forgery(),
    "in zstd": Forgery(pack=zst),
    "two names that differ in case": Forgery([file("README"), file("readme"), file("Readme")]),
    "two names that differ in composition": Forgery([file("\u00e9"), file("e\u0301")]),
    "names with newlines and escape codes": Forgery([file(f"lib/{ESC}"), file("lib/a\nb"), file("lib/ ")]),
    "a name that is not UTF-8": Forgery([file("lib/\udcff")]),
    "a bundle whose name has escape codes": states("name", ESC),
    "links through links that stay": Forgery(
        [
            folder("a/b"),
            link("a/b/up", "../.."),
            link("x", "a/b/up/lib/../lib/data"),
            link("l1", "l2"),
            link("l2", "l1"),
        ]
    ),
    "links that are to lead out": outside(link("x", "/etc/passwd"), link("y", "x/../z")),
    "an environment in the environment": Forgery([file("envs/a/.envpack/manifest.json", b"{}")]),
    "a file that no user may read": Forgery([file("x", mode=0)]),
    "a closed folder": Forgery([folder("x", 0), file("x/y")]),
    "a hard link of a link's name": Forgery([file("z"), hard("zz", "z"), link("zzz", "zz")]),
    "names of 255 bytes": Forgery([file("n" * 255), file("ü" * 127)]),
}
"""Bundles that are unusual but valid: they must be accepted, so that a refusal has the expected reason."""
