"""Byte-code files that Python and numba write beside modules, and write again when they are missing."""

from __future__ import annotations

import re
from typing import Callable

_CACHED = re.compile(r"\.py[co](?:\.\d+)?\Z|\.nb[ic]\Z")
"""Names in ``__pycache__``: byte-code (PEP 3147), byte-code that Python was interrupted in writing
(Lib/importlib/_bootstrap_external.py, _write_atomic), and the caches of numba (numba/core/caching.py).
"""


def is_bytecode_file(path: str, exists: Callable[[str], bool]) -> bool:
    """Return whether Python or numba wrote a file, so that no user needs it.

    Byte-code outside of ``__pycache__`` was written by Python 2, or for a module without a source, see PEP 3147.

    Args:
        path: path of the file in the tree.
        exists: Return whether the tree has another path.
    """
    folder, _, name = path.rpartition("/")
    if folder.rpartition("/")[2] == "__pycache__":
        return _CACHED.search(name) is not None
    return name.endswith((".pyc", ".pyo")) and exists(path[:-1])
