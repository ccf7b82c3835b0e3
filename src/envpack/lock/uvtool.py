"""Calls of uv: its command, its settings from the spec and from pip's variables, and its failures."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from envpack.lock.failures import uv_failure
from envpack.runtime.transport.http.connection import SYSTEM_STORES
from envpack.spec.pip_lines import PipLine

_PIP_SETTINGS = (  # pip's variables that uv does not read; pip's configuration files are not read
    ("PIP_INDEX_URL", "--index-url"),
    ("PIP_EXTRA_INDEX_URL", "--extra-index-url"),
    ("PIP_FIND_LINKS", "--find-links"),
)
_UV_SETTINGS = {  # where one of uv's own variables is set, pip's variable is ignored
    "PIP_INDEX_URL": ("UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    "PIP_EXTRA_INDEX_URL": ("UV_INDEX", "UV_EXTRA_INDEX_URL"),
    "PIP_FIND_LINKS": ("UV_FIND_LINKS",),
}
_REMOVED = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "UV_SYSTEM_PYTHON", "UV_REQUIRE_HASHES")
_USERS_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_CERTIFICATES_OF_UV = ("SSL_CERT_FILE", "SSL_CERT_DIR", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS")
_CERTIFICATES_OF_PIP = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name certificate authorities, in the order in which each program reads them
(https://pip.pypa.io/en/stable/topics/https-certificates/, https://docs.astral.sh/uv/reference/environment/).
"""
SOURCE_EPOCH = "315532800"
"""1980-01-01T00:00:00Z in seconds since 1970, the earliest time a wheel (a zip file) can hold: SOURCE_DATE_EPOCH
of builds from source when the user set none (https://reproducible-builds.org/specs/source-date-epoch/).
"""


def uv_environment() -> dict[str, str]:
    """Return the environment variables for uv: the user's, without those that point to another Python."""
    env = {key: value for key, value in os.environ.items() if key not in _REMOVED}
    env.setdefault("SOURCE_DATE_EPOCH", SOURCE_EPOCH)
    if not any(env.get(name) for name in _CERTIFICATES_OF_UV) and (authorities := _authorities(env)):
        env["SSL_CERT_FILE"] = authorities
    # the build machine's Python must leave no byte code behind in the prefix it is imported from
    env.update(UV_NO_PROGRESS="1", NO_COLOR="1", PYTHONDONTWRITEBYTECODE="1", UV_PYTHON_DOWNLOADS="never")
    return env


def _authorities(env: Mapping[str, str]) -> str:
    """Return the file of the certificate authorities that pip would trust, "" when this system has none.

    uv alone trusts only those that are compiled into it, so that an index signed by a company's own authority
    works with pip and fails with uv.
    """
    candidates = (*(env.get(name, "") for name in _CERTIFICATES_OF_PIP), *SYSTEM_STORES)
    return next((path for path in candidates if path and Path(path).is_file()), "")


def expanded(text: str) -> str:
    """Return a value of the pip section with ``${NAME}`` replaced by the user's variable, as pip does.

    Source: https://pip.pypa.io/en/stable/reference/requirements-file-format/#using-environment-variables
    """
    return _USERS_VARIABLE.sub(lambda match: os.environ.get(match[1]) or match[0], text)


def index_arguments(lines: Iterable[PipLine], index_url: str | None, folder: Path | None = None) -> list[str]:
    """Return uv's arguments for the indexes and links pages to search.

    Every extra index and links page of the spec and of PIP_EXTRA_INDEX_URL and PIP_FIND_LINKS is added. All
    indexes are searched and the best version is used, as pip does: existing specs were written for that.

    Args:
        lines: The options of the spec's pip section.
        index_url: The index; None to use that of the spec, or else PIP_INDEX_URL.
        folder: The folder that relative paths of the spec start at.
    """
    args: list[str] = []
    options = list(lines)
    own_index = [expanded(line.value) for line in options if line.option == "--index-url"]
    no_index = any(line.option == "--no-index" for line in options)
    if index_url:
        args += ["--index-url", index_url]
    elif own_index:
        args += ["--index-url", own_index[-1]]
    elif no_index:
        args += ["--no-index"]
    for line in options:
        if line.option in ("--extra-index-url", "--find-links"):
            value = expanded(line.value)
            args += [line.option, _absolute(value, folder) if line.option == "--find-links" else value]
        elif line.option == "--trusted-host":
            args += ["--allow-insecure-host", line.value]
    for variable, option in _PIP_SETTINGS:
        words = os.environ.get(variable, "").split()
        overridden = any(os.environ.get(name) for name in _UV_SETTINGS[variable])
        stated = option == "--index-url" and "--index-url" in args
        if overridden or stated or (option != "--find-links" and no_index):
            continue
        for word in words[:1] if option == "--index-url" else words:
            args += [option, word]
    if not os.environ.get("UV_INDEX_STRATEGY"):
        args += ["--index-strategy", "unsafe-best-match"]
    return args


