"""A headless Chromium, driven through a pipe: https://chromedevtools.github.io/devtools-protocol/"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from system_trial.workshop import StepError

PROGRAMS = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")

_SECONDS = 300.0
"""For one answer of the browser, and for what a page is to show."""

_OPTIONS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-sandbox",  # it needs rights that root and containers lack; the page is the service's own
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # fonts and scripts of other servers
)


def find_browser() -> str | None:
    """Return the program of a Chromium of this machine, or None."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """A Chromium with one page, in a profile of its own that is deleted at the end."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._received = b""
        self._number = 0
        self._session: dict[str, str] = {}

    def __enter__(self) -> Browser:
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        ours, theirs = socket.socketpair()
        options = [*_OPTIONS, f"--user-data-dir={self._profile.name}"]
        with theirs:
            self._process = subprocess.Popen(
                [self._program, *options, "about:blank"],
                preexec_fn=_as_pipe(theirs),
                close_fds=False,
                env={**os.environ, "TMPDIR": self._profile.name},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._socket = ours
        self._socket.settimeout(_SECONDS)
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._socket.close()
        self._profile.cleanup()

    def open(self, url: str) -> None:
        """Show a page."""
        target = self.call("Target.createTarget", url=url)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; raise StepError if the browser refuses or ends."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\0")
            while (answer := self._receive()).get("id") != self._number:
                pass  # an event
        except OSError as error:
            raise StepError(f"{self._program}: {method}: {error}") from error
        if "error" in answer:
            raise StepError(f"{self._program}: {method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            piece = self._socket.recv(1 << 16)
            if not piece:
                raise ConnectionError("the browser has ended")
            self._received += piece
        text, _, self._received = self._received.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def value(self, script: str) -> Any:
        """Return the value of a JavaScript expression in the page; None for undefined and for an error in it."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return result["result"].get("value") if "exceptionDetails" not in result else None

    def wait(self, script: str, what: str) -> Any:
        """Return the value of an expression once it is true; raise StepError after a while, naming ``what``."""
        end = time.monotonic() + _SECONDS
        while not (value := self.value(script)):
            if time.monotonic() > end:
                raise StepError(f"{what} did not appear in the page:\n{self.value('document.body.innerText')}")
            time.sleep(0.2)
        return value

    def choose_file(self, script: str, path: Path) -> None:
        """Choose a file in the field that an expression gives."""
        field = self.call("Runtime.evaluate", expression=script)["result"]["objectId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], objectId=field)

    def write(self, script: str, text: str) -> None:
        """Write a text into the field that an expression gives, as by keyboard."""
        self.value(f"{script}.focus()")
        self.call("Input.insertText", text=text)


def _as_pipe(theirs: socket.socket) -> Callable[[], None]:
    """Return what makes a socket the descriptors 3 and 4, from which Chromium reads and to which it writes."""

    def prepare() -> None:
        high = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 10)
        os.dup2(high, 3)
        os.dup2(high, 4)

    return prepare
