"""Blue-green releases with the script of `examples/releases`: real deployments, services, requests and signals."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from envpack.runtime.format.services import Service
from support.small_prefix import SmallPrefix

REPOSITORY = Path(__file__).parents[3]
SCRIPT = REPOSITORY / "examples/releases/blue-green.sh"
SERVER = """\
import http.server, os

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{release}")

    def log_message(self, *arguments):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""

pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed")


def free_ports() -> str:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return f"{one.getsockname()[1]} {two.getsockname()[1]}"


class Site:
    """A directory with two sides, and bundles to release there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.base = folder, folder / "a site"
        self.command = 'python "$CONDA_PREFIX/lib/server.py"'
        envpack = Path(sys.executable).with_name("envpack")
        self.environ = {
            **os.environ,
            "PATH": f"{envpack.parent}:{os.environ['PATH']}",
            "PORTS": free_ports(),
            "GRACE": "0",
            "RELOAD": f"cat upstream.conf >>'{folder}/reloads'",
        }

    def bundle(self, release: str, server: str = SERVER) -> Path:
        prefix = SmallPrefix(self.folder / f"prefix-{release}")
        prefix.link("bin/python", sys.executable)
        prefix.write("lib/server.py", server.replace("{release}", release))
        output = self.folder / f"{release}.tar.gz"
        prefix.pack(
            output,
            outside="keep",
            name="demo",
            version="1",
            commands={"serve": self.command},
            services={"serve": Service(8000, "/", stop=5)},
        )
        return output

    def run(self, *words: str | Path, base: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", SCRIPT, base or self.base, "serve", *words]
        return subprocess.run(
            command, cwd=self.folder, env={**self.environ, **environ}, capture_output=True, text=True
        )

    def release(self, name: str) -> None:
        done = self.run("release", self.bundle(name).name)
        assert done.returncode == 0, done.stderr

    def servers(self) -> list[tuple[int, int | None]]:
        """Return port and weight of each server that the proxy has."""
        text = (self.base / "upstream.conf").read_text()
        found = re.findall(r"server 127\.0\.0\.1:(\d+)(?: weight=(\d+))?;\n", text)
        return [(int(port), int(weight) if weight else None) for port, weight in found]

    def ask(self, port: int | None = None) -> str:
        url = f"http://127.0.0.1:{self.servers()[0][0] if port is None else port}/"
        with urllib.request.urlopen(url, timeout=60) as reply:
            answer: str = reply.read().decode()
            return answer

    def current(self) -> str:
        return str((self.base / "current").readlink())

    def processes(self) -> list[int]:
        """Return the processes of the sides, those that have been killed since included."""
        return [int(file.read_text().split()[0]) for file in self.base.glob("*.pid")]

    def kill(self) -> None:
        """Kill the sides, and wait until they have ended."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                end = os.pidfd_open(pid)
                os.killpg(pid, signal.SIGKILL)
                select.select([end], [], [])
                os.close(end)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.kill()


@contextmanager
def asking(site: Site) -> Iterator[tuple[set[str], list[OSError]]]:
    """Ask what the proxy's first server is, all the time; give what was answered, and what failed."""
    answers: set[str] = set()
    failures: list[OSError] = []
    end = threading.Event()

    def ask() -> None:
        while not end.is_set():
            port = site.servers()[0][0]
            try:
                answers.add(site.ask(port))
            except OSError as problem:  # a proxy that has read the new file asks no old server
                if site.servers()[0][0] == port:
                    failures.append(problem)

    client = threading.Thread(target=ask)
    client.start()
    try:
        yield answers, failures
    finally:
        end.set()
        client.join()


def test_a_release_takes_the_place_of_another_and_back_and_no_request_fails(site: Site) -> None:
    site.release("one")
    assert (site.current(), site.ask()) == ("blue", "one")
    blue = site.servers()[0][0]
    with asking(site) as (answers, failures):
        site.release("two")
        assert (site.current(), site.ask()) == ("green", "two")
        with pytest.raises(OSError):
            site.ask(blue)
        status = site.run("status").stdout.splitlines()
        assert status[0] == "blue: stopped"
        assert re.fullmatch(r"green: process \d+ at port \d+, current", status[1])
        assert site.run("back").returncode == 0
    assert (failures, answers) == ([], {"one", "two"})
    assert (site.current(), site.ask()) == ("blue", "one")
    assert (site.folder / "reloads").read_text().count("server ") == 3
    assert not list(site.base.glob("*.new"))


@pytest.mark.long
def test_no_request_fails_while_releases_follow_each_other(site: Site) -> None:
    site.release("one")
    with asking(site) as (answers, failures):
        site.release("two")
        site.release("three")
    assert failures == []
    assert answers >= {"one", "two"}
    assert site.ask() == "three"


