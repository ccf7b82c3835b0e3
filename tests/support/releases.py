"""Releases to publish, and how a publication can be disturbed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from envpack.publish.base import Upload
from envpack.publish.release import ReleaseFiles
from support.bundle_factory import file, make_bundle
from support.rest_server import DroppedError, Fault, RefusalError, TruncatedError

STEM = "demo-1-20251219-linux-64"
NAME = f"{STEM}.tar.gz"
LIMIT = 40_000
"""Bytes of a file in tests of bundles in parts."""


def files(folder: Path, name: str = NAME, content: bytes = b"of a bundle" * 1000) -> ReleaseFiles:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return of_file(path)


def of_file(path: Path) -> ReleaseFiles:
    stem = path.name.removesuffix(".tar.gz")
    documents = (Upload.of(f"{stem}.manifest.json", b"{}\n"), Upload.of(f"{path.name}.minisig", b"signed\n"))
    return ReleaseFiles(Upload(path.name, path, hashlib.sha256(path.read_bytes()).hexdigest()), documents)


def large(folder: Path, name: str = NAME) -> ReleaseFiles:
    """Make a bundle that is larger than `LIMIT`, of bytes that can't be compressed; one segment is larger, too."""
    folder.mkdir(exist_ok=True)
    noise = [hashlib.sha512(str(number).encode()).digest() for number in range(2500)]
    sizes = {"a": 300, "b": 200, "c": 1600, "d": 100}
    segments = {id: [file(f"lib/{id}", b"".join(noise[:size]))] for id, size in sizes.items()}
    make_bundle(folder / name, segments, name="demo", version="1")
    return of_file(folder / name)


def contents_of(files: ReleaseFiles) -> dict[str, bytes]:
    uploads = [files.claim, *files.documents, files.bundle]
    return {each.name: b"".join(each.chunks()) for each in uploads}


_CHILD = """
import json, sys
from importlib import import_module
from pathlib import Path
from envpack.publish.base import Upload
from envpack.publish.release import ReleaseFiles, publish_files
module, name, target, environ, limit, path, sha256, documents = json.loads(sys.argv[1])
bundle = Upload(Path(path).name, Path(path), sha256)
files = ReleaseFiles(bundle, tuple(Upload.of(name, text.encode()) for name, text in documents))
publish_files(getattr(import_module(module), name)(target, environ, limit=limit), files)
"""


def publish_in_child(
    place: type, target: str, environ: Mapping[str, str], release: ReleaseFiles
) -> subprocess.Popen[bytes]:
    """Start a process that publishes a release in parts of `LIMIT` bytes."""
    documents = [(each.name, b"".join(each.chunks()).decode()) for each in release.documents]
    where = [place.__module__, place.__name__, target, environ]
    what = [LIMIT, str(release.bundle.content), release.bundle.sha256, documents]
    return subprocess.Popen([sys.executable, "-c", _CHILD, json.dumps([*where, *what])], stderr=subprocess.DEVNULL)


def at(number: int, when: str, act: Callable[[], Exception]) -> Fault:
    """Return the fault of one request; ``act`` returns the exception to raise."""

    def fault(count: int, request: str, moment: str) -> None:
        if (count, moment) == (number, when):
            raise act()

    return fault


FAULTS: dict[str, Callable[[], Exception]] = {
    "drops": DroppedError,
    "truncates": TruncatedError,
    "has a problem": lambda: RefusalError(502, b"<html>Bad Gateway</html>"),
    "is busy": lambda: RefusalError(429, {"message": "slow down"}, {"Retry-After": "1"}),
}
