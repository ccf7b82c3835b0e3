"""The runtime as it travels in a bundle: ``.envpack/runtime.pyz`` and the scripts beside it.

The zip has the files of ``envpack.runtime``, unchanged, and the one module of nvidia-ml-py as NVIDIA publishes it
(BSD licence, stated at its head). Its members are sorted, dated 1980-01-01 and uncompressed (the bundle compresses
them), so the same versions of both give the same bytes everywhere.
"""

from __future__ import annotations

import io
import zipfile
from functools import cache
from importlib import metadata
from pathlib import Path

import envpack
from envpack.runtime.activation import scripts
from envpack.runtime.format.layout import RUNTIME_PATH

_MAIN = b"import sys\n\nfrom envpack.runtime.__main__ import main\n\nsys.exit(main())\n"
_DATE = (1980, 1, 1, 0, 0, 0)
_NOTICE = """\
pynvml.py is nvidia-ml-py {version}, unchanged, Copyright (c) NVIDIA Corporation, under the BSD license that stands
at its head: https://pypi.org/project/nvidia-ml-py/
"""


@cache
def runtime_files() -> dict[str, tuple[bytes, int]]:
    """Return all files that envpack adds to an environment: path in the prefix -> (bytes, mode)."""
    return {RUNTIME_PATH: (runtime_zip(), 0o644), **scripts()}


@cache
def runtime_zip() -> bytes:
    """Return the runtime package as a zip file that Python can run."""
    package = Path(envpack.__file__).parent
    sources = [package / "__init__.py", *(package / "runtime").rglob("*")]
    members = {
        str(Path("envpack", source.relative_to(package))): source.read_bytes()
        for source in sources
        if source.is_file() and "__pycache__" not in source.parts
    }
    members["__main__.py"] = _MAIN
    members.update(_nvml())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _DATE)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            archive.writestr(info, members[name])
    return buffer.getvalue()


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
    return {"pynvml.py": module.read_bytes(), "NOTICE": notice.encode()} if module.is_file() else {}
