"""Jupyter kernels of an environment that run the Python on PATH, as the wheel of ipykernel has them.

A Jupyter server runs such a kernel with its own Python (jupyter_client/manager.py, ``format_kernel_cmd``), so a
server that finds the kernels of a deployment through ``JUPYTER_PATH`` would run another environment.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from envpack.prefix.scan.walk import Tree
from envpack.runtime.fs.json_text import json_value

_KERNEL = re.compile(r"share/jupyter/kernels/[^/]+/kernel\.json")
_ARGV = re.compile(rb'"argv"\s*:\s*\[\s*"(?P<program>python[0-9.]*)"')
_LONGEST = 1 << 16
"""Bytes of the largest kernel.json that is read."""


def kernels_of_environment(tree: Tree, prefix: bytes, read: Callable[[str], bytes]) -> dict[str, bytes]:
    """Return the new bytes of each kernel.json with a bare ``python``: it names the environment's own instead.

    Args:
        tree: The environment's tree.
        prefix: The environment's path, which is relocated as in every file.
        read: Reads a file of the environment.
    """
    if b'"' in prefix or b"\\" in prefix:
        return {}
    found = {}
    for path, facts in tree.files.items():
        if not path.startswith("share/jupyter/") or not _KERNEL.fullmatch(path) or facts.size > _LONGEST:
            continue
        data = read(path)
        match = _ARGV.search(data)
        if match is None:
            continue
        program, start = b"bin/" + match["program"], match.start("program")
        changed = data[:start] + prefix + b"/bin/" + data[start:]
        if _exists(tree, program.decode()) and _runs(changed, prefix + b"/" + program):
            found[path] = changed
    return found


def _exists(tree: Tree, path: str) -> bool:
    return path in tree.files or path in tree.links


def _runs(data: bytes, program: bytes) -> bool:
    """Return whether ``program`` is what the kernel runs, and not some other ``argv``."""
    try:
        kernel = json_value(data)
    except ValueError:
        return False
    argv = kernel.get("argv") if isinstance(kernel, dict) else None
    return isinstance(argv, list) and argv[:1] == [program.decode("utf-8", "surrogateescape")]
