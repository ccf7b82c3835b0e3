"""Object stores for the commands that read bundles; the runtime in a bundle has no keys, and reads URLs only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from envpack.runtime.transport.base import ByteSource
from envpack.runtime.transport.open import SCHEMES, STORAGE


@contextmanager
def object_stores(environ: Mapping[str, str]) -> Iterator[None]:
    """Let `envpack.runtime.transport.open.open_source` open ``s3://``, ``gs://`` and ``az://`` inside of ``with``.

    Args:
        environ: Environment variables, with the credentials.
    """
    SCHEMES.update(dict.fromkeys(STORAGE, partial(_open, environ)))
    try:
        yield
    finally:
        for scheme in STORAGE:
            del SCHEMES[scheme]


def _open(environ: Mapping[str, str], where: str) -> ByteSource:
    from envpack.publish.object_store.signed import open_stored

    return open_stored(where, environ)
