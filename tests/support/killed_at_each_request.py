"""Kill 'envpack publish' after each request to a registry, and run it again each time.

A program of its own: it forks for each attempt, which a process with threads must not do.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from envpack.__main__ import main
from envpack.runtime.transport.http.connection import Link
from envpack.runtime.transport.oci.manifest import INDEX, MANIFEST

KILLED = 77


def killed_after(number: int) -> None:
    """Make this process end when so many requests were answered; the answer of the last is not read."""
    request, lock, left = Link.request, threading.Lock(), [number]

    def counted(*arguments: Any, **options: Any) -> Any:
        answer = request(*arguments, **options)
        with lock:
            if left[0] == 0:
                os._exit(KILLED)
            left[0] -= 1
        return answer

    Link.request = counted  # type: ignore[method-assign]


def run(words: list[str], number: int | None = None) -> int:
    """Run a command in a new process and return its exit status."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, *((2,) if number is not None else ())):
            os.dup2(null, fd)
        if number is not None:
            killed_after(number)
        sys.argv = ["envpack", *words]
        try:
            main()
        except SystemExit as ended:
            os._exit(ended.code if isinstance(ended.code, int) else 1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fetched(host: str, repository: str, what: str, method: str = "GET") -> bytes | None:
    request = Request(f"http://{host}/v2/{repository}/{what}", method=method)
    request.add_header("Accept", f"{MANIFEST}, {INDEX}")
    try:
        with urlopen(request) as response:
            data: bytes = response.read()
    except HTTPError as error:
        assert error.code == 404, error
        return None
    return data


def is_whole(host: str, repository: str, tag: str) -> bool:
    """Return whether the release has its tag; all of it must be there then."""
    data = fetched(host, repository, f"manifests/{tag}")
    if data is None:
        return False
    manifest = json.loads(data)
    for blob in (manifest["config"], *manifest["layers"]):
        assert fetched(host, repository, f"blobs/{blob['digest']}", "HEAD") is not None, blob
    listed = json.loads((fetched(host, repository, "tags/list") or b"{}").decode())["tags"]
    [referrers] = [each for each in listed if each.startswith("sha256-")]
    index = json.loads(fetched(host, repository, f"manifests/{referrers}") or b"{}")
    names = {each["annotations"]["org.opencontainers.image.title"] for each in index["manifests"]}
    assert names == set(manifest["annotations"]["vnd.envpack.documents"].split())
    return True


def attempts(bundle: str, host: str, tag: str, number: int, step: int) -> int:
    """Return the number of requests of the command, which was killed after each of them from ``number`` on."""
    while True:
        words = ["publish", bundle, f"oci://{host}/killed-{number}"]
        code = run(words, number)
        is_whole(host, f"killed-{number}", tag)
        assert code in (0, KILLED), f"killed after request {number}: status {code}"
        assert run(words) == 0, f"again after request {number}"
        assert is_whole(host, f"killed-{number}", tag), f"again after request {number}"
        assert fetched(host, f"killed-{number}", "manifests/latest") is not None
        if code == 0:
            return number
        number += step


if __name__ == "__main__":
    bundle, host, first, step = sys.argv[1:]
    tag = bundle.rpartition("/")[2].partition("-")[2].removesuffix(".tar.gz")
    print(attempts(bundle, host, tag, int(first), int(step)))
