"""Formats that envpack does not write itself, written through conda-pack's own library.

conda-pack gets the files of the environment as envpack stores them, each with the prefix to be replaced in it, so
that it neither reads the package cache nor searches for prefixes. It writes the container and ``conda-unpack``.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, NamedTuple

from envpack.bundle.model import Item, SegmentIndex, segment_index
from envpack.bundle.pack import RUNTIME, PackSettings, pack_contents, read_for_packing
from envpack.bundle.writer import complete
from envpack.interop.archive.members import read_members
from envpack.interop.output_formats import PARCEL, check_output
from envpack.prefix.relocate.normalize import FileNormalizer
from envpack.prefix.relocate.placeholder import SCRIPT
from envpack.prefix.scan.windowed_file import in_memory
from envpack.runtime.deployment.parents import warn_of_parents
from envpack.runtime.errors import IntegrityError, PackError
from envpack.runtime.format.layout import OWN_FOLDER
from envpack.runtime.format.manifest import Manifest
from envpack.runtime.fs.io import read_file
from envpack.runtime.fs.paths import folders_for, umask
from envpack.runtime.fs.sync import sync_filesystem
from envpack.runtime.fs.temporary import work_folder
from envpack.runtime.parallel.threads import processors
from envpack.runtime.relocation.files import deployed_bytes
from envpack.runtime.relocation.relocation import Relocation
from envpack.runtime.relocation.shebang import Shebang, command, env_line, relative_lines
from envpack.runtime.report import Reporter
from envpack.runtime.tree.prefix import check_prefix

_FIRST_ZIP_TIME = 315619200
"""Seconds since 1970 of 1980-01-02 UTC: in every time zone a day that a zip can state (APPNOTE 4.4.6)."""


def write_archive(
    prefix: Path, output: Path, *, settings: PackSettings, reporter: Reporter, dest_prefix: str = ""
) -> Manifest:
    """Pack the environment at ``prefix`` as conda-pack does, in the format that the output's suffix names.

    The user unpacks the result with the program of its format, and then runs ``conda-unpack`` in it. The output
    appears whole or not at all; an existing one is replaced, unless it is a folder.

    Args:
        prefix: The environment.
        output: The file to write, or the folder for ``.no-archive``.
        settings: How to pack; name and version are used only for the manifest returned.
        reporter: Receives the progress.
        dest_prefix: The path at which the environment will be used, written into its files; "": conda-unpack
            writes it.

    Raises:
        UsageError: The level, the name or ``dest_prefix`` is impossible.
        PackError: The environment can't be packed.
        RelocationError: ``dest_prefix`` can't be written into the files.
        DestinationError: The output can't be written.
    """
    kind = check_output(output, settings.level, dest_prefix)
    warn_of_parents(output.absolute(), reporter)
    contents = read_for_packing(prefix, output, settings, reporter)
    with folders_for(output), work_folder(output) as work:
        writer = _CondaPackWriter(contents.prefix, work, output, kind, settings, os.fsencode(dest_prefix))
        manifest = pack_contents(
            contents, FileNormalizer(contents.prefix, contents), writer, settings=settings, reporter=reporter
        )
        if dest_prefix:
            check_prefix(manifest, dest_prefix)
        sync_filesystem(work)
        os.replace(writer.packed, output)
    if writer.stale:
        reporter.note(
            f"{writer.stale:,} byte-code files keep the environment's path: conda-unpack can't replace it"
        )
    return manifest


class _InputFile(NamedTuple):
    """A file for conda-pack: the path of its bytes, and its path in the archive.

    ``placeholder`` is what conda-unpack is to replace in it, and ``mode`` is "text" or "binary"; both are None for
    a file without a prefix.
    """

    source: str
    path: str
    mode: str | None = None
    placeholder: str | None = None


class _CondaPackWriter:
    """A writer that collects the files for conda-pack, and runs it in `finish`.

    conda-pack rewrites the first lines of texts with paths that start with "bin", and omits from its record those
    that start with "bin/python" (``Packer.add`` and ``finish``). "./bin/x" is the same path, and avoids both:
    scripts then run the environment's own interpreter, with its options.
    """

    def __init__(
        self, prefix: Path, work: Path, output: Path, kind: str, settings: PackSettings, dest: bytes
    ) -> None:
        self.packed = work / output.name
        self.stored = 0
        self.stale = 0
        self._prefix, self._kind, self._settings, self._dest = prefix, kind, settings, dest
        self._files = work / "files"
        self._files.mkdir()
        self._inputs: list[_InputFile] = []
        self._copied: dict[str, _InputFile] = {}
        self._segments: list[SegmentIndex] = []

    def add_segment(self, id: str, items: Iterable[Item]) -> None:
        """Collect the files of a segment; the runtime and what is below ``.envpack/`` are left out."""
        records = []
        for item in items:
            if id != RUNTIME and not item.record.path.startswith(f"{OWN_FOLDER}/"):
                self._add(item)
                records.append(item.record)
        self._segments.append(segment_index(id, records))

    def _add(self, item: Item) -> None:
        record = item.record
        path, relocation = record.path, record.relocation
        file = _InputFile(str(self._prefix / path), path)
        if record.type == "symlink":
            file = _InputFile(self._link(record.target), path)
        elif record.type == "directory":
            self._new_name().mkdir()
            file = _InputFile(str(self._new_name()), path)
        elif record.type == "hardlink" and record.target in self._copied:
            file = self._copied[record.target]
            file = file._replace(path=self._escaped(path) if file.mode == "text" else path)
        elif path.endswith(".pyc") and relocation is not None and self._dest:
            return  # it has the earlier path; Python compiles the source again
        elif record.type == "file" and path.endswith(".pyc") and (self._prefix / path).is_file():
            self.stale += relocation is not None and bool(relocation.marshal)
            if not self._usable_as_is(self._prefix / path):
                file = _InputFile(self._copy(replace(item, pieces=[read_file(self._prefix / path)])), path)
        elif relocation is not None and self._dest:
            file = self._copied[path] = _InputFile(self._copy(self._relocated(item, relocation)), path)
        elif relocation is not None and relocation.shebang is not None and self._kind != "parcel":
            file = self._copied[path] = self._script(item, relocation, relocation.shebang)
        elif relocation is not None and (not relocation.binary or relocation.max_prefix_length is not None):
            mode = "binary" if relocation.binary else "text"
            escaped = self._escaped(path) if mode == "text" else path
            file = self._copied[path] = _InputFile(
                self._copy(item), escaped, mode, os.fsdecode(relocation.placeholder)
            )
        elif relocation is not None or (
            record.type == "file" and not (item.source and self._usable_as_is(Path(item.source)))
        ):  # where none has to fit: conda-unpack refuses any file without room
            file = self._copied[path] = _InputFile(self._copy(item), path)
        elif record.type == "file":
            file = _InputFile(str(item.source), path)  # elsewhere where a link that leads out is followed
        self._inputs.append(file)

    def _relocated(self, item: Item, relocation: Relocation) -> Item:
        """Return the file with the final path; unchanged where that is too long, which is an error at the end."""
        longest, record, pieces = relocation.max_prefix_length, item.record, in_memory(item.pieces)
        if longest is not None and longest < len(self._dest):
            return item
        return replace(item, pieces=list(deployed_bytes(pieces, relocation, record.size, self._dest, record.path)))

    def _script(self, item: Item, relocation: Relocation, shebang: Shebang) -> _InputFile:
        """Return a script that runs the environment's own interpreter also before, or without, conda-unpack.

        Where no lines can do that, the script is not run before conda-unpack: as an argument of env, a placeholder
        may be longer than the kernel reads. As the interpreter it may not; see `SCRIPT`.
        """
        path = item.record.path
        lines = relative_lines(shebang, os.fsencode(path).rpartition(b"/")[0])
        if lines is None and self._kind == "squashfs":
            lines = env_line(shebang)
        elif lines is None and b"env" not in shebang.lead and len(relocation.placeholder) > len(SCRIPT):
            split = b"-S " if command(shebang).words else b""
            lines = b"#!/usr/bin/env " + split + relocation.placeholder + shebang.rest
        if lines is not None:
            data = b"".join(in_memory(item.pieces))
            length = len(shebang.lead + relocation.placeholder + shebang.rest)
            item = replace(item, pieces=[lines + data[length:]])
        # also without a placeholder behind the first line: by conda-unpack's record the published one is restored
        return _InputFile(self._copy(item), self._escaped(path), "text", os.fsdecode(relocation.placeholder))

    def _escaped(self, path: str) -> str:
        return f"./{path}" if path.startswith("bin") and self._kind != "parcel" else path

    def _usable_as_is(self, source: Path) -> bool:
        """Return whether conda-pack can take a file as it is: all may read it, and a zip can state its time."""
        facts = source.stat()
        readable = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
        time_fits = self._kind != "zip" or facts.st_mtime >= _FIRST_ZIP_TIME
        return time_fits and facts.st_mode & readable == readable and self._kind != "no-archive"

    def _new_name(self) -> Path:
        return self._files / str(len(self._inputs))

    def _link(self, target: str) -> str:
        copy = self._new_name()
        copy.symlink_to(target)
        return str(copy)

    def _copy(self, item: Item) -> str:
        copy = self._new_name()
        with copy.open("wb") as file:
            for piece in in_memory(item.pieces):
                file.write(piece)
        copy.chmod(item.record.mode)
        try:
            mtime = (self._prefix / item.record.path).stat().st_mtime
        except OSError:
            mtime = item.record.mtime
        mtime = max(mtime, _FIRST_ZIP_TIME)
        os.utime(copy, (mtime, mtime))
        return str(copy)

    def finish(self, draft: Manifest) -> Manifest:
        """Run conda-pack, check its output, and return the completed manifest.

        Raises:
            PackError: conda-pack failed, or its output can't be read.
            OSError: The output can't be written; `work_folder` converts it to a DestinationError.
        """
        from conda_pack import (  # type: ignore[import-untyped]
            CondaEnv,
            CondaPackException,
            File,
        )

        files = [
            File(file.source, file.path, file_mode=file.mode, prefix_placeholder=file.placeholder)
            for file in self._inputs
        ]
        jobs = self._settings.jobs or processors()
        level = 4 if self._settings.level is None else self._settings.level
        options: dict[str, Any] = {"compress_level": level, "n_threads": jobs}
        if self._dest:
            options["dest_prefix"] = os.fsdecode(self._dest)
        parcel = PARCEL.fullmatch(self.packed.name)
        if self._kind == "parcel" and parcel is not None:
            options.update({f"parcel_{key}": value for key, value in parcel.groupdict().items()})
        try:
            with _temporary_files_in(self.packed.parent), _own_scripts(self._files), _stdout_to_stderr():
                CondaEnv(str(self._prefix), files).pack(str(self.packed), zip_symlinks=True, **options)
        except CalledProcessError as problem:
            raise PackError(f"{problem.cmd[0]} failed with status {problem.returncode}") from None
        except (CondaPackException, zipfile.LargeZipFile, ValueError, SystemError) as problem:
            raise PackError(f"conda-pack can't pack it: {problem}") from None
        if self._kind == "no-archive":
            self._clean_folder()
        else:
            self.packed.chmod(0o666 & ~umask())
        self._verify(len(files))
        return complete(draft, self._segments)[0]

    def _clean_folder(self) -> None:
        """Remove conda-pack's unused temporary file from the folder it made, and let all users read the folder.

        conda-pack moves that file into the folder, which only its user can open, as the module of conda-unpack.
        """
        names = {file.path.removeprefix("./").split("/")[0] for file in self._inputs} | {"bin"}
        for entry in list(self.packed.iterdir()):
            if entry.name not in names:
                entry.unlink()
        for module in self.packed.glob("bin/conda_unpack_*.py"):
            module.chmod(0o666 & ~umask())
        self.packed.chmod(0o777 & ~umask())

    def _verify(self, expected: int) -> None:
        """Read back the output, where envpack can: conda-pack has written archives that no program reads."""
        if self._kind in ("no-archive", "squashfs"):
            return
        self.stored = self.packed.stat().st_size
        count = 0
        try:
            for _, data in read_members(self.packed, lambda amount: None):
                count += 1
                for _ in data:
                    pass
        except IntegrityError as problem:
            raise PackError(f"the archive that conda-pack wrote can't be read: {problem.message}") from None
        if count < expected:
            raise PackError(f"conda-pack wrote only {count} of {expected} files")


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Let conda-pack make its archive in ``folder``: the system's folder for temporary files may be small."""
    previous, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = previous


@contextmanager
def _own_scripts(folder: Path) -> Iterator[None]:
    """Let conda-pack take copies of its own scripts, in ``folder``, which belong to this user.

    For ``.no-archive`` it makes hard links, which the kernel forbids to files of another user
    (fs.protected_hardlinks, <https://docs.kernel.org/admin-guide/sysctl/fs.html>): of root, who installed it.
    """
    from conda_pack import core

    previous = core._scripts
    copies = []
    for source, target in previous:
        copy = folder / os.path.basename(source)
        copy.write_bytes(read_file(source))
        copies.append((str(copy), target))
    core._scripts = copies
    try:
        yield
    finally:
        core._scripts = previous


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Redirect stdout to stderr: what conda-pack and mksquashfs print is no result."""
    sys.stdout.flush()
    saved_stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved_stdout, 1)
        os.close(saved_stdout)
