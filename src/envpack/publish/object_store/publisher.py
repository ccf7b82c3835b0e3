"""Publishing in an object store: conditional writes reserve names, and bundles appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from envpack.publish.base import Release, Upload
from envpack.publish.object_store.address import Address
from envpack.publish.object_store.connect import PART_SECONDS, connect
from envpack.publish.object_store.failures import ERRORS, failure, is_missing
from envpack.runtime.errors import DestinationError

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode, PutResult

_MAX_SMALL = 64 << 20
"""Bytes of the largest document that is read, as in a folder."""
_PART = 8 << 20
_MAX_PARTS = 10_000
"""Parts of an upload on S3 (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)."""
_CONNECTIONS = 4
"""Parts that are sent at once, and held in memory."""
_WRITER = "envpackwriter"
"""The name of the metadata by which a writer knows its own files. Azure allows only letters, digits and "_"."""


class ObjectStore:
    """A prefix in a bucket that releases are published in, as `envpack.publish.base.Publisher` says."""

    replaces = True

    def __init__(self, address: Address, environ: Mapping[str, str], *, insecure: bool = False) -> None:
        """Take the address, the environment variables with the credentials, and whether http is allowed anywhere.

        Raises:
            UsageError: The settings are not valid.
        """
        self._address = address
        self._store = connect(address, environ, insecure=insecure)
        self._slow_store = connect(address, environ, insecure=insecure, seconds=PART_SECONDS)
        self._read: dict[str, ObjectMeta | None] = {}

    def address(self, name: str) -> str:
        return self._address.of(name)

    def files(self) -> Mapping[str, int]:
        with self._failures("list"):
            found = obstore.list_with_delimiter(self._store)["objects"]
        return {file["path"]: file["size"] for file in found if file["path"] and "/" not in file["path"]}

    def read(self, name: str) -> bytes:
        self._read[name] = None
        with self._failures("read", name):
            found = obstore.get(self._store, name)
            if found.meta["size"] > _MAX_SMALL:
                raise DestinationError(f"can't read {self.address(name)}: it is too large")
            self._read[name] = found.meta
            return bytes(found.bytes())

    @contextmanager
    def reserve(self, claim: Upload, names: Sequence[str], *, resume: bool = False) -> Iterator[Release]:
        """Reserve the names by creating ``claim`` where there is none, also against a release at the same moment.

        A resumed release is taken over: a process that still works on it takes nothing back then.
        """
        release = _StoreRelease(self, resume=resume)
        try:
            for name in () if resume else (claim.name, *names):
                if self._is_there(name):
                    raise self.taken(name)
            release.put(claim)
            yield release
        except BaseException:
            release.take_back()
            raise

    def replace(self, file: Upload) -> None:
        """Write a small file. One that was read before is replaced only as it was read.

        Raises:
            FileExistsError: Another process wrote it meanwhile: read it again.
            DestinationError: It can't be written.
        """
        mode: PutMode = "overwrite"
        if file.name in self._read:
            known = self._read.pop(file.name)
            mode = "create"
            if known is not None:
                mode = {"e_tag": known["e_tag"]}
                if known["version"] is not None:
                    mode["version"] = known["version"]
        try:
            with self._failures("write to"):
                obstore.put(self._store, file.name, b"".join(file.chunks()), mode=mode)
        except FileExistsError:
            raise self.taken(file.name) from None

    def put(self, file: Upload, writer: str, *, create: bool) -> None:
        """Write a small file, and with ``create`` only where there is none.

        Raises:
            FileExistsError: There is one, and another writer wrote it.
            DestinationError: It can't be written.
        """
        try:
            with self._failures("write to"):
                data = b"".join(file.chunks())
                mode: PutMode = "create" if create else "overwrite"
                obstore.put(self._store, file.name, data, mode=mode, attributes={_WRITER: writer})
        except FileExistsError:
            # a request whose response was lost is sent again, and finds its own file
            if not self.is_by(writer, file.name):
                raise self.taken(file.name) from None

    def put_large(self, file: Upload, writer: str) -> None:
        """Write a file in parts. It appears when all have arrived; after an error, or Ctrl-C, they are deleted.

        Raises:
            DestinationError: It can't be written.
            OSError, IntegrityError: The file can't be read, or was changed meanwhile.
        """
        stopped = threading.Event()
        size = max(_PART, -(-file.size // _MAX_PARTS))

        def chunks() -> Iterator[bytes]:
            for chunk in file.chunks():
                if stopped.is_set():
                    raise InterruptedError
                yield chunk

        def put() -> PutResult:
            return obstore.put(
                self._slow_store,
                file.name,
                chunks(),
                attributes={_WRITER: writer},
                use_multipart=True,
                chunk_size=size,
                max_concurrency=_CONNECTIONS,
            )

        # Python handles a signal between its own instructions only: this thread must not be the one that sends
        with ThreadPoolExecutor(1, "upload") as pool, self._failures("write to"):
            sending = pool.submit(put)
            try:
                sending.result()
            except BaseException:
                stopped.set()
                raise

    def is_by(self, writer: str, name: str) -> bool:
        """Return whether a file is there and has this writer; false where that can't be known."""
        with suppress(*ERRORS):
            return obstore.get(self._store, name).attributes.get(_WRITER) == writer
        return False

    def delete(self, name: str) -> None:
        """Delete a file, if that is possible."""
        with suppress(*ERRORS):
            obstore.delete(self._store, name)

    def taken(self, name: str) -> FileExistsError:
        return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.address(name))

    def _is_there(self, name: str) -> bool:
        try:
            with self._failures("read", name):
                obstore.head(self._store, name)
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def _failures(self, verb: str, name: str = "") -> Iterator[None]:
        """Raise what obstore raises as FileNotFoundError, FileExistsError or DestinationError.

        Errors of the system, which have a number, stay what they are.
        """
        try:
            yield
        except (AlreadyExistsError, PreconditionError):
            raise FileExistsError from None
        except ERRORS as problem:
            if isinstance(problem, OSError) and problem.errno is not None:
                raise
            if name and is_missing(problem):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.address(name)) from None
            raise failure(problem, self._address, verb, DestinationError) from None


class _StoreRelease:
    def __init__(self, place: ObjectStore, *, resume: bool) -> None:
        self._place, self._resume = place, resume
        self._writer = secrets.token_hex(16)
        self._tried: list[str] = []
        self._bundle = ""

    def put(self, file: Upload) -> None:
        self._tried.append(file.name)
        self._place.put(file, self._writer, create=not self._resume)

    def commit(self, bundle: Upload) -> None:
        """Upload the bundle in parts. Where the last response was lost, it is there all the same."""
        self._bundle = bundle.name
        try:
            self._place.put_large(bundle, self._writer)
        except DestinationError:
            if not self._place.is_by(self._writer, bundle.name):
                raise

    def take_back(self) -> None:
        """Delete the files of this writer, the claim last; none where the bundle is there, or may be."""
        try:
            if self._bundle and self._bundle in self._place.files():
                return
        except DestinationError:
            return
        for name in reversed(self._tried):
            if self._place.is_by(self._writer, name):
                self._place.delete(name)
