"""The digests of installed files in the records of a deployment's conda packages, for ``conda doctor``.

It compares a file with the ``sha256_in_prefix`` that its package's record has. A bundle has none for files that
contain the prefix, because each destination gives these other bytes. A deployment adds them, each directly after
the file's path, where no record of a bundle has one: `stored_record` removes them again. Records that conda itself
wrote in a deployment have them for all files, and follow when the prefix changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Collection, Iterable, Iterator, Mapping

from envpack.runtime.format.manifest import PathRecord, PathsTable
from envpack.runtime.fs.atomic import replacement
from envpack.runtime.fs.io import create_file, keep_owner, read_file, write_all
from envpack.runtime.fs.json_text import json_value

_FOLDER = "conda-meta"
_PATH = rb'\{"_path": ("[^"\\]*(?:\\.[^"\\]*)*")'
_DIGEST = rb', "sha256_in_prefix": "([0-9a-f]{64})"'
_ITEM = re.compile(_PATH + rb"(?:" + _DIGEST + rb")?")
_ADDED = re.compile(_PATH + _DIGEST)
_MOST = 8
"""How many times larger than in the bundle a record can be: an item has 11 bytes and more, a digest adds 88."""


def is_conda_record(path: str) -> bool:
    """Return whether a path of a tree is that of a conda package's record."""
    return path.startswith(f"{_FOLDER}/") and path.endswith(".json") and path.count("/") == 1


def has_digest(path: str) -> bool:
    """Return whether a record gets the digest of a file with the prefix; byte-code is written again by Python."""
    return not path.endswith(".pyc")


def stored_record(data: bytes) -> bytes:
    """Return a record as the bundle stores it, from its bytes in a deployment.

    >>> stored_record(b'{"_path": "a", "sha256_in_prefix": "' + b"0" * 64 + b'", "path_type": "hardlink"}')
    b'{"_path": "a", "path_type": "hardlink"}'
    """
    return _ADDED.sub(rb'{"_path": \1', data)


def is_stored_record(data: bytes, sha256: str) -> bool:
    """Return whether a record in a deployment is the bundle's, whose digest in hexadecimal is ``sha256``."""
    return hashlib.sha256(stored_record(data)).hexdigest() == sha256


def may_have_digests(path: str, size: int, stored: int) -> bool:
    """Return whether a path is a record whose ``size`` in bytes can be that of ``stored`` bytes with digests."""
    return stored < size <= stored * _MOST and is_conda_record(path)


def _in_json(digests: Mapping[str, str]) -> Mapping[bytes, bytes]:
    return {json.dumps(path).encode(): digest.encode() for path, digest in digests.items()}


def _with(record: bytes, digests: Mapping[bytes, bytes]) -> bytes:
    """Return a record, as stored or as deployed, with the digests of the files in it.

    Args:
        record: the bytes of the record. One in another form than envpack's is returned unchanged.
        digests: SHA-256 by the path of the file, both as in JSON. A digest of another file that is there stays.
    """

    def item(found: re.Match[bytes]) -> bytes:
        digest = digests.get(found[1]) or found[2]
        return found[0] if digest is None else b'{"_path": %s, "sha256_in_prefix": "%s"' % (found[1], digest)

    return _ITEM.sub(item, record)


def paths_in(record: bytes) -> Iterator[str]:
    """Iterate over the paths of the files in a record that envpack wrote."""
    for found in _ITEM.finditer(record):
        with suppress(ValueError):
            yield str(json.loads(found[1]))


def add_digests(
    root: Path,
    records: Iterable[PathRecord],
    digests: Mapping[str, str],
    owner: os.stat_result | None = None,
) -> None:
    """Write the digests of the files with the prefix into the records of a tree that has just been written.

    A record is replaced and not written to, because a store may share its file. Raises OSError.

    Args:
        root: folder of the tree.
        records: its paths; only those of hard links and of the packages' records are needed.
        digests: SHA-256, in hexadecimal, of the files as they are in the tree, by their paths.
        owner: the status whose owner and group the records get; None for this user's.
    """
    if not digests:
        return
    found = dict(digests)
    own = []
    for record in records:
        if record.type == "hardlink" and record.target in digests:
            found[record.path] = digests[record.target]
        elif record.type == "file" and is_conda_record(record.path):
            own.append(record)
    in_json = _in_json(found)
    for record in own:
        data = read_file(root / record.path)
        new = _with(data, in_json)
        if new != data and stored_record(new) == data:
            with replacement(root / record.path) as place:
                create_file(os.fsencode(place), record.mode, record.mtime, _writing(new, owner))


