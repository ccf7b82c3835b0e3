"""Work on several processes: everything is done once, errors arrive, and no process is left."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAD = """
import os, signal, sys, threading, time
from envpack.runtime.parallel.processes import ProcessPool, can_fork
from envpack.runtime.errors import EnvpackError, IntegrityError
def children():
    return open(f"/proc/self/task/{os.getpid()}/children").read().split()
"""


def run(script: str) -> str:
    """Return the output of a script: the process of pytest has threads, and would not fork."""
    done = subprocess.run([sys.executable, "-c", HEAD + script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked only on Linux")


def test_each_unit_is_done_once_and_reported() -> None:
    said = run("""
def work(process, unit, advance):
    for _ in range(unit):
        advance(1 << 20)
    return unit, process, os.getpid()
counted = []
with ProcessPool(3, 40, work) as pool:
    done = list(pool.results(counted.append))
print(sorted(unit for unit, _, _ in done) == list(range(40)), sum(counted) == sum(range(40)) << 20)
pids, processes = ({each[index] for each in done} for index in (2, 1))
print(len(pids - {os.getpid()}) == len(processes) <= 3, children())
""")
    assert said.split("\n") == ["True True", "True []"]


def test_progress_is_reported_while_a_unit_is_processed() -> None:
    said = run("""
release, held = os.pipe()
def work(process, unit, advance):
    advance(5 << 20)
    os.read(release, 1)
with ProcessPool(1, 1, work) as pool:
    def counted(amount):
        print(amount >> 20)
        os.write(held, b"x")
    list(pool.results(counted))
""")
    assert said == "5"


def test_an_error_arrives_as_it_was_raised_and_ends_the_others() -> None:
    said = run("""
def work(process, unit, advance):
    if unit == 1:
        raise IntegrityError("damaged", hint="fetch it again", details=["one", "two"])
    time.sleep(60)
started = time.monotonic()
try:
    with ProcessPool(2, 2, work) as pool:
        list(pool.results(lambda amount: None))
except IntegrityError as error:
    print(error.message, error.hint, error.details, time.monotonic() - started < 30, children())
""")
    assert said == "damaged fetch it again ['one', 'two'] True []"


def test_an_error_of_the_system_keeps_its_number_and_file() -> None:
    said = run("""
def work(process, unit, advance):
    open("/nowhere/at/all")
try:
    with ProcessPool(2, 2, work) as pool:
        list(pool.results(lambda amount: None))
except OSError as error:
    print(error.errno, error.filename)
""")
    assert said == "2 /nowhere/at/all"


def test_a_bug_arrives_with_its_traceback() -> None:
    said = run("""
def work(process, unit, advance):
    return 1 // unit
try:
    with ProcessPool(1, 2, work) as pool:
        list(pool.results(lambda amount: None))
except RuntimeError as error:
    print("ZeroDivisionError" in str(error) and "return 1 // unit" in str(error) or str(error))
""")
    assert "ZeroDivisionError" in said or said == "True"


def test_a_process_that_is_killed_is_reported() -> None:
    said = run("""
def work(process, unit, advance):
    os.kill(os.getpid(), signal.SIGKILL)
try:
    with ProcessPool(2, 5, work) as pool:
        list(pool.results(lambda amount: None))
except EnvpackError as error:
    print(error.message, "memory" in error.hint, children())
""")
    assert said == "an envpack worker process was ended by signal 9 True []"


def test_nothing_is_forked_where_there_are_threads() -> None:
    assert run("""
print(can_fork())
stop = threading.Event()
thread = threading.Thread(target=stop.wait)
thread.start()
print(can_fork())
stop.set()
thread.join()
print(can_fork())
""").split() == ["True", "False", "True"]


def test_ends_of_children_may_be_ignored() -> None:
    """Some daemons ignore SIGCHLD, so that waiting for a child fails."""
    said = run("""
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with ProcessPool(2, 9, lambda process, unit, advance: unit) as pool:
    print(sorted(pool.results(lambda amount: None)))
""")
    assert said == "[0, 1, 2, 3, 4, 5, 6, 7, 8]"


def test_there_are_no_more_than_there_is_memory_for() -> None:
    said = run("""
import envpack.runtime.parallel.processes as module
for megabytes in (0, 100, 1000, 3000):
    module.memory = lambda root: (megabytes << 20, True)
    with ProcessPool(5, 9, lambda process, unit, advance: unit) as pool:
        print(len(children()))
        list(pool.results(lambda amount: None))
""")
    assert said.split() == ["5", "1", "1", "5"]


def test_fewer_processes_do_where_no_more_can_begin() -> None:
    said = run("""
fork, calls = os.fork, []
def failing():
    calls.append(1)
    if len(calls) > 1:
        raise BlockingIOError(11, "no more processes")
    return fork()
os.fork = failing
with ProcessPool(4, 9, lambda process, unit, advance: unit) as pool:
    print(sorted(pool.results(lambda amount: None)), children())
try:
    ProcessPool(4, 9, lambda process, unit, advance: unit).__enter__()
except OSError as error:
    print(error.strerror, children())
""")
    assert said.split("\n") == ["[0, 1, 2, 3, 4, 5, 6, 7, 8] []", "no more processes []"]


def test_the_processes_end_with_the_one_that_forked_them(tmp_path: Path) -> None:
    """Killed, it can't end them: they find out when they next tell of progress, and hold its lock until then."""
    parent = subprocess.Popen(
        [sys.executable, "-c", HEAD + """
import fcntl
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
fcntl.flock(lock, fcntl.LOCK_EX)
def work(process, unit, advance):
    while True:
        time.sleep(0.05)
        advance(4 << 20)
with ProcessPool(2, 2, work) as pool:
    print(*children(), flush=True)
    list(pool.results(lambda amount: None))
""", str(tmp_path / "lock")],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    with parent.stdout:
        members = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(members) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    subprocess.run(["flock", str(tmp_path / "lock"), "true"], check=True, timeout=30)
    deadline = time.monotonic() + 30
    while any(_runs(pid) for pid in members):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_an_interrupt_from_the_terminal_is_the_parents_to_handle() -> None:
    said = run("""
def work(process, unit, advance):
    time.sleep(0.5)
    return unit
os.setpgid(0, 0)
caught = []
signal.signal(signal.SIGINT, lambda *_: caught.append(1))
with ProcessPool(2, 2, work) as pool:
    os.killpg(0, signal.SIGINT)
    print(sorted(pool.results(lambda amount: None)), caught)
""")
    assert said == "[0, 1] [1]"


def test_a_termination_ends_a_process() -> None:
    said = run("""
signal.signal(signal.SIGTERM, lambda *_: None)
def work(process, unit, advance):
    advance(4 << 20)
    time.sleep(60)
try:
    with ProcessPool(1, 1, work) as pool:
        list(pool.results(lambda amount: os.kill(int(children()[0]), signal.SIGTERM)))
except EnvpackError as error:
    print(error.message)
""")
    assert said == "an envpack worker process was ended by signal 15"
