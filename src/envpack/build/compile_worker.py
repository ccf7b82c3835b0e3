"""Byte-compiler of the files named on stdin, run in the environment's own Python (3.4 or later), never imported.

What marshal writes depends on which strings the process has seen before. Reference counts decide about FLAG_REF
(w_ref in Python/marshal.c): here each string has a second reference while its code is written. Strings of up to
one character, of which there is one object each, may or may not be interned: here they are. A constant set of two
functions is one object or two, depending on whether its strings were interned before (intern_constants in
Objects/codeobject.c): here they always were. So the bytes depend on the file alone.

A file that crashes Python does not stop the others: another process takes over behind it. Only built-in modules
are used.

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
INTERNED = [sys.intern(""), *(sys.intern(chr(number)) for number in range(256))]
CODE = type(compile("", "", "exec"))
PARTS = (
    *("co_names", "co_varnames", "co_freevars", "co_cellvars", "co_consts"),
    *("co_filename", "co_name", "co_qualname"),
)
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


def strings(code: object) -> "tuple[list[str], list[str]]":
    """Return every string in a code object, and those in its constant sets."""
    found, in_sets = [], []
    todo = [(code, False)]
    while todo:
        value, in_set = todo.pop()
        if type(value) is str:
            found.append(value)
            if in_set:
                in_sets.append(value)
            continue
        parts = []  # type: list[object]
        if type(value) in (tuple, frozenset):
            parts = list(value)  # type: ignore[call-overload]
            in_set |= type(value) is frozenset
        elif type(value) is slice:
            parts = [value.start, value.stop, value.step]
        elif type(value) is CODE:
            parts = [getattr(value, name, None) for name in PARTS]
        todo += [(part, in_set) for part in parts]
    return found, in_sets


def compile_one(name: bytes) -> bytes:
    """Compile one file and return the result: ok, bad (not valid Python) or failed (not written)."""
    try:
        source = read(PREFIX + b"/" + name)
    except OSError:
        return b"failed"
    try:
        code = compile(source, name, "exec", dont_inherit=True)
        shared, in_sets = strings(code)
        if in_sets:
            shared += [sys.intern(value) for value in in_sets]
            code = compile(source, name, "exec", dont_inherit=True)
            shared += strings(code)[0]
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return b"bad"
    data = MAGIC + FLAGS + MTIME + (len(source) & 0xFFFFFFFF).to_bytes(4, "little") + marshal.dumps(code)
    del shared
    folder, _, stem = name.rpartition(b"/")
    cache = PREFIX + b"/" + folder + b"/__pycache__"
    try:
        make_folder(cache)
        target = cache + b"/" + stem[:-3] + b"." + TAG.encode() + b".pyc"
        part = target + b".part"
        write(part, data)
        posix.rename(part, target)
    except OSError:
        return b"failed"
    return b"ok"


def compile_all(names: "list[bytes]", results: int) -> None:
    """Compile files, and write the first letter of each result."""
    for name in names:
        posix.write(results, compile_one(name)[:1])


def start(names: "list[bytes]") -> int:
    """Start a process that compiles files, and return where its results are read."""
    results, writable = posix.pipe()
    if posix.fork() == 0:
        posix.close(results)
        try:
            compile_all(names, writable)
        finally:
            posix._exit(0)
    posix.close(writable)
    return results


RESULTS = {b"o": b"ok ", b"b": b"bad ", b"f": b"failed "}
read_all = b""
while True:
    part = posix.read(0, 1 << 16)
    if not part:
        break
    read_all += part
names = [name for name in read_all.split(b"\n") if name]
while names:
    results = start(names)
    done = 0
    while True:
        letter = posix.read(results, 1)
        if not letter:
            break
        posix.write(1, RESULTS[letter] + names[done] + b"\n")
        done += 1
    posix.close(results)
    posix.wait()
    if done < len(names):
        posix.write(1, b"bad " + names[done] + b"\n")
    names = names[done + 1 :]
