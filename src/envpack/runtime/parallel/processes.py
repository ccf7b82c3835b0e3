"""Fork-based worker pool with a shared work queue over a pipe.

Processes are used because Python code that runs for each of many files uses one processor only, however many
threads it has. Each worker starts with all that the parent has read already and takes the next unit from the
queue. It ends with the parent: reporting progress then fails, because the parent's end of the pipe is closed.
Until the worker ends, it holds the locks that it inherited.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import struct
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Generic, Iterator, NoReturn, TypeVar

from envpack.runtime.errors import EnvpackError
from envpack.runtime.parallel.resources import memory
from envpack.runtime.parallel.threads import give_way

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

R = TypeVar("R")

Advance = Callable[[int], None]
"""Callback for progress: takes the number of bytes done since the last call."""

_MEMORY = 512 << 20
"""Bytes of memory that must be available to this process, or its cgroup, for each worker; a worker uses about a
quarter of that."""

_PATIENCE = 20
"""Milliseconds to wait for a joined thread to end."""

_UNIT = struct.Struct("=I")
MAX_UNITS = 1000
"""Largest number of units for one pool: their numbers fit in a pipe of any size (PIPE_BUF of <linux/limits.h>)."""


def can_fork() -> bool:
    """Return whether this process may fork and run Python in the child.

    It may on Linux, with one thread only: a lock that another thread holds would never be released in the child
    (https://docs.python.org/3/library/os.html#os.fork).
    """
    if not sys.platform.startswith("linux") or threading.active_count() > 1:
        return False
    with suppress(OSError):
        for _ in range(_PATIENCE):
            if len(os.listdir("/proc/self/task")) == 1:
                return True
            time.sleep(0.001)  # a thread that was joined may not have ended yet
    return False


class ProcessPool(Generic[R]):
    """A pool of forked worker processes that calls ``work(process, unit, advance)`` for each unit of work.

    It is a context manager: the processes start on entry, and on exit those that still run are killed. Use it only
    where `can_fork` returns true.

    Args:
        count: the largest number of processes; fewer are started where there are fewer units, or where memory is
            short. They are numbered from 0.
        units: the number of units, from 1 to `MAX_UNITS`; a unit is given as its number, from 0.
        work: called in a worker with the number of the process, the number of the unit, and a callback for
            progress; its result is pickled and sent to the parent.

    Raises:
        OSError: on entry, when not one process can be started.
    """

    def __init__(self, count: int, units: int, work: Callable[[int, int, Advance], R]) -> None:
        assert 0 < units <= MAX_UNITS
        known = memory(Path("/"))[0]
        room = max(1, known // _MEMORY) if known else count
        self._count, self._units, self._work = min(count, units, room), units, work
        self._members: dict[Connection, int] = {}

    def __enter__(self) -> ProcessPool[R]:
        todo, full = os.pipe()
        os.write(full, b"".join(map(_UNIT.pack, range(self._units))))
        os.close(full)
        gc.freeze()  # a garbage collection would write to every page that is shared with the children
        try:
            for _ in range(self._count):
                self._begin(todo)
        except OSError:  # the system allows no more processes; those that have started do the work
            if not self._members:
                self._end()
                raise
        except BaseException:
            self._end()
            raise
        finally:
            os.close(todo)
        return self

    def results(self, advance: Advance) -> Iterator[R]:
        """Yield the result of each unit, in the order in which they are finished.

        Args:
            advance: called here with the progress that the workers report, in bytes.

        Raises:
            EnvpackError: a process was killed.
            Exception: the error that a unit raised; RuntimeError with its traceback where it is neither an
                EnvpackError nor an OSError, or can't be pickled.
        """
        from multiprocessing.connection import wait

        while self._members:
            for member in [member for member in wait(self._members) if member in self._members]:
                try:
                    kind, value = member.recv()
                except EOFError:
                    self._reap(member)
                    continue
                if kind == "advance":
                    advance(value)
                elif kind == "done":
                    yield value
                else:
                    raise value

    def _begin(self, todo: int) -> None:
        from multiprocessing.connection import Connection

        reading, writing = os.pipe()
        member = Connection(reading, writable=False)
        # a signal is blocked until the child has its own handlers and the parent has recorded the child
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            child = os.fork()
            if not child:
                member.close()
                self._run(todo, writing, masked)
            self._members[member] = child
        except OSError:
            member.close()
            raise
        finally:
            os.close(writing)
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)

    def _run(self, todo: int, writing: int, masked: Any) -> NoReturn:
        """Run the worker and exit; no cleanup code of the parent runs in it."""
        try:
            from multiprocessing.connection import Connection

            for sibling in self._members:
                sibling.close()
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all: the parent ends the workers
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            give_way()
            listener = Connection(writing, readable=False)
            advance, process = _Advance(listener), len(self._members)
            try:
                while True:
                    unit = os.read(todo, _UNIT.size)
                    if not unit:
                        break
                    (number,) = _UNIT.unpack(unit)
                    done = self._work(process, number, advance)
                    advance.flush()
                    listener.send(("done", done))
            except BrokenPipeError:
                pass
            except BaseException as error:
                listener.send(("failed", _portable(error)))
        finally:
            os._exit(0)

    def _reap(self, member: Connection) -> None:
        member.close()
        status = _ended(self._members.pop(member))
        if os.WIFSIGNALED(status):
            raise EnvpackError(
                f"an envpack worker process was ended by signal {os.WTERMSIG(status)}",
                hint="The system may be out of memory (see 'dmesg'). Use --jobs 1 to need less.",
            )

    def _end(self) -> None:
        for child in self._members.values():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        while self._members:
            member, child = self._members.popitem()
            member.close()
            _ended(child)
        gc.unfreeze()

    def __exit__(self, *error: object) -> None:
        self._end()


def _ended(child: int) -> int:
    """Return the child's status as wait(2) gives it; 0 where this process inherited SIGCHLD as ignored."""
    with suppress(ChildProcessError):
        return os.waitpid(child, 0)[1]
    return 0


class _Advance:
    """A progress callback that collects amounts and reports to the parent after each `_TELLS` bytes."""

    def __init__(self, listener: Connection) -> None:
        self._listener, self._amount = listener, 0

    def __call__(self, amount: int) -> None:
        self._amount += amount
        if self._amount >= _TELLS:
            self.flush()

    def flush(self) -> None:
        if self._amount:
            self._listener.send(("advance", self._amount))
            self._amount = 0


_TELLS = 2 << 20
"""Bytes of progress that are reported to the parent in one message."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _portable(error: BaseException) -> BaseException:
    """Return the error if it is meant for users and can be pickled, else a RuntimeError with its traceback."""
    if isinstance(error, (EnvpackError, OSError, MemoryError)):
        with suppress(Exception):
            pickle.loads(pickle.dumps(error))
            return error
    return RuntimeError("".join(traceback.format_exception(type(error), error, error.__traceback__)))
