"""Bundles on pipes and servers as a person meets them: real processes, `cat`, a terminal, TLS, signals."""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from jsonschema import Draft202012Validator

from envpack.bundle.zipapp.runtime_zip import runtime_zip
from envpack.cli.commands.schema import load
from support import forked
from support.bundle_factory import file, make_bundle, text
from support.servers import Files, make_certificate, serving

MIB = 1 << 20
LARGE = 40
NOISE = random.Random(6).randbytes(4 * MIB)
LESS = NOISE[: MIB // 2]
ENVPACK = [sys.executable, "-m", "envpack"]
_MEASURED = """
import re, sys
from pathlib import Path
from envpack.cli.app import main
from envpack.cli.console import Console
code = main(sys.argv[1:], Console.of_process())
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1], file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


def made(path: Path, files: int, data: bytes = NOISE, **fields: object) -> Path:
    """A bundle with that many files, a package each, that no codec makes smaller."""
    first = [text("bin/tool", b"#!/bin/sh\necho @\n", 0o755), file("bin/activate", b"true\n")]
    parts = {f"conda:p{i}-1-0": [file(f"lib/{i}", data)] for i in range(files)}
    make_bundle(path, {"environment": first, **parts}, **fields)
    return path


@pytest.fixture(scope="module")
def large(folder: Path) -> Path:
    return made(folder / "large.tar.zst", LARGE)


@pytest.fixture(scope="module")
def small(folder: Path) -> Path:
    return made(folder / "small.tar.zst", 3, LESS)


def piped(data: Path, *arguments: object, program: list[str] | None = None) -> tuple[Any, int]:
    """``cat data | envpack arguments``: how it ended, and how cat did."""
    cat = subprocess.Popen(["cat", str(data)], stdout=subprocess.PIPE)
    command = [*(program or ENVPACK), *(str(argument) for argument in arguments)]
    done = subprocess.run(command, stdin=cat.stdout, capture_output=True, text=True)
    assert cat.stdout is not None
    cat.stdout.close()
    return done, cat.wait()


def result(done: Any, command: str) -> dict[str, Any]:
    document = json.loads(done.stdout)
    Draft202012Validator(load(command)).validate(document)
    assert document["ok"], document
    found: dict[str, Any] = document["result"]
    return found


def nothing_beside(place: Path) -> bool:
    return not place.exists() and not list(place.parent.glob(f".{place.name}*"))


# --- pipes ---


def test_a_large_bundle_on_a_pipe_takes_no_more_memory_than_its_frames(large: Path, tmp_path: Path) -> None:
    done, cat = piped(
        large, "deploy", "-", tmp_path / "x", "--json", "--jobs", 2, program=[sys.executable, "-c", _MEASURED]
    )
    assert (done.returncode, cat) == (0, 0), done.stderr
    found = result(done, "deploy")
    assert found["bundle"] == "standard input"
    assert found["read"] > LARGE * 4 * MIB
    assert all((tmp_path / f"x/lib/{i}").read_bytes() == NOISE for i in range(LARGE))
    assert json.loads((tmp_path / "x/.envpack/deployment.json").read_text())["bundle"] == "-"
    assert int(done.stderr.split()[-1]) * 1024 < 140 * MIB < LARGE * 4 * MIB


@pytest.mark.parametrize("command", ["inspect", "check"])
def test_looking_reads_the_head_and_leaves_the_writer_to_its_sigpipe(large: Path, command: str) -> None:
    done, cat = piped(large, command, "-", "--json")
    assert (done.returncode, cat) == (0, -signal.SIGPIPE), done.stderr
    assert result(done, command)["path"] == "standard input"


def test_verify_reads_all(small: Path) -> None:
    done, cat = piped(small, "verify", "-", "--json")
    assert (done.returncode, cat) == (0, 0), done.stderr
    assert result(done, "verify")["files"] == 5


DAMAGE = ("cut short", "longer", "changed", "empty")


@pytest.mark.parametrize(
    ("damage", "command"),
    [
        *((damage, "deploy") for damage in DAMAGE),
        ("changed", "verify"),
        *(pytest.param(damage, "verify", marks=pytest.mark.long) for damage in DAMAGE if damage != "changed"),
    ],
)
def test_damage_on_a_pipe_is_found_and_nothing_is_left(
    small: Path, damage: str, command: str, tmp_path: Path
) -> None:
    data = small.read_bytes()
    middle = len(data) // 2
    changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    other = {"cut short": data[:-1], "longer": data + b"\0", "changed": changed, "empty": b""}[damage]
    (tmp_path / "b").write_bytes(other)
    done, _ = piped(tmp_path / "b", command, "-", *([tmp_path / "x"] if command == "deploy" else []))
    assert done.returncode == (6 if damage == "empty" else 7), done.stderr
    assert nothing_beside(tmp_path / "x")


def test_a_store_takes_what_a_pipe_brings_and_gives_it_back(small: Path, tmp_path: Path) -> None:
    reads = []
    for name in ("x", "y"):
        done, cat = piped(small, "deploy", "-", tmp_path / name, "--store", tmp_path / "store", "--json")
        assert (done.returncode, cat) == (0, 0), done.stderr
        reads.append(result(done, "deploy")["read"])
        assert (tmp_path / name / "lib/2").read_bytes() == LESS
    assert reads[1] < MIB // 2 < reads[0]


def test_a_deployment_is_repaired_from_a_pipe(small: Path, tmp_path: Path) -> None:
    piped(small, "deploy", "-", tmp_path / "x")
    (tmp_path / "x/lib/1").write_bytes(b"")
    done, _ = piped(small, "repair", tmp_path / "x", "-", "--json")
    assert result(done, "repair")["mended"] == ["lib/1"]
    assert (tmp_path / "x/lib/1").read_bytes() == LESS


def test_a_file_on_standard_input_is_as_good_as_its_path(small: Path, tmp_path: Path) -> None:
    with small.open("rb") as data:
        done = subprocess.run([*ENVPACK, "deploy", "-q", "-", str(tmp_path / "x")], stdin=data)
    assert done.returncode == 0
    assert (tmp_path / "x/lib/0").read_bytes() == LESS


def test_a_writer_that_stalls_can_be_interrupted_and_nothing_is_left(large: Path, tmp_path: Path) -> None:
    data = large.read_bytes()[: 40 * MIB]
    process = subprocess.Popen([*ENVPACK, "deploy", "-", str(tmp_path / "x")], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()
    wait_for(tmp_path, "**/lib/1")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 130
    process.stdin.close()
    assert nothing_beside(tmp_path / "x")


def wait_for(root: Path, pattern: str) -> None:
    while not list(root.glob(pattern)):
        time.sleep(0.02)


def test_a_host_that_can_t_run_it_reads_no_further_than_the_head(folder: Path, tmp_path: Path) -> None:
    bundle = made(folder / "future.tar.gz", 4, requires={"glibc": "99.0"})
    done, cat = piped(bundle, "deploy", "-", tmp_path / "x")
    assert (done.returncode, cat) == (9, -signal.SIGPIPE), done.stderr
    assert nothing_beside(tmp_path / "x")


def test_on_a_terminal_there_is_a_hint(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [*ENVPACK, "deploy", "-", str(tmp_path / "x")]
    done = subprocess.run(command, stdin=theirs, capture_output=True, text=True)
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 2
    assert "is a terminal" in done.stderr and "curl -s URL | envpack" in done.stderr


def test_an_archive_of_conda_pack_has_to_be_a_file(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("bin/python", "")
    done, _ = piped(tmp_path / "b.zip", "deploy", "-", tmp_path / "x")
    assert done.returncode == 6
    assert "save it to a file first" in done.stderr


def oldest() -> str:
    """The oldest Python from 3.8 on that PATH has and that works."""
    for minor in range(8, sys.version_info.minor):
        found = shutil.which(f"python3.{minor}")
        if found and not subprocess.run([found, "-c", "import ssl"], capture_output=True).returncode:
            return found
    return sys.executable


def test_the_runtime_in_a_bundle_reads_pipes_and_servers(folder: Path, tmp_path: Path) -> None:
    bundle = made(folder / "small.tar.gz", 2, LESS)
    (tmp_path / "runtime.pyz").write_bytes(runtime_zip())
    program = [oldest(), "-I", "-S", str(tmp_path / "runtime.pyz")]
    done, _ = piped(bundle, "deploy", "-", tmp_path / "x", program=program)
    assert done.returncode == 0, done.stderr
    with serving({"/b": bundle.read_bytes()}) as server:
        command = [*program, "deploy", f"{server.url}/b", str(tmp_path / "y")]
        subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "x/lib/1").read_bytes() == (tmp_path / "y/lib/1").read_bytes() == LESS


# --- servers ---


@pytest.fixture
def server(small: Path) -> Iterator[Files]:
    with serving({"/b.tar.zst": small.read_bytes()}) as files:
        yield files


def envpack(*arguments: object, **environ: str) -> Any:
    return forked.envpack(*arguments, env={**os.environ, **environ})


def test_every_command_that_reads_a_bundle_takes_an_url(server: Files, tmp_path: Path) -> None:
    url = f"{server.url}/b.tar.zst"
    for command, arguments in {
        "inspect": [url],
        "check": [url],
        "verify": [url],
        "deploy": [url, f"{tmp_path}/x"],
        "repair": [f"{tmp_path}/x", url],
    }.items():
        done = envpack(command, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        found = result(done, command)
        assert url in (found.get("path"), found.get("bundle"))
    done = envpack("inspect", f"file://{tmp_path}/no%20such")
    assert done.returncode == 6 and f"{tmp_path}/no such" in done.stderr


def test_tls_is_verified_and_goes_through_proxies(small: Path, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with serving({"/b": small.read_bytes()}, certificate) as server, serving({}) as proxy:
        done = envpack("inspect", f"{server.url}/b", SSL_CERT_FILE=str(certificate))
        assert done.returncode == 0, done.stderr
        done = envpack("inspect", f"{server.url}/b")
        assert done.returncode == 6 and "certificate can't be verified" in done.stderr
        assert "SSL_CERT_FILE" in done.stderr
        done = envpack("inspect", f"{server.url}/b", SSL_CERT_FILE=str(tmp_path / "none"))
        assert done.returncode == 2 and "No such file" in done.stderr
        through = {"SSL_CERT_FILE": str(certificate), "https_proxy": proxy.url}
        done = envpack("deploy", f"{server.url}/b", tmp_path / "x", **through)
        assert done.returncode == 0, done.stderr
        assert {method for method, _, _ in proxy.requests} == {"CONNECT"}
        proxy.reset()
        done = envpack("inspect", f"{server.url}/b", **through, no_proxy="127.0.0.1")
        assert (done.returncode, proxy.requests) == (0, [])


@pytest.mark.parametrize("ranges", [True, False])
def test_a_slow_server_can_be_interrupted_and_nothing_is_left(large: Path, ranges: bool, tmp_path: Path) -> None:
    with serving({"/b": large.read_bytes()}, ranges=ranges, pause=0.002) as server:
        silent = threading.Event()

        def hang(handler: Any) -> bool:
            return len(server.requests) > 5 and not silent.wait(60)

        server.before = hang
        process = subprocess.Popen([*ENVPACK, "deploy", f"{server.url}/b", str(tmp_path / "x")])
        wait_for(tmp_path, "**/lib/1")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 130
        silent.set()
    assert nothing_beside(tmp_path / "x")


def test_no_password_is_printed(server: Files, tmp_path: Path) -> None:
    server.user = "Basic other"
    url = f"http://ann:hushhush@{server.url.partition('://')[2]}/b.tar.zst?sig=verysecret"
    done = envpack("deploy", url, tmp_path / "x", "--verbose")
    assert done.returncode == 6 and "401" in done.stderr
    assert "hush" not in done.stderr and "verysecret" not in done.stderr