def read_digests(root: Path, table: PathsTable, records: Collection[str]) -> dict[str, str]:
    """Return the digests of the files with the prefix that the records at some paths have; raise OSError."""
    relocated = {record.path for record in table if record.relocation is not None and has_digest(record.path)}
    relocated |= {record.path for record in table if record.type == "hardlink" and record.target in relocated}
    paths = {path for name in records for path in paths_in(read_file(root / name))} & relocated
    return {path: hashlib.sha256(read_file(root / path)).hexdigest() for path in sorted(paths)}


def _writing(data: bytes, owner: os.stat_result | None) -> Callable[[int], None]:
    def fill(fd: int) -> None:
        if owner is not None:
            keep_owner(fd, owner)
        write_all(fd, data)

    return fill


class CondaDigests:
    """The records in the tree at ``root`` that get new digests when its files get another prefix.

    Args:
        root: folder of the tree.
        table: its paths table.

    Attributes:
        paths: the relocated files with a digest in a record.
        others: packages with files that contain the prefix and that are not relocated, as conda installed them.
    """

    def __init__(self, root: Path, table: PathsTable) -> None:
        relocated = {record.path for record in table if record.relocation is not None}
        stored = {record.path: record for record in table if is_conda_record(record.path)}
        self.paths = {path for path in relocated if has_digest(path)}
        self.others: list[str] = []
        self._links = {r.path: r.target for r in table if r.type == "hardlink" and r.target in self.paths}
        self._own: dict[str, bytes] = {}
        self._records: dict[str, bytes] = {}
        self._compared: set[str] = set()
        self._new: dict[str, str] = {}
        self._digests: dict[bytes, bytes] = {}
        for name in conda_records(root):
            with suppress(OSError, ValueError, KeyError):
                data = read_file(root / name)
                if name in stored and is_stored_record(data, stored[name].sha256):
                    self._own[name] = data
                    continue
                document = json_value(data)
                items = list(_items(document))
                found = {path for path, item in items if item.get("sha256_in_prefix")} & relocated
                if any(_has_prefix(item) and not _is_among(path, relocated) for path, item in items):
                    self.others.append(str(document["name"]))
                if found:
                    self._compared |= found
                    self._records[name] = data
        self.paths |= self._compared

    def add(self, path: str, new: bytes, earlier: Callable[[], Iterable[bytes]]) -> None:
        """Add a file: its bytes with the new prefix, and those with each prefix that it may have had."""
        digest = hashlib.sha256(new).hexdigest()
        if has_digest(path):
            self._new[path] = digest
        if path in self._compared:
            for data in earlier():
                self._digests[hashlib.sha256(data).hexdigest().encode()] = digest.encode()

    def changed(self) -> Iterator[tuple[str, bytes]]:
        """Yield the path and the new bytes of each record in which a digest of the added files changes."""
        digests = {**self._new, **{path: self._new[to] for path, to in self._links.items() if to in self._new}}
        in_json = _in_json(digests)
        for path, data in self._own.items():
            new = _with(data, in_json)
            if new != data:
                yield path, new
        for path, data in self._records.items():
            new = data
            for old, digest in self._digests.items():
                new = new.replace(old, digest)
            if new != data:
                yield path, new


def conda_records(root: Path) -> list[str]:
    """Return the paths of the records of conda packages in the tree at ``root``, which are plain files."""
    try:
        with os.scandir(root / _FOLDER) as listing:
            names = [
                entry.name
                for entry in listing
                if entry.name.endswith(".json") and entry.is_file(follow_symlinks=False)
            ]
    except OSError:
        return []
    return [f"{_FOLDER}/{name}" for name in sorted(names)]


def _items(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    paths_data = document.get("paths_data") if isinstance(document, dict) else None
    paths = paths_data.get("paths") if isinstance(paths_data, dict) else None
    for item in paths if isinstance(paths, list) else ():
        if isinstance(item, dict) and isinstance(item.get("_path"), str):
            yield item["_path"], item


def _has_prefix(item: dict[str, Any]) -> bool:
    return bool(item.get("prefix_placeholder")) or item.get("path_type") == "unix_python_entry_point"


def _is_among(path: str, relocated: set[str]) -> bool:
    """Return whether a file is relocated; conda records those of noarch packages by the end of their path."""
    end = f"/{path}"
    return path in relocated or (
        path.startswith("site-packages/") and any(other.endswith(end) for other in relocated)
    )
