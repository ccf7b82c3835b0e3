"""Metrics of this host for Prometheus: as text, in a file, or from an HTTP server."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Sequence

from envpack.runtime.errors import DestinationError, UsageError, path_hint
from envpack.runtime.fs.temporary import replace_file
from envpack.runtime.metrics.collect import collect
from envpack.runtime.metrics.exposition import as_json, exposition
from envpack.runtime.report import Reporter

ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class Metrics:
    """The metrics of this host at one moment.

    Attributes:
        text: In Prometheus' text format.
        families: For JSON.
        output: The file that the text was written to, or None.
    """

    text: str
    families: list[dict[str, Any]]
    output: Path | None

    def as_dict(self) -> dict[str, Any]:
        """Return the ``result`` of ``envpack.metrics/1``, for JSON."""
        return {"output": str(self.output) if self.output is not None else None, "families": self.families}


def metrics(destinations: Sequence[Path], output: Path | None = None) -> Metrics:
    """Read the metrics of this host once.

    Args:
        destinations: The deployments; none: every one that is registered.
        output: A file to write them to, which is replaced atomically.

    Raises:
        DestinationError: The file can't be written.
    """
    samples = collect(destinations)
    done = Metrics(exposition(samples), as_json(samples), output)
    if output is not None:
        _write(output, done.text)
    return done


def _write(output: Path, text: str) -> None:
    try:
        if output.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        replace_file(output, text.encode())
    except OSError as problem:  # it may name the temporary file
        message = f"can't write {output}: {problem.strerror}"
        raise DestinationError(message, hint=path_hint(problem)) from None


def serve_metrics(destinations: Sequence[Path], address: str, port: int, reporter: Reporter) -> NoReturn:
    """Serve the metrics of this host over HTTP until this process is interrupted.

    Args:
        destinations: As for `metrics`.
        address: The address to listen on.
        port: The port to listen on; 0 for any that is free.
        reporter: Receives the URL, and warnings.

    Raises:
        UsageError: There is no such address or port.
        EnvpackError: The port can't be listened on.
        KeyboardInterrupt: This process was interrupted.
    """
    from envpack.runtime.metrics.server import MetricsServer  # imports http.server

    def read() -> str:
        return exposition(collect(destinations))

    with MetricsServer(address, port, read, reporter.warn) as server:
        reporter.note(f"serving {server.url}")
        while True:
            server.serve_forever()


def check_options(output: Path | None, port: int | None, address: str | None, as_json: bool) -> None:
    """Raise UsageError for options that exclude each other: metrics are printed, written or served."""
    if port is None:
        if address is not None:
            raise UsageError("--address needs --port")
    elif output is not None or as_json:
        raise UsageError(f"--port can't be used with {'--json' if as_json else '--output'}")
