"""The process that links conda packages with rattler; a panic in rattler's threads ends this process only.

It is run with ``python -c``, so that it does not import the rest of the build. The file ``request`` in the working
directory is the `Request` of ``rattler_process`` as JSON. When stdin is closed, the process ends. stdout: one JSON
list for each event, see `Events`.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rattler import MatchSpec, PrefixRecord, Subdir, install
from rattler.install import InstallerReporter
from rattler.networking import Client
from rattler.package import PathsJson

from envpack.runtime.format.limits import MAX_DEPTH, MAX_NAME, MAX_PATH
from envpack.runtime.fs.io import read_file

_STEP = 1 << 18
"""Bytes of a download from one event to the next."""


def wrong_path(paths: Iterable[Path]) -> Path | None:
    """Return the first path that is no path of a file inside an environment, None when all are.

    It is absolute, empty, leads up, contains a NUL, or is longer than a bundle allows.
    """
    for path in paths:
        parts, text = path.parts, os.fsencode(path)
        if not parts or path.is_absolute() or ".." in parts or b"\0" in text:
            return path
        if len(parts) > MAX_DEPTH or len(text) > MAX_PATH or max(map(len, map(os.fsencode, parts))) > MAX_NAME:
            return path
    return None


class Events(InstallerReporter):
    """The events of an installation, which rattler reports from any of its threads.

    Each is a JSON list on a line of its own: ``["downloaded", name, bytes]``, ``["linking", name]``,
    ``["linked", name]``, and one of these at the end: ``["done"]``, ``["error", text]``,
    ``["path", name of the package's file, path]``.
    """

    def __init__(self, records: Iterable[PrefixRecord], cache: Path) -> None:
        self._records = {record.name.normalized: record for record in records}
        self._cache = cache
        self._lock = threading.Lock()
        self._names: dict[int, str] = {}
        self._downloaded: dict[int, int] = {}

    def send(self, *event: object) -> None:
        """Write one event."""
        with self._lock:
            sys.stdout.write(json.dumps(event) + "\n")
            sys.stdout.flush()

    def _token(self, name: str) -> int:
        with self._lock:
            token = len(self._names) + 1
            self._names[token] = name
            return token

    def on_populate_cache_start(self, operation: int, package_name: str) -> int:
        return self._token(package_name)

    def on_validate_start(self, cache_entry: int) -> int:
        return cache_entry

    def on_download_start(self, cache_entry: int) -> int:
        return cache_entry

    def on_download_progress(self, download_idx: int, progress: int, total: int | None) -> None:
        if progress >= self._downloaded.get(download_idx, 0) + _STEP:
            self._downloaded[download_idx] = progress
            self.send("downloaded", self._names.get(download_idx, ""), progress)

    def on_link_start(self, operation: int, package_name: str) -> int:
        self.send("linking", package_name)
        self._check(self._records[package_name])
        return self._token(package_name)

    def on_link_complete(self, index: int) -> None:
        self.send("linked", self._names.get(index, ""))

    def _check(self, record: PrefixRecord) -> None:
        """End the process before rattler links a package with a wrong path; rattler ignores exceptions here."""
        folder = self._cache / f"{record.name.normalized}-{record.version}-{record.build}"
        try:
            content = PathsJson.from_package_directory_with_deprecated_fallback(folder)
        except Exception:  # rattler reads the same file again, and reports the reason
            return
        wrong = wrong_path(entry.relative_path for entry in content.paths)
        if wrong is not None:
            self.send("path", record.file_name, os.fspath(wrong) if wrong.parts else "")
            os._exit(0)


async def _install(request: dict[str, Any], events: Events, records: list[PrefixRecord]) -> None:
    # py-rattler 0.28 checks for its inner type here, against its own annotation
    specs: list[Any] = [MatchSpec(text)._match_spec for text in request["requested"]]
    await install(
        list(records),
        request["prefix"],
        cache_dir=Path(request["cache"]),
        platform=Subdir(request["platform"]),
        requested_specs=specs,
        show_progress=False,
        execute_link_scripts=False,
        # knows the user's credentials: ~/.netrc, and those that rattler and pixi store
        client=Client.default_client(),
        reporter=events,
    )


def _end_with_the_parent() -> None:
    os.read(0, 1)
    os._exit(1)


def main() -> None:
    """Link the packages of the request."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a panic aborts the process
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    request = json.loads(read_file("request"))
    records = [PrefixRecord.from_path(Path(path)) for path in request["records"]]
    events = Events(records, Path(request["cache"]))  # type: ignore[abstract]  # its other methods do nothing
    try:
        asyncio.run(_install(request, events, records))
    except BaseException as error:  # py-rattler raises several unrelated classes, and those of panics
        events.send("error", str(error) or type(error).__name__)
    else:
        events.send("done")
    # rattler's threads still release Python objects, and crash an interpreter that ends in order
    os._exit(0)


if __name__ == "__main__":
    main()