_BY_VARIABLE = {
    "--index-url": ("UV_INDEX_URL", ""),
    "--extra-index-url": ("UV_EXTRA_INDEX_URL", " "),
    "--find-links": ("UV_FIND_LINKS", ","),
}
"""uv's variables for these options, and what separates their values
(https://docs.astral.sh/uv/reference/environment/)."""


def without_indexes(args: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return uv's arguments without the URLs of indexes, and the variables that state them.

    All users of a machine see the arguments of a process, with the passwords in URLs; its variables only its own.
    """
    kept: list[str] = []
    values: dict[str, list[str]] = {}
    words = iter(args)
    for word in words:
        if word in _BY_VARIABLE:
            values.setdefault(word, []).append(next(words))
        else:
            kept.append(word)
    variables: dict[str, str] = {}
    for option, stated in values.items():
        name, separator = _BY_VARIABLE[option]
        if any(separator in value for value in stated if separator):
            kept += [word for value in stated for word in (option, value)]
        else:
            variables[name] = separator.join(stated)
    return kept, variables


def build_settings(lines: Iterable[PipLine]) -> list[str]:
    """Return uv's arguments for the settings that requirements state for the build of their package."""
    settings = ((line.name, setting) for line in lines for setting in line.settings)
    return [word for name, setting in settings for word in ("--config-settings-package", f"{name}:{setting}")]


def _absolute(links: str, folder: Path | None) -> str:
    """Return links with their path made absolute: uv is not always run where the spec lies."""
    return links if folder is None or "://" in links else str(folder.absolute() / Path(links).expanduser())


def run_uv(
    args: Sequence[str],
    what: str,
    *,
    cwd: Path,
    cache_dir: Path | None = None,
    stdin: str = "",
    on_line: Callable[[str], None] | None = None,
    activation: Mapping[str, str] | None = None,
) -> str:
    """Run ``uv ARGS`` and return its standard output.

    Args:
        args: The arguments.
        what: The start of the error message.
        cwd: The working directory.
        cache_dir: uv's cache, None for its own.
        stdin: The text for its standard input, without ``on_line`` only.
        activation: Variables that replace the user's, such as those of the environment that uv builds in.
        on_line: Called with each line of output and messages as it is printed; the result is then "".

    Raises:
        BuildError: uv failed; the message is ``what`` and uv's own reason. An interrupt ends uv first.
    """
    import uv

    args, indexes = without_indexes(args)
    command = [uv.find_uv_bin(), *args]
    if cache_dir is not None:
        command += ["--cache-dir", str(cache_dir)]
    with subprocess.Popen(
        command,
        cwd=cwd,
        env={**uv_environment(), **(activation or {}), **indexes},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if on_line else subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # so that an interrupt ends what uv started, compilers too, through one signal
    ) as process:
        try:
            if on_line is None:
                output, messages = process.communicate(stdin)
                log = messages.splitlines()
            else:
                output, log = "", _read_lines(process, on_line)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        raise uv_failure(what, log)
    return output


def _read_lines(process: subprocess.Popen[str], on_line: Callable[[str], None]) -> list[str]:
    """Call ``on_line`` with each line a process writes, until it ends, and return all lines."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    log = []
    for line in process.stdout:
        log.append(line.rstrip("\n"))
        on_line(log[-1])
    process.wait()
    return log
