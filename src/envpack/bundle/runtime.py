"""The runtime as it travels: ``.envpack/runtime.pyz`` and the scripts in ``bin/``.

The zip holds the very files of ``envpack.runtime``, in order, stamped 1980-01-01 and uncompressed (the bundle
compresses them), so the same envpack writes the same bytes everywhere.
"""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

import envpack
from envpack.runtime.activation import scripts
from envpack.runtime.model import RUNTIME_PATH

_MAIN = b"import sys\n\nfrom envpack.runtime.__main__ import main\n\nsys.exit(main())\n"
_DATE = (1980, 1, 1, 0, 0, 0)


@cache
def runtime_files() -> dict[str, tuple[bytes, int]]:
    """Path in the prefix -> (bytes, mode) of everything that envpack adds to an environment."""
    return {RUNTIME_PATH: (runtime_zip(), 0o644), **scripts()}


@cache
def runtime_zip() -> bytes:
    """The runtime package as a zip that Python runs."""
    package = Path(envpack.__file__).parent
    sources = [package / "__init__.py", *(package / "runtime").rglob("*")]
    members = {
        str(Path("envpack", source.relative_to(package))): source.read_bytes()
        for source in sources
        if source.is_file() and "__pycache__" not in source.parts
    }
    members["__main__.py"] = _MAIN
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _DATE)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            archive.writestr(info, members[name])
    return buffer.getvalue()
