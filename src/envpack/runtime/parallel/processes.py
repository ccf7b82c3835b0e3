"""Work shared out to forked processes: what does something in Python for each of many files keeps one processor
busy, however many threads it has.

Each process begins with all that was read already, takes the next piece of work that nobody has, and ends with the
process that forked it: telling of progress, it finds nobody who listens. An inherited lock is held until then.
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
"""Tells how much more is done."""

_MEMORY = 512 << 20
"""Bytes that a process may use, or a cgroup, for each process that begins: of a quarter of that they make use."""

_PATIENCE = 20
"""Milliseconds."""

_UNIT = struct.Struct("=I")
MOST = 1000
"""Units of work for one crew: their numbers have room in a pipe of any size (PIPE_BUF of <linux/limits.h>)."""


def can_fork() -> bool:
    """Whether this process may fork and go on in Python: on Linux, with one thread only, as a lock that another
    one holds would be held for ever in the child (https://docs.python.org/3/library/os.html#os.fork)."""
    if not sys.platform.startswith("linux") or threading.active_count() > 1:
        return False
    with suppress(OSError):
        for _ in range(_PATIENCE):
            if len(os.listdir("/proc/self/task")) == 1:
                return True
            time.sleep(0.001)  # one that was joined may still be about to end
    return False


class Crew(Generic[R]):
    """``count`` processes, as far as there is memory for them, numbered from 0 on, that do ``work(process, unit,
    advance)`` for each unit from 0 to ``units`` - 1, at most `MOST`.

    A context manager: the processes begin on entry, and none is left on exit. Only where `can_fork`; entering
    raises OSError where the system lets no process begin.
    """

    def __init__(self, count: int, units: int, work: Callable[[int, int, Advance], R]) -> None:
        assert 0 < units <= MOST
        known = memory(Path("/"))[0]
        room = max(1, known // _MEMORY) if known else count
        self._count, self._units, self._work = min(count, units, room), units, work
        self._members: dict[Connection, int] = {}

    def __enter__(self) -> Crew[R]:
        todo, full = os.pipe()
        os.write(full, b"".join(map(_UNIT.pack, range(self._units))))
        os.close(full)
        gc.freeze()  # a collection would write to every page that is shared with the children
        try:
            for _ in range(self._count):
                self._begin(todo)
        except OSError:  # no room for more of them
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
        """What was returned for each unit, as they get done; raises what one of them raised, and
        EnvpackError when a process was killed."""
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
        # a signal that comes before the child has its own handlers, or is known here, waits until then
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
        """The child's whole life; nothing of the parent's is undone in it."""
        try:
            from multiprocessing.connection import Connection

            for sibling in self._members:
                sibling.close()
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, to all: the parent ends the others
            for number in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            give_way()
            listener = Connection(writing, readable=False)
            told, process = _Advance(listener), len(self._members)
            try:
                while True:
                    unit = os.read(todo, _UNIT.size)
                    if not unit:
                        break
                    (number,) = _UNIT.unpack(unit)
                    done = self._work(process, number, told)
                    told.flush()
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
                f"a process of envpack was ended by signal {os.WTERMSIG(status)}",
                hint="The system may be short of memory: 'dmesg' tells. --jobs 1 takes less.",
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
    """Its status, as wait(2) gives it; 0 where whoever started this process has children's ends ignored."""
    with suppress(ChildProcessError):
        return os.waitpid(child, 0)[1]
    return 0


class _Advance:
    """Tells the parent now and then, not each time."""

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
"""Bytes done that the parent is told of at once."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _portable(error: BaseException) -> BaseException:
    """The error as it can be sent, where it was made for people; of any other, what its traceback says."""
    if isinstance(error, (EnvpackError, OSError)):
        with suppress(Exception):
            pickle.loads(pickle.dumps(error))
            return error
    return RuntimeError("".join(traceback.format_exception(type(error), error, error.__traceback__)))