@pytest.mark.parametrize(
    "server",
    ["raise SystemExit('no weights')", pytest.param("import time; time.sleep(600)", marks=pytest.mark.long)],
)
def test_a_release_that_does_not_start_leaves_the_other_one_as_it_is(site: Site, server: str) -> None:
    site.release("one")
    before = site.servers()
    done = site.run("release", site.bundle("two", server), READY="2")
    assert done.returncode == 1
    assert done.stderr.endswith("blue-green: error: green did not start; blue still answers\n")
    assert ("no weights" in done.stderr) == ("no weights" in server)
    assert (site.current(), site.servers(), site.ask()) == ("blue", before, "one")
    assert site.run("status").stdout.splitlines()[1] == "green: stopped"
    site.release("three")
    assert (site.current(), site.ask()) == ("green", "three")


@pytest.mark.long
def test_the_way_back_leads_to_what_has_answered(site: Site) -> None:
    """Neither to a release that did not start nor to a canary that was cancelled."""
    site.release("one")
    failing = site.bundle("fails", "raise SystemExit(1)")
    assert site.run("release", failing).returncode == 1
    assert "there is no previous release" in site.run("back").stderr
    site.release("two")
    for _ in range(2):
        assert site.run("release", failing).returncode == 1
    assert site.run("canary", site.bundle("three")).returncode == 0
    assert site.run("cancel").returncode == 0
    assert (site.current(), site.ask()) == ("green", "two")
    assert site.run("back").returncode == 0
    assert (site.current(), site.ask()) == ("blue", "one")


@pytest.mark.long
def test_a_failed_release_that_left_no_way_back_is_followed_by_another(site: Site) -> None:
    site.environ["ENVPACK_OPTIONS"] = "--keep 0"
    site.release("one")
    site.release("two")
    assert site.run("release", site.bundle("fails", "raise SystemExit(1)")).returncode == 1
    assert "there is no previous release" in site.run("back").stderr
    site.release("three")
    assert site.run("back").returncode == 0
    assert (site.current(), site.ask()) == ("green", "two")


@pytest.mark.long
def test_the_side_that_answers_may_be_upgraded_where_it_is(site: Site) -> None:
    site.release("one")
    upgraded = ["envpack", "deploy", site.bundle("one and a half"), site.base / "blue"]
    subprocess.run(upgraded, env=site.environ, check=True)
    site.kill()
    assert site.run("start").returncode == 0
    site.release("two")
    assert site.run("back").returncode == 0
    assert (site.current(), site.ask()) == ("blue", "one and a half")


