"""The package ``relocation-samples``: files on which writing a prefix goes wrong in every known way.

Compiled from ``scripts/relocation_samples`` with the placeholder in it. No wheel holds such files; what each of
them is for is said in the sources.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from channel_maker.compiler import cache_variables, find_compiler
from channel_maker.errors import ChannelError
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
from channel_maker.tools import run

SOURCES = Path(__file__).resolve().parent.parent / "relocation_samples"
NAME = "relocation-samples"
VERSION = "1.0"
REVISION = 1
LIBRARY = "librelocation_sample.so.1"

# Neither the folder nor the moment of compiling may show in the result.
_FLAGS = ("-Os", "-g0", "-Wall", "-Wl,--build-id=none", "-Wl,-O1", "-s")


@dataclass(frozen=True)
class SamplesPlan:
    """The package to be made for ``subdir``."""

    identity: PackageIdentity
    metadata: PackageMetadata
    compiler: tuple[str, ...]

    def write(self, out: Path, *, epoch: int, scratch: Path) -> None:
        """Write the package.

        Args:
            out: The path of the package.
            epoch: The time of its files, in seconds since 1970.
            scratch: A new folder to compile in.
        """
        scratch.mkdir()
        placeholder = placeholder_for(NAME, epoch)
        files = [*_compiled(self.compiler, placeholder, scratch), *_texts(placeholder)]
        write_conda(out, self.identity, self.metadata, files, placeholder=placeholder, epoch=epoch)


def plan_samples(subdir: str) -> SamplesPlan:
    """Return the plan of the package of samples; raise :class:`ChannelError` when there is no C compiler."""
    compiler = find_compiler()
    if compiler is None:
        raise ChannelError(
            "The relocation samples need a C compiler, but $CC, gcc, cc and the package ziglang were not found.",
            hint="Install one (pip install ziglang), or omit --with-relocation-samples.",
        )
    digest = hashlib.sha256(str(REVISION).encode())
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.read_bytes())
    metadata = PackageMetadata(
        depends=("python",), license="BSD-3-Clause", summary="Files that are hard to relocate, for tests"
    )
    identity = PackageIdentity(NAME, VERSION, f"h{digest.hexdigest()[:7]}_0", subdir)
    return SamplesPlan(identity, metadata, compiler)


def _compiled(compiler: tuple[str, ...], placeholder: str, scratch: Path) -> list[PackageFile]:
    define = f'-DPREFIX="{placeholder}"'
    _compile(compiler, scratch, "-shared", "-fPIC", f"-Wl,-soname,{LIBRARY}", define, "library.c", "-o", LIBRARY)
    _compile(
        compiler, scratch, define, "program.c", LIBRARY, f"-Wl,-rpath,{placeholder}/lib", "-o", "relocation-sample"
    )
    return [
        PackageFile("bin/relocation-sample", OnDisk(scratch / "relocation-sample"), True, "binary"),
        PackageFile(f"lib/{LIBRARY}", OnDisk(scratch / LIBRARY), True, "binary"),
        PackageFile("lib/librelocation_sample.so", Link(LIBRARY)),
    ]


def _compile(compiler: tuple[str, ...], scratch: Path, *arguments: str) -> None:
    sources = [str(SOURCES / name) if name.endswith(".c") else name for name in arguments]
    command = [*compiler, *_FLAGS, f"-ffile-prefix-map={SOURCES}=.", *sources]
    result = run(command, cwd=scratch, environment=cache_variables(scratch))
    if result.status != 0:
        raise ChannelError(
            f"{' '.join(compiler)} could not compile the relocation samples.",
            details=result.stderr.strip().splitlines()[-10:],
        )


def _texts(placeholder: str) -> list[PackageFile]:
    """Return the files made of each ``*.in`` file; its name is the path, with ``%`` for ``/``."""
    files = []
    for source in sorted(SOURCES.glob("*.in")):
        path = source.name.removesuffix(".in").replace("%", "/")
        template = source.read_bytes()
        data = template.replace(b"@PREFIX@", placeholder.encode())
        mode: FileMode | None = "text" if data != template else None
        files.append(PackageFile(path, Inline(data), path.startswith("bin/"), mode))
    return files
