"""Byte-compiler of the files named on stdin, run in the environment's own Python (3.4 or later), never imported.

Every file is compiled in a process forked from this one before it has compiled anything. What marshal writes
depends on which strings the process has seen before (reference counts decide about its FLAG_REF), so this makes
the bytes depend on the file alone. Only built-in modules are used, for the same reason.

argv: the prefix, and the time to record as that of the source, in seconds since 1970. stdin: paths relative to the
prefix, one a line. stdout: for each file 'ok', 'bad' (not valid for this Python) or 'failed', and the path.
"""

import _imp
import marshal
import posix
import sys

PREFIX = sys.argv[1].encode(sys.getfilesystemencoding(), "surrogateescape")
MTIME = int(sys.argv[2]).to_bytes(4, "little")
FLAGS = b"\0\0\0\0" if sys.version_info >= (3, 7) else b""  # PEP 552: checked by the source's time and size
if sys.version_info >= (3, 14):
    MAGIC = _imp.pyc_magic_number_token.to_bytes(4, "little")
else:
    import _frozen_importlib_external

    MAGIC = _frozen_importlib_external.MAGIC_NUMBER
TAG = sys.implementation.cache_tag
CREATE = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL


def read(path: bytes) -> bytes:
    fd = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK)
    try:
        data = b""
        while True:
            chunk = posix.read(fd, 1 << 24)
            if not chunk:
                return data
            data += chunk
    finally:
        posix.close(fd)


def write(path: bytes, data: bytes) -> None:
    fd = posix.open(path, CREATE, 0o644)
    try:
        while data:
            data = data[posix.write(fd, data) :]
    finally:
        posix.close(fd)


def make_folder(path: bytes) -> None:
    try:
        posix.mkdir(path, 0o755)
    except FileExistsError:
        return


def compile_one(name: bytes) -> int:
    """Compile one file and return the exit status of the child: 0 done, 1 not valid Python, 3 not written."""
    source = read(PREFIX + b"/" + name)
    try:
        code = compile(source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return 1
    data = MAGIC + FLAGS + MTIME + (len(source) & 0xFFFFFFFF).to_bytes(4, "little") + marshal.dumps(code)
    folder, _, stem = name.rpartition(b"/")
    cache = PREFIX + b"/" + folder + b"/__pycache__"
    try:
        make_folder(cache)
        target = cache + b"/" + stem[:-3] + b"." + TAG.encode() + b".pyc"
        part = target + b".part"
        write(part, data)
        posix.rename(part, target)
    except OSError:
        return 3
    return 0


WORDS = {0: b"ok ", 1: b"bad "}
read_all = b""
while True:
    names = posix.read(0, 1 << 16)
    if not names:
        break
    read_all += names
for name in read_all.split(b"\n"):
    if not name:
        continue
    child = posix.fork()
    if child == 0:
        status = 3
        try:
            status = compile_one(name)
        finally:
            posix._exit(status)
    status = posix.waitpid(child, 0)[1]
    posix.write(1, WORDS.get(status >> 8 if not status & 0x7F else 1, b"failed ") + name + b"\n")