@pytest.mark.parametrize("where", ["before the link", pytest.param("after the link", marks=pytest.mark.long)])
def test_a_release_that_was_killed_is_run_again(site: Site, where: str) -> None:
    site.release("one")
    if where == "before the link":
        killed = site.run("release", site.bundle("two"), RELOAD="kill -KILL $PPID")
    else:
        programs = site.folder / "programs"
        programs.mkdir()
        (programs / "sleep").write_text("#!/bin/sh\nkill -KILL $PPID\n")
        (programs / "sleep").chmod(0o755)
        killed = site.run("release", site.bundle("two"), PATH=f"{programs}:{site.environ['PATH']}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = "blue" if where == "before the link" else "green"
    assert site.current() == before
    assert (site.ask(), len(site.processes())) == ("two", 2)
    assert "no canary runs" in site.run("finish").stderr
    done = site.run("release", "two.tar.gz")
    assert done.returncode == 0, done.stderr
    assert "still runs, after an interrupted release" in done.stderr
    assert (site.current() != before, site.ask(), len(site.processes())) == (True, "two", 1)


@pytest.mark.long
def test_what_a_shell_started_has_the_time_of_the_spec_to_end(site: Site) -> None:
    server = SERVER.replace(
        "http.server.Threading",
        """
import signal, sys, time, pathlib

def end(number, frame):
    time.sleep(1.5)
    pathlib.Path("ended").write_text("")
    os._exit(0)

signal.signal(signal.SIGTERM, end)
http.server.Threading""",
    )
    site.command = 'cd . && python "$CONDA_PREFIX/lib/server.py"'
    assert site.run("release", site.bundle("one", server)).returncode == 0
    site.release("two")
    assert (site.base / "ended").exists()


def test_a_relative_path_means_the_same_with_cdpath(site: Site) -> None:
    (site.folder / "other/a site").mkdir(parents=True)
    done = site.run("release", site.bundle("one").name, base="a site", CDPATH=str(site.folder / "other"))
    assert done.returncode == 0, done.stderr
    assert site.ask() == "one"


@pytest.mark.long
def test_a_host_without_envpack_uses_the_runtime_of_a_bundle(site: Site) -> None:
    bundle = site.bundle("one")
    subprocess.run(["tar", "-xzf", bundle, "-C", site.folder, ".envpack/runtime.pyz"], check=True)
    python = site.folder / "a python"
    python.symlink_to(sys.executable)
    runtime = f"'{python}' .envpack/runtime.pyz"
    assert site.run("release", bundle.name, ENVPACK=runtime).returncode == 0
    assert site.run("release", site.bundle("two").name, ENVPACK=runtime).returncode == 0
    assert site.run("release", site.bundle("x", "raise SystemExit(1)").name, ENVPACK=runtime).returncode == 1
    assert site.run("back", ENVPACK=runtime).returncode == 0
    assert (site.current(), site.ask()) == ("blue", "one")


def test_a_damaged_bundle_changes_nothing(site: Site) -> None:
    site.release("one")
    damaged = site.folder / "damaged.tar.gz"
    damaged.write_bytes(site.bundle("two").read_bytes()[:-2000])
    done = site.run("release", damaged)
    assert (done.returncode, site.current(), site.ask()) == (1, "blue", "one")
    assert "damaged.tar.gz is truncated" in done.stderr


def test_a_proxy_that_refuses_its_file_keeps_the_old_release(site: Site) -> None:
    site.release("one")
    before = site.servers()
    refuses = f"! grep -q :{site.environ['PORTS'].split()[1]} upstream.conf"
    done = site.run("release", site.bundle("two"), RELOAD=refuses)
    assert done.returncode == 1
    assert done.stderr.endswith("error: the proxy could not be switched to green; blue still answers\n")
    assert (site.current(), site.servers(), site.ask()) == ("blue", before, "one")
    assert site.run("status").stdout.splitlines()[1] == "green: stopped"


@pytest.mark.long
def test_a_proxy_that_does_not_answer_keeps_the_old_release(site: Site) -> None:
    site.release("one")
    before = site.servers()
    hangs = f"! grep -q :{site.environ['PORTS'].split()[1]} upstream.conf || timeout 1 sleep 1000"
    done = site.run("release", site.bundle("two"), RELOAD=hangs)
    assert (done.returncode, site.current(), site.servers(), site.ask()) == (1, "blue", before, "one")


def test_a_canary_gets_a_part_of_the_requests(site: Site) -> None:
    site.release("one")
    assert site.run("canary", site.bundle("two")).returncode == 0
    (blue, nine), (green, one) = site.servers()
    assert (nine, one, site.ask(blue), site.ask(green), site.current()) == (9, 1, "one", "two", "blue")
    refused = site.run("release", "two.tar.gz")
    assert refused.returncode == 1 and "finish or cancel it first" in refused.stderr
    assert site.run("cancel").returncode == 0
    assert (site.servers(), site.ask()) == ([(blue, None)], "one")
    assert "no canary runs" in site.run("finish").stderr
    assert site.run("canary", "two.tar.gz").returncode == 0
    assert site.run("finish").returncode == 0
    assert (site.servers(), site.current(), site.ask()) == ([(green, None)], "green", "two")


@pytest.mark.long
def test_sides_that_were_killed_are_started_again(site: Site) -> None:
    site.release("one")
    site.kill()
    done = site.run("start")
    assert (done.returncode, site.ask()) == (0, "one"), done.stderr
    assert site.run("canary", site.bundle("two")).returncode == 0
    site.kill()
    done = site.run("start")
    assert done.returncode == 0, done.stderr
    assert [site.ask(port) for port, _ in site.servers()] == ["one", "two"]


def test_wrong_arguments_show_the_usage(site: Site) -> None:
    for words in ((), ("release",), ("turn",), ("status", "more")):
        done = site.run(*words)
        assert done.returncode == 2 and done.stderr.startswith("Two deployments")
    assert "there is no release yet" in site.run("back").stderr
    assert not site.base.exists()


@pytest.mark.parametrize(
    "ports", ["8001", "8001 8001", "8001  8002", "http 8002", "8001 70000", "8001 8002 8003", "0 8002"]
)
def test_wrong_ports_are_refused_before_anything_is_made(site: Site, ports: str) -> None:
    done = site.run("release", "missing.tar.gz", PORTS=ports)
    assert done.returncode == 1 and done.stderr.startswith("blue-green: error: PORTS")
    assert not site.base.exists()


def test_a_directory_that_all_users_may_write_is_refused(site: Site) -> None:
    """Another user could plant a link at the names that the script writes, or a program at that of a side."""
    site.base.mkdir()
    site.base.chmod(0o777)
    victim = site.folder / "victim"
    victim.write_text("kept")
    (site.base / "upstream.conf.new").symlink_to(victim)
    done = site.run("release", site.bundle("one"))
    assert (done.returncode, victim.read_text()) == (1, "kept")
    assert "can be written by all users" in done.stderr
    assert [path.name for path in site.base.iterdir()] == ["upstream.conf.new"]
