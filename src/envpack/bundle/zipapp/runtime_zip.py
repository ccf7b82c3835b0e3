"""The runtime as it travels in a bundle: ``.envpack/runtime.pyz`` and the scripts beside it.

The zip has the files of ``envpack.runtime``, without docstrings, and what they use of the one module of
nvidia-ml-py (BSD licence, stated at its head); both with the same line numbers. Whole, that module would be a
third of the zip, and Python would compile it at each start. The members are sorted, dated 1980-01-01 and
uncompressed (the bundle compresses them), so the same versions of both give the same bytes everywhere.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path

import envpack
from envpack.bundle.cache.cache_files import VERSION, part_of_cache, write_cache_file
from envpack.bundle.zipapp.docstrings import without_docstrings
from envpack.bundle.zipapp.used_definitions import with_used_definitions
from envpack.runtime.activation import scripts
from envpack.runtime.format.layout import RUNTIME_PATH
from envpack.runtime.fs.io import read_file

_MAIN = b"""\
import sys


def refuse(reason):
    sys.stderr.write("envpack: error: %s can't be used: %s\\n" % (sys.executable or "this Python", reason))
    sys.stderr.write("envpack: hint: Run this with a complete Python 3.8 or later.\\n")
    return 9


def run():
    if sys.version_info < (3, 8):
        return refuse("it is Python %d.%d" % sys.version_info[:2])
    try:
        from envpack.runtime.__main__ import main

        return main()
    except ImportError as error:
        name = error.name or str(error)
        if name.partition(".")[0] == "envpack":
            raise
        return refuse("its standard library is not complete: it has no module " + name)


if __name__ == "__main__":
    sys.exit(run())
"""
"""Runs with any Python, and says why one can't run the runtime: too old, or without json as python3-minimal."""
_DATE = (1980, 1, 1, 0, 0, 0)
_NOTICE = """\
pynvml.py is a part of nvidia-ml-py {version}, Copyright (c) NVIDIA Corporation, under the BSD license that stands
at its head: https://pypi.org/project/nvidia-ml-py/. Definitions that envpack does not use were removed.
"""
_ERRORS = "NVML_ERROR_"
"""The beginning of the names of constants that nvidia-ml-py looks for when it is imported: it makes its errors of
them."""
_NVML = "pynvml.py"
_DIGEST_SIZE = 32


@cache
def runtime_files(folder: Path | None = None) -> dict[str, tuple[bytes, int]]:
    """Return all files that envpack adds to an environment: path in the prefix -> (bytes, mode).

    Args:
        folder: Directory of the segment cache, which also keeps the zip; None: no cache.
    """
    return {RUNTIME_PATH: (runtime_zip(folder), 0o644), **scripts()}


@cache
def runtime_zip(folder: Path | None = None) -> bytes:
    """Return the runtime package as a zip file that Python can run.

    Args:
        folder: Directory of the segment cache: it takes 0.4 s to make.
    """
    sources = {**_runtime(), "__main__.py": _MAIN, **_nvml()}
    if folder is None:
        return _zipped(sources)
    state = sha256(b"".join(map(Path.read_bytes, sorted(Path(__file__).parent.glob("*.py")))))
    for name, data in sorted(sources.items()):
        state.update(f"{name} {len(data)}\n".encode() + data)
    cached = folder / VERSION / "runtime" / state.hexdigest()
    with suppress(OSError):
        data = read_file(cached)
        if data[:_DIGEST_SIZE] == sha256(data[_DIGEST_SIZE:]).digest():
            return data[_DIGEST_SIZE:]
    data = _zipped(sources)
    with suppress(OSError):
        part_of_cache(folder, "runtime").mkdir(parents=True, exist_ok=True)
        for other in cached.parent.iterdir():
            if len(other.name) == len(cached.name):  # of another version
                other.unlink(missing_ok=True)
        write_cache_file(cached, sha256(data).digest() + data)
    return data


def _runtime() -> dict[str, bytes]:
    """Return the files of the runtime package by their paths, unchanged."""
    package = Path(envpack.__file__).parent
    sources = [package / "__init__.py", *(package / "runtime").rglob("*")]
    return {
        str(Path("envpack", source.relative_to(package))): source.read_bytes()
        for source in sources
        if source.is_file() and "__pycache__" not in source.parts
    }


def _zipped(sources: Mapping[str, bytes]) -> bytes:
    words = {word for name, data in sources.items() if name != _NVML for word in re.findall(rb"\w+", data)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(sources.items()):
            info = zipfile.ZipInfo(name, _DATE)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            archive.writestr(info, _reduced(name, data, words))
    return buffer.getvalue()


def _reduced(name: str, data: bytes, words: AbstractSet[bytes]) -> bytes:
    """Return a file as it is stored; ``words``: all words of the runtime, of which some are names in pynvml."""
    if name == _NVML:
        return with_used_definitions(data, lambda name: name.startswith(_ERRORS) or name.encode() in words)
    ours = name.startswith("envpack/") and name.endswith(".py")
    return without_docstrings(data) if ours else data


def _nvml() -> dict[str, bytes]:
    """Return the module of nvidia-ml-py and its notice.

    Nothing where it is not installed: the runtime uses nvidia-smi then.
    """
    try:
        distribution = metadata.distribution("nvidia-ml-py")
    except metadata.PackageNotFoundError:
        return {}
    module = Path(str(distribution.locate_file("pynvml.py")))
    notice = _NOTICE.format(version=distribution.version)
    return {_NVML: module.read_bytes(), "NOTICE": notice.encode()} if module.is_file() else {}
