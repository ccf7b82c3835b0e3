"""The files of an installed CPython with the placeholder in them: run paths, shebangs, recorded folders.

Two modules are changed besides: ``sysconfig`` of a distribution's Python, and ``ssl`` where OpenSSL is one of a
distribution, as ``python_package`` says.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from channel_maker.errors import ChannelError
from channel_maker.interpreter import Interpreter
from channel_maker.linked import read_binary
from channel_maker.package import FileMode, Inline, OnDisk, PackageFile
from channel_maker.tools import run

# Shared with the whole system: what lies there is not the interpreter's own.
SYSTEM_PREFIXES = frozenset({Path("/"), Path("/usr"), Path("/usr/local")})

_SCHEME_FUNCTION = b"\ndef get_preferred_scheme("
_SCHEMES = b"""
def _get_preferred_schemes():
    # this Python lives in a prefix of its own, not in the distribution's
    return {"prefix": "posix_prefix", "home": "posix_home", "user": "posix_user"}

"""

# The list is that of Go, crypto/x509/root_linux.go: Debian, Fedora, openSUSE, RHEL, Alpine.
_CERTIFICATES = b"""

def _use_certificates_of_the_host():
    # OpenSSL looks where the distribution it was built for has them
    if "SSL_CERT_FILE" in os.environ or "SSL_CERT_DIR" in os.environ:
        return
    paths = get_default_verify_paths()
    if paths.cafile or (paths.capath and any(name.endswith(".0") for name in os.listdir(paths.capath))):
        return
    for path in (
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/ssl/cert.pem",
    ):
        if os.access(path, os.R_OK):
            os.environ["SSL_CERT_FILE"] = path
            return


try:
    _use_certificates_of_the_host()
except OSError:
    pass
"""


class Preparation:
    """Rewrites the files of ``interpreter``; with ``foreign_openssl``, its OpenSSL is that of a distribution."""

    def __init__(
        self,
        interpreter: Interpreter,
        placeholder: str,
        patchelf: Path,
        strip: Path | None,
        scratch: Path,
        *,
        foreign_openssl: bool,
    ) -> None:
        self._placeholder = placeholder
        self._patchelf = patchelf
        self._strip = strip
        self._scratch = scratch
        self._rewrite = prefix_rewriter(interpreter.base_prefix, interpreter.minor, placeholder)
        prefixes = {interpreter.base_prefix, interpreter.base_prefix.resolve()}
        self._private = [os.fsencode(path) for path in prefixes if path not in SYSTEM_PREFIXES]
        self._override_schemes = interpreter.looks_elsewhere
        self._ssl_module = f"lib/python{interpreter.minor}/ssl.py" if foreign_openssl else ""

    def file(self, file: PackageFile) -> PackageFile:
        if not isinstance(file.source, OnDisk):
            return file
        if read_binary(file.source.path):
            return self._binary(file, file.source.path)
        data = file.source.path.read_bytes()
        changed = data if b"\0" in data else self._rewrite(file.path, data)
        if self._override_schemes:
            changed = changed.replace(_SCHEME_FUNCTION, _SCHEMES + _SCHEME_FUNCTION)
        if file.path == self._ssl_module:
            changed += _CERTIFICATES
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
    """Return a function of a package path and a text, which replaces the prefix in the text.

    A prefix that the whole system shares (/usr) is in many texts that do not mean Python. There only Python's
    folders and the prefix by itself are replaced, and only in files that record how Python was built.

    Args:
        prefix: The prefix of the Python.
        minor: Its version, such as ``3.11``.
        placeholder: The placeholder that replaces the prefix.
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
