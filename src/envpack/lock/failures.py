"""Failures of uv as errors: its own reason, the end of a build's output, and a hint that fits the reason."""

from __future__ import annotations

import re
from collections.abc import Sequence

from envpack.runtime.errors import BuildError
from envpack.runtime.transport.redact import without_secrets

_TAIL = 40
"""Lines of a build's output in an error: a compiler's last message and the traceback of a build backend."""

_HINTS: tuple[tuple[str, str], ...] = (
    (r"No space left on device", "Free some space, or set the cache and the output to another disk."),
    (r"Hash mismatch", "Lock again if the publisher has replaced the file."),
    (
        r"No module named '(\w+)",
        "The build imports {0}. Add it to the dependencies, and '- --no-build-isolation' on a line of its own to "
        "the pip section, so that the build can import it.",
    ),
    (
        r"(?:fatal error: '?|cannot open source file \")([\w./+-]+\.(?:h|hpp|hh|cuh))",
        "The header {0} is missing. Add the conda package that contains it to the dependencies, or install it.",
    ),
    (r"cannot find -l([\w.+-]+)", "The library {0} is missing. Add its conda package to the dependencies."),
    (
        r"CUDA_HOME environment variable is not set|nvcc: (?:command )?not found|[Cc]ould not find nvcc"
        r"|Specify CUDA_TOOLKIT_ROOT_DIR|No CMAKE_CUDA_COMPILER",
        "The build needs a CUDA compiler. Add cuda-nvcc and libraries to the dependencies, or set CUDA_HOME.",
    ),
    (
        r"(?:[Cc]ommand|unable to execute|No such file or directory:) '?[^\s']*(?:gcc|g\+\+|cc|c\+\+|clang)'?"
        r"(?: failed: No such file|: No such file|$)|No CMAKE_C(?:XX)?_COMPILER|[Uu]nknown compiler\(s\)",
        "No C or C++ compiler was found. Add c-compiler and cxx-compiler to the dependencies, or install gcc.",
    ),
    (r"can't find Rust compiler|cargo: (?:command )?not found", "Add rust to the dependencies, or install it."),
    (
        r"(?:No such file or directory: '|: )cmake'?(?:: command)?(?: not found|$)",
        "Add cmake to the dependencies.",
    ),
    (
        r"build backend returned an error",
        "The reason is at the end of the output of the build above; -v shows all of it.",
    ),
    (r"was not found in the package registry", "Check the name, and add its index to the spec."),
    (r"error sending request", "Check the network connection, or give another index with --index-url."),
    (r"401 Unauthorized", "Put the credentials for the index in its URL or in ~/.netrc."),
    (r"unsatisfiable", "Loosen one of the requirements named above."),
)
"""Patterns of messages, with the hint of the first that is found; ``{0}`` is the group of the pattern."""


def uv_failure(what: str, log: Sequence[str]) -> BuildError:
    """Return uv's messages as an error: its own explanation, without the lines that only show progress.

    Args:
        what: The start of the message.
        log: All lines that uv wrote.
    """
    start = next((i for i, line in enumerate(log) if line.startswith("error:")), None)
    lines = log[start:] if start is not None else log[-_TAIL:]
    lines = [without_secrets(line) for line in lines if line.strip()]
    reason = lines[0].removeprefix("error: ") if lines else "uv printed no message"
    if reason.startswith("No solution found") and len(lines) > 1:
        reason = " ".join(line.strip() for line in lines[1:]).removeprefix("cause: ")
        lines = []
    return BuildError(f"{what}: {reason}", hint=failure_hint(log), details=shortened(lines[1:]), log=lines[1:])


def shortened(lines: Sequence[str]) -> list[str]:
    """Return the causes that uv names first, and the end of the output of a build."""
    output = next((i for i, line in enumerate(lines) if line.strip() in ("[stdout]", "[stderr]")), 0)
    omitted = len(lines) - output - _TAIL
    if omitted <= 1:
        return list(lines)
    return [*lines[:output], f"    ... {omitted} lines before; -v shows them ...", *lines[-_TAIL:]]


def failure_hint(log: Sequence[str]) -> str:
    """Return what to do about a failure of uv, "" when its message must be enough."""
    text = "\n".join(log)
    for pattern, hint in _HINTS:
        if match := re.search(pattern, text, re.MULTILINE):
            return hint.format(*match.groups())
    return ""
