"""The service of a deployment while it runs."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system_trial.known import PICTURE, System
from system_trial.workshop import StepError, Workshop

BOUNDARY = "part-of-a-form"


@dataclass
class Service:
    """The running service of a deployment, on a free port; it is stopped as a service manager stops one."""

    workshop: Workshop
    destination: Path
    system: System
    model: Path
    manifest: Mapping[str, Any]
    ready_seconds: float = 0
    named: bool = False
    status: int | None = None

    def __enter__(self) -> Service:
        service = self.manifest["services"]["serve"]
        self.named = not service.get("mounts")
        self.port = service["port"] if is_free(service["port"]) else free_port()
        line = f"exec {self.manifest['commands']['serve']}"
        # where the weights are missing the command itself is refused, so its line is run
        what = ("serve", "--port", str(self.port)) if self.named else ("--", "sh", "-c", line)
        self.log = self.model.parent / "service.log"
        begin = time.monotonic()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*self.workshop.program, "run", str(self.destination), *what],
                cwd=self.destination / "app",
                env={**os.environ, "PORT": str(self.port), "MODEL": str(self.model), **self.system.env},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            while not self._answers(service["ready"]):
                if self.process.poll() is not None:
                    raise StepError(f"{line} ended with {self.process.returncode}:\n{self.log.read_text()}")
                time.sleep(0.1)
        except BaseException:
            self.process.kill()
            raise
        self.ready_seconds = time.monotonic() - begin
        return self

    def __exit__(self, *error: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.status = self.process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ended(self) -> str:
        """Return how the stopped service ended."""
        return "running" if self.status is None else ending(self.status)

    def _answers(self, ready: str) -> bool:
        try:
            return bool(self._get(ready))
        except (urllib.error.URLError, ConnectionError):
            return False

    def _get(self, path: str, data: bytes | None = None, kind: str = "application/json") -> bytes:
        request = urllib.request.Request(self.url + path, data, {"Content-Type": kind})
        with urllib.request.urlopen(request) as response:
            answer: bytes = response.read()
            kind = response.headers.get_content_type()
            if not kind.startswith("image/"):
                return answer
            return f"release {response.headers['Release']}, {kind} of {len(answer):,} bytes".encode()

    def ask(self, release: str) -> str:
        """Return what matters of the answer to the request; raise StepError if it is not that of ``release``."""
        path, sent = self.system.request
        if self.system.upload:
            body, kind = form(sent, self.system.upload), f"multipart/form-data; boundary={BOUNDARY}"
        else:
            body, kind = json.dumps(sent).encode(), "application/json"
        answer = self._get(path, body, kind).decode()
        match = re.search(self.system.answer.replace("RELEASE", release), answer)
        if match is None:
            raise StepError(f"release {release} was to answer {self.system.answer}, and the answer is {answer}")
        return match[0]


def ending(status: int) -> str:
    """Return how a process ended, from the number that subprocess gives: that of a signal is negative."""
    return f"by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def form(fields: Mapping[str, str], upload: str) -> bytes:
    """Return the body of a form with PICTURE in the field ``upload`` (RFC 7578)."""
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    texts = "".join(f'{head}"{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
    picture = f'{head}"{upload}"; filename="picture.png"\r\nContent-Type: image/png\r\n\r\n'
    return (texts + picture).encode() + base64.b64decode(PICTURE) + f"\r\n--{BOUNDARY}--\r\n".encode()


def is_free(port: int) -> bool:
    """Return whether a server can listen on a port of all addresses."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port that no server listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
