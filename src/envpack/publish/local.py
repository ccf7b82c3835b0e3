"""Putting finished files where they are published: whole or not at all, with their checksums."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.paths import beside
from envpack.runtime.fs.sync import sync_folder
from envpack.runtime.report import Step

_CHUNK = 1 << 20


def sha256_of(path: Path, step: Step | None = None) -> str:
    """The sha256 of a file, in hex; ``step`` is advanced by the bytes read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if step is not None:
                step.advance(len(chunk))
    return digest.hexdigest()


def checksum_line(sha256: str, name: str) -> str:
    """A line as ``sha256sum`` writes it and ``sha256sum -c`` reads it (coreutils: two blanks, text mode)."""
    return f"{sha256}  {name}\n"


def checksum_path(bundle: Path) -> Path:
    return bundle.with_name(bundle.name + ".sha256")


def write_whole(path: Path, text: str) -> None:
    """Writes a small file so that it is there with all of ``text``, or as it was before."""
    part = beside(path, f"{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def publish(finished: Path, bundle: Path, sha256: str) -> None:
    """Moves a finished bundle to its place, replacing what is there, and writes its ``.sha256`` beside it.

    At no moment does a checksum stand beside a bundle that it is not of.
    """
    checksum = checksum_path(bundle)
    _sync(finished)
    checksum.unlink(missing_ok=True)
    finished.replace(bundle)
    write_whole(checksum, checksum_line(sha256, bundle.name))
    sync_folder(bundle.parent)


def publish_new(
    finished: Path,
    folder: Path,
    stems: Iterable[str],
    suffix: str,
    *,
    sha256: str,
    manifest: bytes,
    sign: Callable[[Path], bytes] | None = None,
) -> Path:
    """Moves a finished bundle to the first name of ``stems`` that is free, its checksum and manifest beside it.

    ``sign`` gives the content of the signature beside a bundle of this path; without it there is none. Nothing
    that is there is touched. The checksum is written first and claims the name, also against another release at
    the same moment; the bundle comes last, so where it is, the rest is too, also after a power cut. Returns its
    path. Raises DestinationError when something can't be written, and what ``sign`` raises; then nothing is there.
    """
    from envpack.signing.bundle import signature_path  # only here, for cryptography takes its time to load

    _sync(finished)
    for stem in stems:
        bundle = folder / (stem + suffix)
        beside = {
            checksum_path(bundle): checksum_line(sha256, bundle.name).encode(),
            manifest_path(folder, stem): manifest,
        }
        signature = signature_path(bundle)
        # a signature that some other bundle has left there would make this one a forgery
        if any(map(os.path.lexists, (bundle, signature, *beside))):
            continue
        if sign is not None:
            beside[signature] = sign(bundle)
        made: list[Path] = []
        try:
            for path, content in beside.items():
                with path.open("xb") as file:
                    made.append(path)
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            sync_folder(folder)
            finished.rename(bundle)
        except BaseException as problem:
            if not bundle.exists():  # it is when this was interrupted right after
                for path in made:
                    path.unlink(missing_ok=True)
            if isinstance(problem, FileExistsError):
                continue
            if isinstance(problem, OSError):
                raise DestinationError(
                    f"can't write to {folder}: {problem.strerror}",
                    hint="Free some space there, or name another place with --output.",
                ) from None
            raise
        sync_folder(folder)
        return bundle
    raise DestinationError(f"no name is free in {folder}")


def _sync(path: Path) -> None:
    """Writes a file to the disk, so that a name never stands for content that a power cut has taken."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def manifest_path(folder: Path, stem: str) -> Path:
    return folder / f"{stem}.manifest.json"
