"""Publishing of finished files in a folder: whole or not at all, with their checksums."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from envpack.runtime.errors import DestinationError
from envpack.runtime.fs.paths import sibling_path
from envpack.runtime.fs.sync import sync_folder
from envpack.runtime.report import Step

_CHUNK = 1 << 20


def sha256_of(path: Path, step: Step | None = None) -> str:
    """Return the sha256 of a file, in hex; ``step`` is advanced by the bytes read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if step is not None:
                step.advance(len(chunk))
    return digest.hexdigest()


def checksum_line(sha256: str, name: str) -> str:
    """Return a line as ``sha256sum`` writes and ``sha256sum -c`` reads it (coreutils, text mode: two blanks)."""
    return f"{sha256}  {name}\n"


def checksum_path(bundle: Path) -> Path:
    """Return the path of a bundle's checksum: the bundle's path with ``.sha256`` appended."""
    return bundle.with_name(bundle.name + ".sha256")


def write_whole(path: Path, text: str) -> None:
    """Write a small file by atomic replace: it has all of ``text``, or is as it was before."""
    part = sibling_path(path, f"{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def publish(finished: Path, bundle: Path, sha256: str) -> None:
    """Move a finished bundle to its path, replacing an existing one, and write its ``.sha256`` beside it.

    At no moment is there a checksum beside a bundle that it does not belong to.

    Args:
        finished: The finished bundle, on the same filesystem.
        bundle: The path to move it to.
        sha256: Its digest, in hex.
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
    """Move a finished bundle to the first free name of ``stems``, and return its path.

    Its checksum and manifest are written beside it, and with ``sign`` its signature.

    No existing file is changed. The checksum is written first and reserves the name, also against another release
    at the same moment. The bundle comes last: where it exists, its other files exist too, also after a power cut.

    Args:
        finished: The finished bundle, on the same filesystem.
        folder: The folder to publish in.
        stems: File names without suffix, in order of preference.
        suffix: The suffix of the bundle.
        sha256: The digest of the bundle, in hex.
        manifest: The bytes of its manifest.
        sign: Returns the content of the signature for a bundle of this path; None for no signature.

    Raises:
        DestinationError: A file can't be written, or no name is free; then none of the files is there.
        EnvpackError: ``sign`` failed; then none of the files is there.
    """
    from envpack.signing.bundle import signature_path  # imported here: cryptography is slow to load

    _sync(finished)
    for stem in stems:
        bundle = folder / (stem + suffix)
        beside = {
            checksum_path(bundle): checksum_line(sha256, bundle.name).encode(),
            manifest_path(folder, stem): manifest,
        }
        signature = signature_path(bundle)
        # a signature left there by another bundle would make this one look forged
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
            if not bundle.exists():  # it exists when the interrupt came after the rename
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
    """Write a file to the disk, so that a name never refers to content that a power cut destroyed."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def manifest_path(folder: Path, stem: str) -> Path:
    """Return the path of the manifest of a bundle with this stem."""
    return folder / f"{stem}.manifest.json"
